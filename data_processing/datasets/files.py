"""What can stand for files: paths, patterns, URLs, logical names, text files of these, and datasets of CMS's catalogue."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.document import Key
from MLTools.NanoML.config.setting import DATASET
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.versions import is_glob
from MLTools.NanoML.rootio.remote.url import Url, is_remote, is_xrootd

GLOBAL, USERS = "prod/global", "prod/phys03"
"""Instances of the catalogue: the collaboration's, and that of single users."""

_NAME = re.compile(DATASET["pattern"])
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LARGEST = 1 << 28  # bytes of a text file


@dataclass(frozen=True)
class FileInfo:
    """A file of events, and what is known of it before it is read.

    Attributes
    ----------
    name
        Path or URL to read it by; in answers of the catalogue, its logical name (/store/...).
    events
        Number of its events.
    size
        In bytes.
    adler32
        Checksum of its content, eight hexadecimal digits.
    valid
        False if the catalogue says that it must not be used.
    sites
        Sites that have all of its dataset on disk.
    block
        The part of its dataset that it belongs to.
    """

    name: str
    events: Optional[int] = None
    size: Optional[int] = None
    adler32: Optional[str] = None
    valid: bool = True
    sites: tuple[str, ...] = ()
    block: str = ""


@dataclass(frozen=True)
class DatasetQuery:
    """A list of files that the catalogue or a server must be asked for.

    Attributes
    ----------
    keys
        The place in the configuration.
    text
        Name of the catalogue, or pattern on a server.
    instance
        Of the catalogue; empty for a server.
    status
        Accepted states of the dataset.
    """

    keys: tuple[Key, ...]
    text: str
    instance: str = ""
    status: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What its answer is kept under, for this analysis."""
        return f"{self.text} {self.instance}".rstrip()


def place_of(config: Config, name: str, key: str, number: int) -> tuple[Key, ...]:
    """Where an item of a dataset's `das` or `files` is written; it may be without the brackets of a list."""
    keys = ("datasets", name, key, number)
    return keys if keys in config.document.lines else keys[:-1]


def is_dataset_name(text: str) -> bool:
    """Whether a text is the name of a dataset, /PRIMARY/PROCESSED/TIER, or a pattern of such names."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return the name of a dataset, or raise a ConfigError: nothing else is sent to the catalogue."""
    if not is_dataset_name(name):
        raise ConfigError(f'"{name}": expected {DATASET["form"]}.')
    return name


def is_wildcard(name: str) -> bool:
    """Whether a name may match several datasets."""
    return "*" in name


def instance_of(name: str) -> str:
    """The instance of the catalogue that usually has a dataset of this name."""
    return USERS if name.endswith("/USER") else GLOBAL


def is_listing(url: str) -> bool:
    """Whether a root:// URL names a directory, by a slash at its end, or has wildcards."""
    path = Url.parse(url).path
    return path.endswith("/") or is_glob(path)


@dataclass(frozen=True)
class FilePattern:
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
        Which of the given patterns it comes from.
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
        """The files, if no server must be asked; NanoMLError if there are none."""
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
            inside = os.path.join(self.text if directory == found[0] and len(found) == 1 else directory, "*.root")
            raise self.error(f"{directory} is a directory. For the files in it, write {inside}")
        return found

    def error(self, message: str) -> NanoMLError:
        """An error with the place where it is written."""
        return NanoMLError(f"{self.place}{self.text}: {message.rstrip('.')}.")


def url_of(name: str, redirectors: Sequence[str]) -> str:
    """The URL of a file by its logical name, /store/..., through the first redirector; NanoMLError without one."""
    if not redirectors:
        raise NanoMLError(
            f'{name}: is read through a redirector, and there is none. Name one: "read: {{redirectors: [root://...]}}".'
        )
    return f"{redirectors[0].rstrip('/')}/{name}"


def file_patterns(patterns: Iterable[str], base: Path, redirectors: Sequence[str]) -> Iterator[FilePattern]:
    """The given patterns, one by one, with the lines of text files in place of these.

    Parameters
    ----------
    patterns
        Paths, patterns, URLs, logical names, and text files of these.
    base
        Directory that relative paths are relative to; those in a text file are relative to its own.
    redirectors
        Where files are read by their logical names.

    Raises
    ------
    NanoMLError
        A text file is not there or cannot be read, or there is no redirector for a logical name.
    """
    for number, pattern in enumerate(patterns):
        if is_remote(pattern) or not pattern.endswith(".txt"):
            yield FilePattern(_located(pattern, redirectors), base, "", number)
            continue
        lists = _local(pattern, base)
        if not lists:
            raise FilePattern(pattern, base, "", number).error(_absent(pattern, base))
        for path in lists:
            for line, text in _lines(path):
                if text.endswith(".txt") and not is_remote(text):
                    raise NanoMLError(f"{path}:{line}: {text}: a list cannot name another list.")
                yield FilePattern(_located(text, redirectors), Path(path).parent, f"{path}:{line}: ", number)


def _located(text: str, redirectors: Sequence[str]) -> str:
    return url_of(text, redirectors) if text.startswith("/store/") else text


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise NanoMLError(f"{path}: is larger than {_LARGEST >> 20} MiB, so it is hardly a list of files.")
        text = content.decode("utf-8-sig")
    except OSError as problem:
        raise NanoMLError(f"{path}: cannot be read: {(problem.strerror or str(problem)).lower()}.") from None
    except UnicodeDecodeError:
        raise NanoMLError(f"{path}: is not a text file with one file per line.") from None
    found = [(number, _COMMENT.sub("", line).strip()) for number, line in enumerate(text.split("\n"), 1)]
    found = [(number, line) for number, line in found if line]
    if not found:
        raise NanoMLError(f"{path}: names no file.")
    odd = next((number for number, line in found if not line.isprintable()), None)
    if odd is not None:
        raise NanoMLError(f"{path}:{odd}: is not text: expected one file per line.")
    yield from found


def _local(text: str, base: Path) -> list[str]:
    path = os.path.expanduser(text)
    absolute = os.path.normpath(os.path.join(base, path))
    if os.path.exists(absolute):
        return [absolute]
    # a directory that the user did not type is not a pattern, whatever its name has
    pattern = path if os.path.isabs(path) else os.path.join(glob.escape(str(base)), path)
    return sorted(map(os.path.normpath, glob.glob(pattern, recursive=True)))


def _absent(text: str, base: Path) -> str:
    if is_dataset_name(text):
        return 'no such file. If it is a dataset of CMS\'s catalogue, write it as "das", not as "files"'
    if text.startswith("/eos/"):
        return (
            "no such file. Where EOS is not mounted, write root://eosuser.cern.ch/ or root://eoscms.cern.ch/ before it"
        )
    return "no such file" + ("" if os.path.isabs(os.path.expanduser(text)) else f" in {base}")


def _size(path: str) -> Optional[int]:
    try:
        return os.path.getsize(path)
    except OSError:  # reported when the file is read
        return None
