"""What can stand for files: paths, patterns, URLs, logical names, text files of these, and datasets of CMS's catalogue."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.remote.server import Url, is_remote, is_xrootd
from MLTools.NanoML.rootio.versions import is_glob
from MLTools.NanoML.schema.settings import DATASET

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config
    from MLTools.NanoML.schema.document import Key

GLOBAL, USERS = "prod/global", "prod/phys03"
"""Instances of the catalogue: the collaboration's, and that of single users."""

_NAME = re.compile(DATASET["pattern"])
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LARGEST = 1 << 28  # bytes of a text file


@dataclass(frozen=True)
class FileInfo:
    """A file of events, and what is known of it before it is read."""

    name: str  # path or URL to read it by; in answers of the catalogue, its logical name (/store/...)
    events: Optional[int] = None
    size: Optional[int] = None  # [bytes]; only of remote files
    adler32: Optional[str] = None  # checksum of its content, eight hexadecimal digits
    valid: bool = True  # False if the catalogue says that it must not be used
    block: str = ""  # the part of its dataset that it belongs to
    sites: tuple[str, ...] = ()  # those that have all of its dataset on disk


@dataclass(frozen=True)
class DatasetQuery:
    """A list of files that the catalogue or a server must be asked for."""

    keys: tuple[Key, ...]  # the place in the configuration
    text: str  # name of the catalogue, or pattern on a server
    instance: str = ""  # of the catalogue; empty for a server
    status: tuple[str, ...] = ()  # accepted states of the dataset

    @property
    def key(self) -> str:
        """What its answer is kept under, for this analysis."""
        return f"{self.text} {self.instance}".rstrip()

    @property
    def has_wildcard(self) -> bool:
        """Whether it may stand for several datasets of the catalogue."""
        return bool(self.instance) and is_wildcard(self.text)


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


@dataclass(frozen=True)
class FilePattern:
    """One path, pattern, URL or logical name."""

    text: str  # as it was written; a logical name as the URL to read it by
    base: Path  # directory that relative paths are relative to
    place: str  # the text file and line where it was written, as in "list.txt:3: "; empty if it was given directly
    number: int  # which of the given patterns it comes from

    @property
    def is_listing(self) -> bool:
        """Whether a server must be asked: it is a root:// URL of a directory, with a slash at its end, or has wildcards."""
        if not is_xrootd(self.text):
            return False
        path = Url.parse(self.text).path
        return path.endswith("/") or is_glob(path)

    def files(self) -> list[FileInfo]:
        """The files, if no server must be asked; NanoMLError if there are none."""
        if is_remote(self.text):
            if is_glob(self.text.partition("?")[0]):  # a ? begins what is asked of the server
                raise self.error("wildcards do not work in URLs other than root://; name each file")
            return [FileInfo(self.text)]
        found = self.local()
        # nobody calls a directory so: it would be told when it is read
        directory = next((path for path in found if not path.endswith(".root") and os.path.isdir(path)), None)
        if directory is not None:
            inside = os.path.join(self.text if len(found) == 1 else directory, "*.root")
            raise self.error(f"{directory} is a directory. For the files in it, write {inside}")
        return [FileInfo(path) for path in found]

    def local(self) -> list[str]:
        """The paths on this machine that it matches; NanoMLError if there are none."""
        path = os.path.expanduser(self.text)
        absolute = os.path.normpath(os.path.join(self.base, path))
        if os.path.exists(absolute):
            return [absolute]
        # a directory that the user did not type is not a pattern, whatever its name has
        pattern = path if os.path.isabs(path) else os.path.join(glob.escape(str(self.base)), path)
        found = sorted(map(os.path.normpath, glob.glob(pattern, recursive=True)))
        if found:
            return found
        if is_dataset_name(self.text):
            hint = '. If it is a dataset of CMS\'s catalogue, write it as "das", not as "files"'
        elif self.text.startswith("/eos/"):
            hint = ". Where EOS is not mounted, write root://eosuser.cern.ch/ or root://eoscms.cern.ch/ before it"
        else:
            hint = "" if os.path.isabs(path) else f" in {self.base}"
        raise self.error(f"no such file{hint}")

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

    def located(text: str) -> str:
        return url_of(text, redirectors) if text.startswith("/store/") else text

    for number, pattern in enumerate(patterns):
        if is_remote(pattern) or not pattern.endswith(".txt"):
            yield FilePattern(located(pattern), base, "", number)
            continue
        for path in FilePattern(pattern, base, "", number).local():
            for line, text in _lines(path):
                if text.endswith(".txt") and not is_remote(text):
                    raise NanoMLError(f"{path}:{line}: {text}: a list cannot name another list.")
                yield FilePattern(located(text), Path(path).parent, f"{path}:{line}: ", number)


def _lines(path: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise NanoMLError(f"{path}: is larger than {_LARGEST >> 20} MiB, so it is probably not a list of files.")
        text = content.decode("utf-8-sig")
    except OSError as problem:
        raise NanoMLError(f"{path}: cannot be read: {(problem.strerror or str(problem)).lower()}.") from None
    except UnicodeDecodeError:
        raise NanoMLError(f"{path}: is not a text file with one file per line.") from None
    lines = ((number, _COMMENT.sub("", line).strip()) for number, line in enumerate(text.split("\n"), 1))
    found = [(number, line) for number, line in lines if line]
    if not found:
        raise NanoMLError(f"{path}: names no file.")
    odd = next((number for number, line in found if not line.isprintable()), None)
    if odd is not None:
        raise NanoMLError(f"{path}:{odd}: is not text: expected one file per line.")
    return found
