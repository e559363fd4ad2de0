"""One XRootD server, asked about one of its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Optional

from MLTools.NanoML.rootio.remote import reading
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, answer, client, persist
from MLTools.NanoML.rootio.remote.url import Url

__all__ = ["Server"]

_CHECKSUM = 3


class Server:
    """The server of a URL.

    Parameters
    ----------
    url
        A root:// URL; most requests are about its path.
    """

    def __init__(self, url: str) -> None:
        self.url = Url.parse(url)
        self.path = self.url.path
        self.timeout = reading.current().timeout
        self._system = client().FileSystem(self.url.server)

    def ask(self, method: str, *arguments: Any) -> Any:
        """Ask once.

        Parameters
        ----------
        method
            Of the client's FileSystem.
        arguments
            Its own, but for the timeout.

        Raises
        ------
        ServerError
            There is no answer, or it is an error.
        """
        return answer(getattr(self._system, method), *arguments, timeout=self.timeout)

    def insist(self, doing: str, method: str, *arguments: Any) -> Any:
        """Ask until there is an answer, or raise that the path cannot be `doing`: "removed", say."""
        return persist(lambda: self.ask(method, *arguments), f"{self.url}: cannot be {doing}")

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
        """The servers that a redirector has for the path, whether or not they have it; other servers are alone.

        May raise ServerError.
        """
        try:
            found = self.ask("deeplocate", f"*{self.path}", 0)
        except ServerError as problem:
            if problem.cause in (Cause.MISSING, Cause.FINAL):  # it is no redirector, or it has no servers
                return [self]
            raise
        hosts = sorted({each.address for each in found})
        return [Server(str(replace(self.url, host=host))) for host in hosts] or [self]

    def take_away(self, what: str, attempt: Callable[[], Any], path: str) -> None:
        """Do what makes `path` vanish, until it succeeds.

        Where the answer to one attempt was lost and the next finds nothing there, the first had succeeded.
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
                if problem.may_pass:  # it takes long to be made, and is there the next time
                    raise
                return b""

        found: bytes = persist(once, f"{url}: the server does not tell its checksum")
        kind, _, value = found.decode().strip(" \0\n").partition(" ")
        return int(value, 16) if kind == "adler32" else None

    def rename(self, source: str, destination: str, what: str) -> None:
        """Rename a path on the server, in place of what has the new name, or raise `what`."""

        def once() -> None:
            try:
                self.ask("mv", source, destination)
            except ServerError as problem:
                if problem.cause is not Cause.FINAL or not self.has(destination):
                    raise
                self.ask("rm", destination)  # some servers do not replace
                self.ask("mv", source, destination)

        self.take_away(what, once, source)
