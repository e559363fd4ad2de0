"""The XRootD client: settings for reading over the network, what the client's errors mean, and requests for pieces of files.

Pieces that are close together are read as one, and many in one request.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import random
import re
import time
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, NamedTuple, Optional, TypeVar, Union

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.settings import setting

T = TypeVar("T")

VARIABLE = "NANOML_READING"  # the environment variable with the settings as JSON: workers and jobs inherit it
_LONGEST_PAUSE = 30.0  # s
_PARTIAL = 3  # status of an answer that lacks what some of the servers have
_FROM_SERVER = 400
# codes of the client, and of servers (kXR_...) where the client's is _FROM_SERVER
_EXPIRED = ((103, 0), (206, 0), (_FROM_SERVER, 3034), (_FROM_SERVER, 3035))
_REFUSED = ((203, 0), (204, 0), (_FROM_SERVER, 3010), (_FROM_SERVER, 3030))
_NO_TLS = (110, 0)
_NO_ADDRESS = 101
_MISSING = ((304, 0), (_FROM_SERVER, 3011))
_FINAL = {
    *((code, 0) for code in (9, 13)),
    *((_FROM_SERVER, code) for code in (3000, 3001, 3002, 3006, 3009, 3013, 3015, 3016, 3018, 3021, 3025)),
}
_NO_SERVER = re.compile("no servers? (?:is|are) available", re.I)  # a redirector that may find one later
_NOT_EMPTY = re.compile("directory not empty", re.I)  # which XRootD 5.5 reports as a failure that may pass
_LABELS = re.compile(r"\[(?:ERROR|FATAL|\d{4})\]\s*|Server responded with an error:\s*")
# how many files may be lost
LOSS = {
    "pattern": r"[0-9]+|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*%",
    "form": 'a number of files, or a percentage such as "1 %"',
}
_SERVER = {"pattern": r"x?roots?://[^/\s]+/*", "form": "a server such as root://cms-xrd-global.cern.ch/"}


@dataclass(frozen=True)
class Read:
    """Reading files over the network."""

    redirectors: list[str] = setting(
        ["root://cms-xrd-global.cern.ch/", "root://xrootd-cms.infn.it/", "root://cmsxrootd.fnal.gov/"],
        "Servers that know where the files of CMS are. A file with a logical name, /store/..., that cannot be "
        "read from its own server is requested from each of them, in this order.",
        items=_SERVER,
        minItems=1,
        uniqueItems=True,
    )
    tries: int = setting(3, "How often each server is tried at most.", minimum=1)
    timeout: int = setting(60, "How long to wait for a server [s].", minimum=1, maximum=3600)
    copy: bool = setting(False, "True to copy each file to a temporary directory first, and read it there.")
    max_missing_files: Union[str, int] = setting(
        0,
        "How many files of a dataset may be left out because they cannot be read: a number, or a percentage.",
        **LOSS,
        minimum=0,
        examples=[3, "1 %"],
    )
    report_to: Optional[str] = setting(
        None,
        "The server that gets a report of each file of CMS that is read, for Rucio; by default none.",
        pattern=r"https?://\S+",
        form="an address such as http://SERVER/traces/",
    )
    report_sites: dict[str, str] = setting(
        dict,
        "The site whose storage has the files that begin like this. Of others nothing is reported.",
        items={"pattern": r"T[0-3]_[A-Z]{2}_[A-Za-z0-9_]+", "form": "a site such as T2_CH_CERN"},
        examples=[{"root://eoscms.cern.ch/": "T2_CH_CERN", "/eos/cms/": "T2_CH_CERN"}],
    )


_applied: Optional[Read] = None


def use_settings(settings: Read) -> None:
    """Read with these settings from now on, here and in all processes that are started."""
    os.environ[VARIABLE] = json.dumps(asdict(settings))


def adopt_settings(settings: Read) -> None:
    """Read with the settings of an analysis, if it has any; otherwise those of the environment count."""
    if settings != Read():
        use_settings(settings)


def current_settings() -> Read:
    """The settings to read with; the defaults if none were given.

    Raises NanoMLError if the environment variable cannot be understood.
    """
    return _parsed(os.environ.get(VARIABLE, "{}"))


@functools.lru_cache(maxsize=1)
def _parsed(text: str) -> Read:
    try:
        return Read(**json.loads(text))
    except (ValueError, TypeError) as problem:
        raise NanoMLError(f"{VARIABLE}={text}: cannot be understood ({problem}). Unset it.") from None


class Cause(Enum):
    """Why a request failed, as the remedy that may help."""

    TRANSIENT = "to try again"
    EXPIRED = "another server, or to try again later"
    MISSING = "another server, which may have it"
    REFUSED = "another proxy or token"
    UNTRUSTED = "to try again, or other authorities"
    FINAL = "nothing"


class ServerError(Exception):
    """A request failed: what the server says, or why it cannot be reached."""

    def __init__(self, text: str, cause: Cause) -> None:
        super().__init__(text)
        self.cause = cause

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.cause in (Cause.TRANSIENT, Cause.EXPIRED, Cause.UNTRUSTED)

    def advice(self) -> str:
        """Advice what to do, as a sentence with a blank before it; empty if there is nothing special to do."""
        if self.cause is Cause.UNTRUSTED:
            return " The server's certificate could not be checked: X509_CERT_DIR must name the directory of the authorities."
        if self.cause is not Cause.REFUSED:
            return ""
        from MLTools.NanoML.grid.token import access

        usable, problems = access()
        valid = [f"The {it} is valid; is the path right, and may you use it?" for it in usable]
        return " " + " ".join([*problems, *valid])


def client() -> Any:
    """The module of the XRootD client, with the current settings. Raises NanoMLError if it is not installed."""
    global _applied
    try:
        module: Any = importlib.import_module("XRootD.client")
    except ModuleNotFoundError:
        raise NanoMLError(
            "root:// files need the Python client of XRootD. Install it: pip install xrootd fsspec-xrootd."
        ) from None
    settings = current_settings()
    if _applied is None:
        # at exit the client inspects all objects in memory, and some of other packages warn about that
        warnings.filterwarnings("ignore", module=r"XRootD\.client\.finalize")
    if settings is not _applied:
        # this does not override the user's own XRD_... variables
        for name in ("RequestTimeout", "StreamTimeout", "ConnectionWindow"):
            module.EnvPutInt(name, settings.timeout)
        # at a fork, as Python 3.9 starts programs, the client stops its threads, and waits for ever for one that handles the
        # late answer to an open that was given up; what is started here executes another program at once
        module.EnvPutInt("RunForkHandler", 0)
        # tries are repeated here, not by the client, and failures before must not count
        for name, value in (("ConnectionRetry", 1), ("StreamErrorWindow", 0), ("TimeoutResolution", 1)):
            module.EnvPutInt(name, value)
        from MLTools.NanoML.grid import proxy, token

        path = proxy.use_proxy()
        if token.find_token() is not None and (path is None or not path.is_file()):
            # for lack of this file the client would do without TLS, and so without the token
            os.environ.pop(proxy.VARIABLE, None)
        _applied = settings
    return module


def send(method: Callable[..., Any], *arguments: object, timeout: int) -> Future[Any]:
    """Call a method of the client without waiting for the answer, which takes at most `timeout` seconds.

    Its `result()` waits, until Ctrl-C at the latest, and raises ServerError if the call failed.
    """
    sent: Future[Any] = Future()

    def answered(status: Any, response: Any, _: object = None) -> None:
        problem = _problem(status)
        if problem is None:
            sent.set_result(response)
        else:
            sent.set_exception(problem)

    try:
        status = method(*arguments, timeout=timeout, callback=answered)
    except ValueError:  # the client has closed the file
        sent.set_exception(ServerError("the connection was lost", Cause.TRANSIENT))
    else:
        if not status.ok:
            answered(status, None)
    return sent


def answer(method: Callable[..., Any], *arguments: object, timeout: int) -> Any:
    """Call a method of the client, and wait up to `timeout` seconds for the answer; raises ServerError if the call failed."""
    return send(method, *arguments, timeout=timeout).result()


def _problem(status: Any) -> Optional[ServerError]:
    if status.ok and status.code != _PARTIAL:
        return None
    if status.ok:
        return ServerError("some servers did not answer", Cause.TRANSIENT)
    if status.code == _NO_ADDRESS:
        return ServerError("its address is not found: there is no network, or its name is wrong", Cause.TRANSIENT)
    text = _LABELS.sub("", status.message).strip().rstrip(".").rpartition("; ")[2]
    return ServerError(text or f"error {status.code}", _cause(status, text))


def leave(file: Any) -> None:
    """Close a file without waiting for the server."""
    if file.is_open():
        send(file.close, timeout=1)


def _cause(status: Any, text: str) -> Cause:
    code = (status.code, status.errno if status.code == _FROM_SERVER else 0)
    if code in _EXPIRED:
        return Cause.EXPIRED
    if code in _REFUSED:
        return Cause.REFUSED
    if code == _NO_TLS:
        return Cause.UNTRUSTED
    if code in _MISSING:
        return Cause.TRANSIENT if _NO_SERVER.search(text) else Cause.MISSING
    return Cause.FINAL if code in _FINAL or _NOT_EMPTY.search(text) else Cause.TRANSIENT


def pause(times: int) -> None:
    """Wait before another try, longer after each of `times` failures, so that a server can recover."""
    if not times:
        return
    # 1 s, 2 s, 4 s, ... with the default timeout; at random, as many jobs must not return at the same moment
    shortest = current_settings().timeout / 60
    time.sleep(min(shortest * 2 ** (times - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.5))


def persist(attempt: Callable[[], T], what: str) -> T:
    """Repeat a request until it succeeds, as often as the settings allow.

    Raises NanoMLError if it failed, or cannot succeed: `what`, as in "root://.../x: cannot be removed", with the reason.
    """
    tries = current_settings().tries
    for times in range(1, tries + 1):
        try:
            return attempt()
        except ServerError as problem:
            if times == tries or not problem.may_pass:
                after = f" after {times} tries" if times > 1 else ""
                raise NanoMLError(f"{what}{after} ({problem}).{problem.advice()}") from problem
        pause(times)
    raise AssertionError("the last try returns or raises")


Piece = tuple[int, int]
"""Where something begins in a file, and its number of bytes."""

_GAP = 1 << 9  # unused bytes between two pieces that are still read as one
_LARGEST, _MOST = 2_097_136, 1024  # limits of servers: bytes of a part of a vector read, and number of parts
_REQUEST = 1 << 22  # bytes of one request
_WINDOW = 1 << 24  # bytes that are on their way at once: they fill 1 Gb/s up to a round trip of 130 ms
_WAITING = 1 << 26  # bytes that are on their way, or have come and are not used yet


class Request:
    """Parts of a file that a server is asked for at once."""

    def __init__(self, parts: Sequence[Piece], timeout: int) -> None:
        self.parts = parts
        self.size = sum(length for _, length in parts)
        self.content: Optional[list[bytes]] = None  # of each part, once it was received
        self.takers = 0  # pieces of it that were announced, and not taken yet
        self._timeout = timeout
        self._file: Any = None  # what was asked
        self._answer: Optional[Future[Any]] = None

    @property
    def is_sent(self) -> bool:
        """Whether some server was asked."""
        return self._file is not None

    @property
    def has_come(self) -> bool:
        """Whether the server has answered, be it with an error."""
        return self._answer is not None and self._answer.done()

    def send(self, file: Any, has_come: Callable[[object], None] = lambda file: None) -> None:
        """Ask the client's `file` without waiting, unless it was asked before, or another server has given the content.

        `has_come` is called with `file` when it has given the content, perhaps by another thread.
        """
        is_there = self._answer is not None and self._answer.done() and self._answer.exception() is None
        if self.content is not None or self._file is file or is_there:
            return
        self._file = file
        if len(self.parts) == 1:
            answer = send(file.read, *self.parts[0], timeout=self._timeout)
        else:
            answer = send(file.vector_read, list(self.parts), timeout=self._timeout)
        self._answer = answer
        answer.add_done_callback(lambda answer: None if answer.exception() else has_come(file))

    def receive(self, file: Any) -> None:
        """Wait for the content from `file`, which is asked if need be. Raises ServerError if that failed."""
        self.send(file)
        assert self._answer is not None
        try:
            response = self._answer.result()
        finally:
            self._answer = None
        found = [response] if len(self.parts) == 1 else [chunk.buffer for chunk in response]
        if [len(part) for part in found] != [length for _, length in self.parts]:
            raise ServerError("fewer bytes arrived than were requested", Cause.TRANSIENT)
        self.content = found


class Slice(NamedTuple):
    """Bytes of one part of a request."""

    request: Request
    part: int
    begin: int
    end: int

    @property
    def content(self) -> bytes:
        """The bytes, which must have been received."""
        assert self.request.content is not None
        return self.request.content[self.part][self.begin : self.end]


def requests_for(pieces: Iterable[Piece], timeout: int) -> dict[Piece, list[Slice]]:
    """Where each piece will be, in requests that are not sent yet; they are as few as possible, and in the order of the file."""
    pieces = sorted(set(pieces))
    parts: list[tuple[int, Request, int]] = []
    for grouped in _grouped(_split(_areas(pieces))):
        request = Request(grouped, timeout)
        parts += [(start, request, number) for number, (start, _) in enumerate(grouped)]
    starts = [start for start, *_ in parts]
    found: dict[Piece, list[Slice]] = {}
    for start, length in pieces:
        at, missing = bisect_right(starts, start) - 1, length
        slices = found[start, length] = []
        while missing:
            first, request, number = parts[at]
            begin = start + length - missing - first
            slices.append(Slice(request, number, begin, min(begin + missing, request.parts[number][1])))
            missing -= slices[-1].end - begin
            at += 1
    return found


def send_some(requests: Iterable[Request], file: Any, has_come: Callable[[object], None] = lambda file: None) -> None:
    """Send requests in their order, as long as not too much is on its way or waits to be used (see `Request.send`)."""
    unused = [request for request in requests if request.content is None]
    waiting = sum(request.size for request in unused if request.is_sent)
    on_the_way = sum(request.size for request in unused if request.is_sent and not request.has_come)
    for request in unused:
        if not request.is_sent:
            waiting, on_the_way = waiting + request.size, on_the_way + request.size
            if on_the_way > _WINDOW or waiting > _WAITING:
                return
        request.send(file, has_come)


def _areas(pieces: Sequence[Piece]) -> list[Piece]:
    """The areas to be read: pieces that touch, or nearly so, become one."""
    found: list[Piece] = []
    for start, length in pieces:
        if found and start <= sum(found[-1]) + _GAP:
            first = found[-1][0]
            found[-1] = (first, max(sum(found[-1]), start + length) - first)
        else:
            found.append((start, length))
    return found


def _split(areas: Sequence[Piece]) -> list[Piece]:
    """Areas in parts that one request may have; each part of a large area is read by itself."""
    found = []
    for start, length in areas:
        most = _LARGEST if length <= _LARGEST else _REQUEST
        found += [(start + at, min(most, length - at)) for at in range(0, length, most)]
    return found


def _grouped(parts: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The parts of each request."""
    gathered: list[Piece] = []
    total = 0
    for part in parts:
        full = len(gathered) == _MOST or total + part[1] > _REQUEST
        if gathered and (full or max(part[1], gathered[-1][1]) > _LARGEST):
            yield gathered
            gathered, total = [], 0
        gathered.append(part)
        total += part[1]
    if gathered:
        yield gathered
