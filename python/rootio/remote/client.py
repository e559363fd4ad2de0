"""The XRootD client: settings for reading over the network, what is asked of it, and what its errors mean."""

from __future__ import annotations

import functools
import importlib
import json
import os
import random
import re
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Optional, TypeVar, Union

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
