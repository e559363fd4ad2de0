"""The XRootD client: its settings, and what its errors mean."""

from __future__ import annotations

import contextlib
import importlib
import queue
import random
import re
import threading
import time
import warnings
from collections.abc import Callable
from enum import Enum
from typing import Any, Optional, TypeVar

from MLTools.NanoML.config.datasets import Read
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.proxy import check_proxy, use_proxy
from MLTools.NanoML.rootio.remote import reading

__all__ = ["Cause", "ServerError", "answer", "client", "leave", "pause", "persist"]

T = TypeVar("T")

_LONGEST_PAUSE = 30.0  # s
_PARTIAL = 3  # status of an answer that lacks what some of the servers have
_FROM_SERVER = 400
# codes of the client, and of servers (kXR_...) where the client's is _FROM_SERVER
_EXPIRED = ((103, 0), (206, 0), (_FROM_SERVER, 3034), (_FROM_SERVER, 3035))
_REFUSED = ((203, 0), (204, 0), (_FROM_SERVER, 3010), (_FROM_SERVER, 3030))
_MISSING = ((304, 0), (_FROM_SERVER, 3011))
_FINAL = {
    *((code, 0) for code in (9, 13)),
    *((_FROM_SERVER, code) for code in (3000, 3001, 3002, 3006, 3009, 3013, 3015, 3016, 3018, 3021, 3025)),
}
_NO_SERVER = re.compile("no servers? (?:is|are) available", re.I)  # a redirector that may find one later
_LABELS = re.compile(r"\[(?:ERROR|FATAL|\d{4})\]\s*|Server responded with an error:\s*")

_applied: Optional[Read] = None


class Cause(Enum):
    """Why something failed: what may help."""

    TRANSIENT = "to try again"
    EXPIRED = "another server, or to try again later"
    MISSING = "another server, which may have it"
    REFUSED = "another proxy"
    FINAL = "nothing"


class ServerError(Exception):
    """What a server, or the connection to it, says.

    Attributes
    ----------
    cause
        What kind of failure it is.
    """

    def __init__(self, text: str, cause: Cause) -> None:
        super().__init__(text)
        self.cause = cause

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.cause in (Cause.TRANSIENT, Cause.EXPIRED)

    def advice(self) -> str:
        """What to do, as a sentence that follows; empty where nothing special is to be done."""
        if self.cause is not Cause.REFUSED:
            return ""
        try:
            proxy = check_proxy()
        except NanoMLError as problem:
            return f" {problem}"
        return f" The proxy {proxy.path} is valid; is the path right, and may you use it?"


def client() -> Any:
    """The module of the XRootD client, with the current settings.

    Raises
    ------
    NanoMLError
        It is not installed.
    """
    global _applied
    try:
        module: Any = importlib.import_module("XRootD.client")
    except ModuleNotFoundError:
        raise NanoMLError(
            "root:// files need the Python client of XRootD. Install it: pip install xrootd fsspec-xrootd."
        ) from None
    settings = reading.current()
    if _applied is None:
        # at the end it looks at all objects that there are, and some of other packages do not like to be looked at
        warnings.filterwarnings("ignore", module=r"XRootD\.client\.finalize")
    if settings is not _applied:
        # what the user's own XRD_... variables say is not changed by this
        for name in ("RequestTimeout", "StreamTimeout", "ConnectionWindow"):
            module.EnvPutInt(name, settings.timeout)
        # here is who tries again; what failed before must not count
        for name, value in (("ConnectionRetry", 1), ("StreamErrorWindow", 0), ("TimeoutResolution", 1)):
            module.EnvPutInt(name, value)
        use_proxy()
        _applied = settings
    return module


def answer(method: Callable[..., tuple[Any, T]], *arguments: Any, timeout: int) -> T:
    """Call the client, and wait for what a server answers; Ctrl-C ends the waiting at once.

    Parameters
    ----------
    method, arguments
        Of the client.
    timeout
        How long the server may take [s].

    Raises
    ------
    ServerError
        The call failed.
    """
    status, response = _waited_for(lambda: method(*arguments, timeout=timeout))
    if status.ok and status.code != _PARTIAL:
        return response
    text = _LABELS.sub("", status.message).strip().rstrip(".").rpartition("; ")[2]
    if status.ok:
        raise ServerError("some servers did not answer", Cause.TRANSIENT)
    raise ServerError(text or f"error {status.code}", _cause(status, text))


def _waited_for(call: Callable[[], T]) -> T:
    if threading.current_thread() is not threading.main_thread():
        return call()  # nobody interrupts another thread
    # a signal is heeded when Python goes on, but not while the client waits
    done: queue.SimpleQueue[tuple[Optional[T], Optional[BaseException]]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((call(), None))
        except BaseException as problem:
            done.put((None, problem))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.5)  # a signal just before Python begins to wait is heeded when the wait ends
    found, problem = done.get()
    if problem is not None:
        raise problem
    return found  # type: ignore[return-value]


def leave(file: Any) -> None:
    """Close a file of which nothing more is expected; nobody may be there to answer."""
    if file.is_open():
        with contextlib.suppress(ServerError):
            answer(file.close, timeout=1)


def _cause(status: Any, text: str) -> Cause:
    code = (status.code, status.errno if status.code == _FROM_SERVER else 0)
    if code in _EXPIRED:
        return Cause.EXPIRED
    if code in _REFUSED:
        return Cause.REFUSED
    if code in _MISSING:
        return Cause.TRANSIENT if _NO_SERVER.search(text) else Cause.MISSING
    return Cause.FINAL if code in _FINAL else Cause.TRANSIENT


def pause(times: int) -> None:
    """Wait before another try, the longer the more `times` it failed, so that a server can recover."""
    if not times:
        return
    # the usual timeout makes it 1 s, 2 s, 4 s, ...; many jobs must not all come back at the same moment
    shortest = reading.current().timeout / 60
    time.sleep(min(shortest * 2 ** (times - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.5))


def persist(attempt: Callable[[], T], what: str) -> T:
    """Ask one server until it answers, or failed as often as the settings allow.

    Parameters
    ----------
    attempt
        Asks; it raises ServerError.
    what
        What cannot be done then, as in "root://.../x: cannot be removed".

    Raises
    ------
    NanoMLError
        It failed, or cannot succeed.
    """
    tries = reading.current().tries
    for times in range(1, tries + 1):
        try:
            return attempt()
        except ServerError as problem:
            if times == tries or not problem.may_pass:
                after = f" after {times} tries" if times > 1 else ""
                raise NanoMLError(f"{what}{after} ({problem}).{problem.advice()}") from problem
        pause(times)
    raise AssertionError("the last try returns or raises")
