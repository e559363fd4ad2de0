"""What is in a file of the pipeline, ROOT, HDF5 or ONNX by its first bytes: as plain content, and printed."""

from __future__ import annotations

import codecs
import importlib
import os
import stat
from types import ModuleType
from typing import Any, BinaryIO

from rich.console import Console

from MLTools.NanoML.errors import ConfigError, NanoMLError, explain_os_error
from MLTools.NanoML.rootio.remote.url import is_remote
from MLTools.NanoML.terminal.page import Page

__all__ = ["inspect_file", "kind_of", "show"]

_ONNX_VERSION = 0x08  # tag of ir_version, the first field of an ONNX file
_ONNX_NEXT = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"  # tags of the fields that may follow it
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MEANT = {".root": "a ROOT file", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file", ".onnx": "an ONNX file"}


def inspect_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is in a file.

    Parameters
    ----------
    path
        A ROOT, HDF5 or ONNX file, or the URL of a ROOT file. The content decides which it is, not the name.

    Returns
    -------
    Plain content, fit for JSON (no NaN). Always there: `kind` ("root", "hdf5" or "onnx"), `path`, `size` in
    bytes (None for a URL), and two lists of sentences: `errors`, for which the file must not be used (it was damaged or
    changed after it was made), and `warnings`.

    Raises
    ------
    NanoMLError
        There is no such file, it is of no known kind, or it is damaged.
    """
    name = os.fspath(path)
    found: dict[str, Any] = _module(kind_of(name)).inspect(name)
    return found


def _module(kind: str) -> ModuleType:
    # each kind needs packages that take long to import, and that not every machine has
    return importlib.import_module(f"{__name__}.{kind}")


def show(content: dict[str, Any], pattern: str | None = None, console: Console | None = None) -> None:
    """Print what `inspect_file` found.

    Parameters
    ----------
    content
        As `inspect_file` returns it.
    pattern
        For a ROOT file: print each branch that matches this glob (or that is of this collection), with its type
        and title, and nothing else.
    console
        Where to; None for standard output.

    Raises
    ------
    NanoMLError
        No branch matches.
    ConfigError
        There is a pattern, but the file is not a ROOT file.
    """
    console = console or Console()
    if pattern is None:
        page = Page(console)
        page.title(content["path"])
        _module(content["kind"]).show(content, page)
        page.warnings(content["warnings"], content["errors"])
    elif content["kind"] == "root":
        _module("root").show_branches(content, console, pattern)
    else:
        raise ConfigError(
            f"{content['path']}: is not a ROOT file: it has no branches to be listed. Leave --branches out."
        )


def kind_of(path: str | os.PathLike[str]) -> str:
    """Kind of a file: "root", "hdf5" or "onnx"; a URL counts as "root".

    Raises
    ------
    NanoMLError
        There is no such file, it cannot be opened, or it is of no known kind.
    """
    name = os.fspath(path)
    if is_remote(name):
        return "root"
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            with open(name, "rb") as file:
                return _kind_of_content(file, name, os.path.getsize(name))
    except FileNotFoundError:
        raise NanoMLError(f"{name}: no such file.") from None
    except OSError as problem:
        raise explain_os_error(problem, name, "read") from None
    what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
    raise NanoMLError(f"{name}: is {what}. Name a ROOT, HDF5 or ONNX file.")


def _kind_of_content(file: BinaryIO, name: str, size: int) -> str:
    head = file.read(256)
    if not head:
        raise NanoMLError(f"{name}: is empty (0 bytes): fetch or make it again.")
    if head.startswith(b"root") and not _is_text(head):  # a version number follows, which may be negative
        return "root"
    if _is_hdf5(file, size):
        return "hdf5"
    if _begins_like_onnx(head):
        return "onnx"
    raise NanoMLError(f"{name}: is {_what_else(head)}, not a ROOT, HDF5 or ONNX file.{_advice(head, name)}")


def _begins_like_onnx(head: bytes) -> bool:
    """Whether bytes may be the beginning of an ONNX file: a small IR version, then another field of a model."""
    return len(head) >= 2 and head[0] == _ONNX_VERSION and 0 < head[1] < 128 and head[2:3] in _ONNX_NEXT


def _is_hdf5(file: BinaryIO, size: int) -> bool:
    """The signature stands at the beginning, or after a user block of 512, 1024, 2048, ... bytes."""
    offset = 0
    while offset + len(_HDF5) <= size:
        file.seek(offset)
        if file.read(len(_HDF5)) == _HDF5:
            return True
        offset = max(512, 2 * offset)
    return False


def _what_else(head: bytes) -> str:
    if _is_lfs_pointer(head):
        return "a Git LFS pointer"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML file"
    if head.lstrip()[:1] == b"{":
        return "a JSON file"
    return "a text file" if _is_text(head) else "a binary file of another kind"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _is_lfs_pointer(head: bytes) -> bool:
    return head.startswith(b"version https://git-lfs")


def _advice(head: bytes, name: str) -> str:
    if _is_lfs_pointer(head):
        return " Run `git lfs pull`."
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _MEANT:
        return f" Its name says {_MEANT[suffix]}: fetch or make it again."
    if head.lstrip()[:1] == b"{":
        return " If it belongs to a model, name the .onnx file beside it."
    return ""
