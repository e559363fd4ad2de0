"""XRootD servers: their URLs, requests to one of them, and the choice among all that may have a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Optional

from MLTools.NanoML.errors import NanoMLError, UnreadableError, plural
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, answer, client, current_settings, pause, persist

_FORM = re.compile(r"(x?roots?)://([^/?\s]+)(?:/([^?]*))?(?:\?(.*))?", re.S)
_MAPPED = re.compile(r"\[::(?:ffff:)?([0-9.]+)\]")  # how servers write IPv4 addresses of others
_LOGICAL = re.compile(r"(?:/store/test/xrootd/[^/]+)?.*?(/store/.+)")

_CHECKSUM = 3  # kind of a query
_REFRESH = 128  # do not answer from memory


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a file is read over a network (root://, https://, ...)."""
    return "://" in os.fspath(path)


def on_cvmfs(path: str | os.PathLike[str]) -> bool:
    """Whether a file is on CVMFS, where every machine that mounts it finds the same."""
    return os.fspath(path).startswith("/cvmfs/")


def is_xrootd(path: str) -> bool:
    """Whether a path is a URL that the XRootD client reads."""
    return _FORM.match(path) is not None


@dataclass(frozen=True)
class Url:
    """A file or directory on an XRootD server."""

    scheme: str  # "root", "xroot", "roots" or "xroots"
    host: str  # name of the server, with the port if it is not the usual one
    path: str  # on the server; it begins with a slash
    query: str = ""  # what follows the question mark, for the server; may be empty

    @classmethod
    def parse(cls, text: str) -> Url:
        """Split a URL into its parts. Raises NanoMLError if it is not a root:// URL."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise NanoMLError(f"{text}: is not a URL of the form root://SERVER//PATH.")
        scheme, host, path, query = found.groups()
        return cls(scheme, host, "/" + (path or "").lstrip("/"), query or "")

    def __str__(self) -> str:
        return f"{self.server}/{self.path}{'?' * bool(self.query)}{self.query}"

    @property
    def server(self) -> str:
        """The server alone, as in root://SERVER."""
        return f"{self.scheme}://{self.host}"

    @property
    def logical_name(self) -> Optional[str]:
        """The name /store/... by which all sites of CMS know the file; None for other files."""
        found = _LOGICAL.fullmatch(self.path)
        return found[1] if found else None

    @property
    def site(self) -> str:
        """Name of the server in messages: without the usual port."""
        return _MAPPED.sub(r"\1", self.host).removesuffix(":1094")

    def at(self, path: str) -> Url:
        """Another path on the same server."""
        return replace(self, path=path)

    def beside(self, name: str) -> Url:
        """Another file of the same directory."""
        return self.at(f"{self.path.rpartition('/')[0]}/{name}")

    def asking(self, query: str) -> Url:
        """The same with one more query."""
        return replace(self, query="&".join(filter(None, (self.query, query))))


class Server:
    """The server of a root:// URL; most requests are about its path."""

    def __init__(self, url: str) -> None:
        self.url = Url.parse(url)
        self.path = self.url.path
        self.timeout = current_settings().timeout
        self._system = client().FileSystem(self.url.server)

    def ask(self, method: str, *arguments: object) -> Any:
        """Call a method of the client's FileSystem once, with its arguments but for the timeout; may raise ServerError."""
        return answer(getattr(self._system, method), *arguments, timeout=self.timeout)

    def has(self, path: str) -> bool:
        """Whether there is such a file or directory; may raise ServerError."""
        try:
            self.ask("stat", path)
        except ServerError as problem:
            if problem.cause is Cause.MISSING:
                return False
            raise
        return True

    def behind(self) -> list[Server]:
        """The servers behind a redirector, whether or not they have the path; another server is alone.

        May raise ServerError.
        """
        try:
            found = self.ask("deeplocate", f"*{self.path}", 0)
        except ServerError as problem:
            if problem.cause in (Cause.MISSING, Cause.FINAL):  # it is not a redirector, or has no servers
                return [self]
            raise
        hosts = sorted({each.address for each in found})
        return [Server(str(replace(self.url, host=host))) for host in hosts] or [self]

    def take_away(self, what: str, attempt: Callable[[], object], path: str) -> None:
        """Do what makes `path` vanish, until it succeeds; raise `what` if it does not.

        If the answer to the first attempt was lost and the next finds nothing there, the first had succeeded.
        """
        times = 0

        def once() -> None:
            nonlocal times
            times += 1
            try:
                attempt()
            except ServerError as problem:
                if times == 1 or problem.cause is not Cause.MISSING or self.has(path):
                    raise

        persist(once, what)

    def checksum(self, url: Url) -> Optional[int]:
        """The Adler-32 checksum of a file, as the server has it; None if it has none."""
        asked = f"{url.path}?{url.asking('cks.type=adler32').query}"

        def once() -> Any:
            try:
                return self.ask("query", _CHECKSUM, asked)
            except ServerError as problem:
                if problem.may_pass:  # it takes long to compute, and is there the next time
                    raise
                return b""

        found: bytes = persist(once, f"{url}: the server does not give its checksum")
        kind, _, value = found.decode().strip(" \0\n").partition(" ")
        return int(value, 16) if kind == "adler32" else None

    def rename(self, source: str, destination: str, what: str) -> None:
        """Rename a path on the server, replacing what has the new name; raise `what` if that fails."""

        def once() -> None:
            try:
                self.ask("mv", source, destination)
            except ServerError as problem:
                if problem.cause is not Cause.FINAL or not self.has(destination):
                    raise
                self.ask("rm", destination)  # some servers do not replace
                self.ask("mv", source, destination)

        self.take_away(what, once, source)


