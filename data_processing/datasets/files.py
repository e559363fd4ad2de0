"""Files by their names: paths, patterns, URLs, logical names, text files of these, and datasets of CMS's catalogue.

Two names of one file are found, and copies of files, whose events would count twice.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import SplitResult, urlsplit

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.remote.server import Url, is_remote, is_xrootd
from MLTools.NanoML.rootio.versions import is_glob
from MLTools.NanoML.schema.document import Key
from MLTools.NanoML.schema.settings import DATASET

GLOBAL, USERS = "prod/global", "prod/phys03"
"""Instances of the catalogue: the collaboration's, and that of single users."""

_NAME = re.compile(DATASET["pattern"])
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LARGEST = 1 << 28  # bytes of a text file
_MOST = 1000  # directories that one pattern looks into

# the logical name of a file of CMS, behind what names a site or a mount
_LFN = re.compile(r"(?:^/store/test/xrootd/[^/]+)?.*?(/store/.+)$")
_LFN_ON_DISK = re.compile(r"(/store/(?:data|mc)(?:/[^/]+){5,})$")
_SLASHES = re.compile("/+")

_PIECE = 1024  # bytes; the first of them have the identifier of a ROOT file
_SAMPLES = 8  # pieces, from the beginning to the end
_BLOCK = 1 << 20  # bytes


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
        """The name under which its answer is kept, for this analysis."""
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
            f'{name}: needs a redirector, but none is named. Name one: "read: {{redirectors: [root://...]}}".'
        )
    return f"{redirectors[0].rstrip('/')}/{name}"


def file_patterns(patterns: Iterable[str], base: Path, redirectors: Sequence[str]) -> Iterator[FilePattern]:
    """The given patterns, one by one, with the lines of text files in place of these.

    They are paths, patterns, URLs, logical names, and text files of these. Paths are relative to `base`, those in a text file to its own
    directory. Raises NanoMLError if a text file cannot be read, or there is no redirector for a logical name.
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


class _Version(NamedTuple):
    """A file as it is now."""

    path: str
    device: int
    inode: int
    size: int
    modified: int


# by size, then by digests of ever more of a file: the only file with this key, and its position; None where there are
# several, which have longer keys
_Seen = dict[tuple[object, ...], Optional[tuple[_Version, int]]]


def find_same(files: Sequence[str]) -> Optional[tuple[int, int]]:
    """Positions of two names of one file, or of a file and its copy; None if there are none."""
    known: dict[str, int] = {}
    seen: _Seen = {}
    directory_of = functools.cache(os.path.realpath)
    for at, file in enumerate(files):
        path = file if not is_remote(file) else urlsplit(file).path if file.startswith("file:") else None
        status = None if path is None else _status(path)
        names = [_remote_name(urlsplit(file))] if path is None else _local_names(path, status, directory_of)
        other = next((known[name] for name in names if name in known), None)
        if other is None and path is not None and status is not None:
            other = _copy_of(path, status, at, seen)
        if other is not None:
            return other, at
        known.update(dict.fromkeys(names, at))
    return None


def _remote_name(url: SplitResult) -> str:
    """The name that all URLs of a file have in common."""
    path = _SLASHES.sub("/", url.path)
    lfn = _LFN.match(path)
    if lfn:  # whichever redirector or site it comes from
        return lfn[1]
    host = url.netloc.lower()
    if url.scheme in ("root", "roots", "xroot", "xroots"):
        return f"root://{host.removesuffix(':1094')}/{path}"
    return f"{url.scheme}://{host}{path}?{url.query}"


def _status(path: str) -> Optional[os.stat_result]:
    """The status of a path, which may be a link; None if there is no such file."""
    try:
        return os.lstat(path)
    except OSError:  # reported when the file is read
        return None


def _local_names(path: str, status: Optional[os.stat_result], real: Callable[[str], str]) -> list[str]:
    """The names that all paths of a file have in common; `real` is os.path.realpath, which remembers directories."""
    directory, name = os.path.split(path)
    lfn = _LFN_ON_DISK.search(path)
    is_link = status is not None and stat.S_ISLNK(status.st_mode)
    whole = os.path.realpath(path) if is_link else os.path.join(real(directory), name)
    return [whole, *(lfn.groups() if lfn else ())]


def _copy_of(path: str, status: os.stat_result, at: int, seen: _Seen) -> Optional[int]:
    """The position of a file with the same content; each is read only as far as it takes to tell it from the others."""
    try:
        if stat.S_ISLNK(status.st_mode):
            status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return None
        file = _Version(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        key: tuple[object, ...] = (file.size,)
        for digest in (_head, _samples, _content):
            if key not in seen:
                seen[key] = file, at
                return None
            first = seen[key]
            if first is not None:
                longer = (*key, digest(first[0]))
                seen[longer] = first
                seen[key] = None
            key = (*key, digest(file))
        same = seen.setdefault(key, (file, at))
        return same[1] if same is not None and same[1] != at else None
    except OSError:  # reported when the file is read
        return None


# a run looks for copies more than once: no file is read again for it


@functools.cache
def _head(file: _Version) -> bytes:
    return _digest(file, [0], _PIECE)


@functools.cache
def _samples(file: _Version) -> bytes:
    last = max(file.size - _PIECE, 0)
    return _digest(file, [last * number // (_SAMPLES - 1) for number in range(_SAMPLES)], _PIECE)


@functools.cache
def _content(file: _Version) -> bytes:
    return _digest(file, range(0, file.size, _BLOCK), _BLOCK)


def _digest(file: _Version, positions: Iterable[int], length: int) -> bytes:
    digest = hashlib.sha256()
    with open(file.path, "rb") as source:
        for position in positions:
            source.seek(position)
            digest.update(source.read(length))
    return digest.digest()


# directories of servers


def list_remote(url: str) -> list[FileInfo]:
    """The files of a directory on a server, or those that a pattern matches, in the order of their names.

    The URL has a slash at its end for all *.root of a directory, or wildcards in parts of its path. A redirector's directory is put
    together from those of all its servers. Raises NanoMLError if there are none, not all servers answer, or the pattern is too wide.
    """
    place = Url.parse(url)
    path = place.path + ("*.root" if place.path.endswith("/") else "")
    parts = path.split("/")[1:]
    if "**" in parts:
        raise NanoMLError(f"{url}: ** does not work on servers. Write a * for each directory.")
    first = next(at for at, part in enumerate(parts) if is_glob(part))
    if first == 0:
        raise NanoMLError(f"{url}: begins with a wildcard, which would list all of the server. Name the directory.")
    found = _listed(place, ["/" + "/".join(parts[:first])], parts[first:], url)
    if not found:
        raise NanoMLError(f"{url}: no such file.")
    return [FileInfo(str(place.at(name)), size=size) for name, size in sorted(found)]


def _listed(place: Url, directories: Sequence[str], parts: Sequence[str], url: str) -> list[tuple[str, int]]:
    from MLTools.NanoML.rootio.remote.storage import list_directory  # a run of local files does without

    if len(directories) > _MOST:
        raise NanoMLError(f"{url}: matches {len(directories)} directories. Write a narrower pattern.")
    entries = [
        (f"{directory}/{entry.name}", entry)
        for directory in directories
        for entry in list_directory(str(place.at(directory)))
        if fnmatchcase(entry.name, parts[0]) and entry.is_directory == (len(parts) > 1)
    ]
    if len(parts) == 1:
        return [(name, entry.size) for name, entry in entries]
    return _listed(place, [name for name, _ in entries], parts[1:], url)
