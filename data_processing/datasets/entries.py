"""What can stand for files: paths, patterns, URLs, logical names, and text files of these."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from data_processing.catalogue.answers import FileInfo
from data_processing.catalogue.listing import is_listing
from data_processing.catalogue.names import is_name
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.versions import is_glob
from MLTools.NanoML.rootio.remote.url import is_remote, is_xrootd

__all__ = ["Entry", "entries_of", "url_of"]

_COMMENT = re.compile(r"(?:^|\s)#.*")
_LARGEST = 1 << 28  # bytes of a text file


@dataclass(frozen=True)
class Entry:
    """One path, pattern, URL or logical name.

    Attributes
    ----------
    text
        As it was written; a logical name as the URL to read it by.
    base
        Directory that relative paths are relative to.
    place
        The text file and line where it was written, as in "list.txt:3: "; empty if it was given directly.
    number
        Which of the entries that were given it comes from.
    """

    text: str
    base: Path
    place: str
    number: int

    @property
    def is_listing(self) -> bool:
        """Whether a server must be asked what it stands for."""
        likely = self.text.endswith("/") or is_glob(self.text)
        return likely and is_xrootd(self.text) and is_listing(self.text)

    def files(self) -> list[FileInfo]:
        """The files, if no server must be asked.

        Raises
        ------
        NanoMLError
            There is none.
        """
        if is_remote(self.text):
            if is_glob(self.text.partition("?")[0]):  # a ? begins what is asked of the server
                raise self.error("wildcards do not work in URLs other than root://; name each file")
            return [FileInfo(self.text)]
        return [FileInfo(path, size=_size(path)) for path in self._paths()]

    def _paths(self) -> list[str]:
        found = _local(self.text, self.base)
        if not found:
            raise self.error(_absent(self.text, self.base))
        directory = next((path for path in found if os.path.isdir(path)), None)
        if directory is not None:
            inside = os.path.join(
                self.text if directory == found[0] and len(found) == 1 else directory, "*.root"
            )
            raise self.error(f"{directory} is a directory. For the files in it, write {inside}")
        return found

    def error(self, message: str) -> NanoMLError:
        """An error about it, with where it is written."""
        return NanoMLError(f"{self.place}{self.text}: {message.rstrip('.')}.")


def url_of(name: str, redirectors: Sequence[str]) -> str:
    """The URL of a file by its logical name, /store/...: through the first redirector.

    Raises
    ------
    NanoMLError
        There is none.
    """
    if not redirectors:
        raise NanoMLError(
            f'{name}: is read through a redirector, and there is none. Name one: "read: {{redirectors: [root://...]}}".'
        )
    return f"{redirectors[0].rstrip('/')}/{name}"


def entries_of(patterns: Iterable[str], base: Path, redirectors: Sequence[str]) -> Iterator[Entry]:
    """What was given, one by one: the lines of text files in the place of these.

    Parameters
    ----------
    patterns
        What was given.
    base
        Directory that relative paths are relative to. Those in a text file are relative to its own.
    redirectors
        Where to read files by their logical names.

    Raises
    ------
    NanoMLError
        A text file is not there or cannot be read, or there is no redirector for a logical name.
    """
    for number, pattern in enumerate(patterns):
        if is_remote(pattern) or not pattern.endswith(".txt"):
            yield Entry(_located(pattern, redirectors), base, "", number)
            continue
        lists = _local(pattern, base)
        if not lists:
            raise Entry(pattern, base, "", number).error(_absent(pattern, base))
        for path in lists:
            for line, text in _lines(path):
                if text.endswith(".txt") and not is_remote(text):
                    raise NanoMLError(f"{path}:{line}: {text}: a list cannot name another list.")
                yield Entry(_located(text, redirectors), Path(path).parent, f"{path}:{line}: ", number)


def _located(text: str, redirectors: Sequence[str]) -> str:
    return url_of(text, redirectors) if text.startswith("/store/") else text


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file that say something, with their numbers."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise NanoMLError(
                f"{path}: is larger than {_LARGEST >> 20} MiB, so it is hardly a list of files."
            )
        text = content.decode("utf-8-sig")
    except OSError as problem:
        raise NanoMLError(f"{path}: cannot be read: {(problem.strerror or str(problem)).lower()}.") from None
    except UnicodeDecodeError:
        raise NanoMLError(f"{path}: is no text file with one file a line.") from None
    found = [(number, _COMMENT.sub("", line).strip()) for number, line in enumerate(text.split("\n"), 1)]
    found = [(number, line) for number, line in found if line]
    if not found:
        raise NanoMLError(f"{path}: names no file.")
    odd = next((number for number, line in found if not line.isprintable()), None)
    if odd is not None:
        raise NanoMLError(f"{path}:{odd}: is no text: expected one file a line.")
    yield from found


def _local(text: str, base: Path) -> list[str]:
    path = os.path.expanduser(text)
    absolute = os.path.normpath(os.path.join(base, path))
    if os.path.exists(absolute):
        return [absolute]
    # a directory that the user did not type is no pattern, whatever is in its name
    pattern = path if os.path.isabs(path) else os.path.join(glob.escape(str(base)), path)
    return sorted(map(os.path.normpath, glob.glob(pattern, recursive=True)))


def _absent(text: str, base: Path) -> str:
    if is_name(text):
        return 'no such file. If it is a dataset of CMS\'s catalogue, write it as "das", not as "files"'
    if text.startswith("/eos/"):
        return "no such file. Where EOS is not mounted, write root://eosuser.cern.ch/ or root://eoscms.cern.ch/ before it"
    return "no such file" + ("" if os.path.isabs(os.path.expanduser(text)) else f" in {base}")


def _size(path: str) -> Optional[int]:
    try:
        return os.path.getsize(path)
    except OSError:  # it will be told when the file is to be read
        return None