@dataclass
class _Replica:
    """One way to get a file."""

    url: Url  # the file on a server that has it, or on a redirector
    failures: int = 0  # how often it failed since the file was last read
    is_final: bool = False  # whether it cannot work later either
    takes_any: bool = False  # whether a redirector may lead to servers that failed, as it knows no others


class Replicas:
    """All ways to get one file, and which is the next to try: its own servers, redirectors, and servers that these know.

    `name` is the URL of the file, or several with | in between.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        settings = current_settings()
        self._tries = settings.tries
        self._known: list[_Replica] = []
        for text in name.split("|"):
            self._add(Url.parse(text.strip()))
        logical = next(filter(None, (replica.url.logical_name for replica in self._known)), None)
        for redirector in settings.redirectors if logical else ():
            self._add(Url.parse(redirector).at(str(logical)))
        self._asked = logical is None
        self._problems: dict[str, ServerError] = {}
        self._failures = 0
        self._avoided: dict[str, str] = {}  # servers that failed, by their names without the usual port
        self._current = self._known[0]

    @property
    def address(self) -> str:
        """The address to open now; a redirector is asked to avoid the servers that failed."""
        url = self._current.url
        failed = [server for site, server in self._avoided.items() if site != url.site]
        tried = failed and not self._current.takes_any
        return str(url.asking(f"tried={','.join(failed)}") if tried else url)

    def _add(self, url: Url) -> None:
        if url.site not in (replica.url.site for replica in self._known):
            self._known.append(_Replica(url))

    def worked(self) -> None:
        """Note that something could be read: earlier failures do not count any more."""
        if self._failures:
            self._failures = 0
            self._problems.clear()
            for replica in self._known:
                replica.failures = 0

    def failed(self, problem: ServerError, server: Optional[str] = None) -> None:
        """Choose what to try next after a problem with the current replica, and wait if that has failed before.

        `server` is the one that a redirector led to, as HOST:PORT, if known. An UnreadableError if nothing is left to try.
        """
        replica = self._current
        site = Url("root", server or replica.url.host, "").site
        is_new = site != replica.url.site and site not in self._avoided
        is_redirected = bool(self._avoided) and site == replica.url.site and not replica.takes_any
        self._problems[site] = problem
        self._failures += 1
        replica.failures += 1
        if problem.cause is Cause.MISSING and is_redirected:
            replica.takes_any = True
        else:
            self._avoided[site] = server or replica.url.host
            replica.is_final = not problem.may_pass and not is_new
        if self._is_over(replica) or (problem.cause is Cause.EXPIRED and not is_new):
            self._current = self._next()
        if self._current is not replica or not is_new:
            pause(self._current.failures)

    def _is_over(self, replica: _Replica) -> bool:
        return replica.is_final or replica.failures >= self._tries

    def _next(self) -> _Replica:
        """The next replica: rather one that has not failed itself, even a newly found one, than one that may fail again."""
        at = self._known.index(self._current)
        left = [one for one in self._known[at + 1 :] + self._known[: at + 1] if not self._is_over(one)]
        fresh = [one for one in left if one.url.site not in self._avoided]
        if not fresh and not self._asked:
            self._asked = True
            number = len(self._known)
            for url in self._elsewhere():
                if url.site not in self._avoided:
                    self._add(url)
            fresh = self._known[number:]
        if not fresh and not left:
            raise UnreadableError(self._complaint(), self.name)
        return (fresh or left)[0]

    def _elsewhere(self) -> Iterator[Url]:
        """The file on each server that is known to those that have not failed themselves."""
        for replica in list(self._known):
            if replica.url.site in self._avoided:
                continue
            server = Server(str(replica.url))
            try:
                found = server.ask("deeplocate", server.path, _REFRESH)
            except ServerError:  # it failed before, or it is a server that does not know
                continue
            for location in found:
                if location.is_server:
                    yield Url(server.url.scheme, location.address, server.path)

    def _complaint(self) -> str:
        problems = self._problems
        where = plural(len(problems), "source")
        details = "; ".join(f"{site}: {problem}" for site, problem in problems.items())
        if all(problem.cause is Cause.MISSING for problem in problems.values()):
            return f"{self.name}: no such file, asked for at {where} ({details})."
        tries = f"{self._failures} tr{'ies' if self._failures > 1 else 'y'}"
        advice = next(filter(None, (problem.advice() for problem in problems.values())), "")
        return f"{self.name}: read error after {tries} at {where} ({details}).{advice}"
