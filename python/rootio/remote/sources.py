"""Where a file can be read: its own servers, the redirectors, and other servers that these know of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from MLTools.NanoML.errors import UnreadableError
from MLTools.NanoML.rootio.remote import reading
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, pause
from MLTools.NanoML.rootio.remote.server import Server
from MLTools.NanoML.rootio.remote.url import Url

__all__ = ["Source", "Sources"]

_REFRESH = 128  # do not answer from memory


@dataclass
class Source:
    """One way to get a file.

    Attributes
    ----------
    url
        The file there: on a server that has it, or on a redirector.
    failures
        How often it failed since the file was last read.
    is_final
        Whether it cannot work later either.
    takes_any
        Whether a redirector is to lead to servers again that failed, as it knows no other.
    """

    url: Url
    failures: int = 0
    is_final: bool = False
    takes_any: bool = False


class Sources:
    """All ways to get one file, and which is the next to try.

    Parameters
    ----------
    name
        The URL of the file; or several, with | in between.

    Attributes
    ----------
    current
        The source to try now.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        settings = reading.current()
        self._tries, self._redirectors = settings.tries, settings.redirectors
        self._known: list[Source] = []
        for text in name.split("|"):
            self._add(Url.parse(text.strip()))
        self._logical = next(filter(None, (source.url.logical_name for source in self._known)), None)
        for redirector in self._redirectors if self._logical else ():
            self._add(Url.parse(redirector).at(str(self._logical)))
        self._asked = self._logical is None
        self._problems: dict[str, ServerError] = {}
        self._failures = 0
        self._avoided: dict[str, str] = {}  # servers that failed, by their names without the usual port
        self.current = self._known[0]

    @property
    def address(self) -> str:
        """What to open now: a redirector is told of the servers that failed."""
        url = self.current.url
        failed = [server for site, server in self._avoided.items() if site != url.site]
        tried = failed and not self.current.takes_any
        return str(url.asking(f"tried={','.join(failed)}") if tried else url)

    def _add(self, url: Url) -> None:
        if url.site not in (source.url.site for source in self._known):
            self._known.append(Source(url))

    def worked(self) -> None:
        """Note that something could be read: what failed for a while before does not count any more."""
        if self._failures:
            self._failures = 0
            self._problems.clear()
            for source in self._known:
                source.failures = 0

    def failed(self, problem: ServerError, server: Optional[str] = None) -> None:
        """Choose what to try next, and wait if it is what failed before.

        Parameters
        ----------
        problem
            What happened to the current source.
        server
            The server that a redirector led to, as HOST:PORT, where that is known.

        Raises
        ------
        UnreadableError
            There is nothing left to try.
        """
        source = self.current
        site = _site(server or source.url.host)
        is_new = site != source.url.site and site not in self._avoided
        is_redirected = bool(self._avoided) and site == source.url.site and not source.takes_any
        self._problems[site] = problem
        self._failures += 1
        source.failures += 1
        if problem.cause is Cause.MISSING and is_redirected:
            source.takes_any = True
        else:
            self._avoided[site] = server or source.url.host
            source.is_final = not problem.may_pass and not is_new
        if self._is_over(source) or (problem.cause is Cause.EXPIRED and not is_new):
            self.current = self._next()
        if self.current is not source or not is_new:
            pause(self.current.failures)

    def _is_over(self, source: Source) -> bool:
        return source.is_final or source.failures >= self._tries

    def _next(self) -> Source:
        """The next source: rather one that did not fail itself, be it only known now, than one that may again."""
        at = self._known.index(self.current)
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
        """The file on each server that those know of who did not fail themselves."""
        for source in list(self._known):
            if source.url.site in self._avoided:
                continue
            server = Server(str(source.url))
            try:
                found = server.ask("deeplocate", server.path, _REFRESH)
            except ServerError:  # it said so before, or is a server that cannot tell
                continue
            for location in found:
                if location.is_server:
                    yield Url(server.url.scheme, location.address, server.path)

    def _complaint(self) -> str:
        problems = self._problems
        where = f"{len(problems)} source{'s' if len(problems) > 1 else ''}"
        details = "; ".join(f"{site}: {problem}" for site, problem in problems.items())
        if all(problem.cause is Cause.MISSING for problem in problems.values()):
            return f"{self.name}: no such file, asked for at {where} ({details})."
        tries = f"{self._failures} tr{'ies' if self._failures > 1 else 'y'}"
        advice = next(filter(None, (problem.advice() for problem in problems.values())), "")
        return f"{self.name}: read error after {tries} at {where} ({details}).{advice}"


def _site(address: str) -> str:
    return Url("root", address, "").site
