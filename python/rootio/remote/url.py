"""Addresses of files that are read over a network."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Optional

from MLTools.NanoML.errors import NanoMLError

_FORM = re.compile(r"(x?roots?)://([^/?\s]+)(?:/([^?]*))?(?:\?(.*))?", re.S)
_MAPPED = re.compile(r"\[::(?:ffff:)?([0-9.]+)\]")  # how servers write IPv4 addresses of others
_LOGICAL = re.compile(r"(?:/store/test/xrootd/[^/]+)?.*?(/store/.+)")


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a file is read over a network (root://, https://, ...)."""
    return "://" in os.fspath(path)


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
