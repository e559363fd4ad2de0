"""Inspection of a file of the pipeline: ROOT, HDF5, ONNX or a workspace of pyhf, by its content."""

from __future__ import annotations

import codecs
import importlib
import json
import os
import stat
from typing import BinaryIO

from MLTools.NanoML.errors import NanoMLError, explain_os_error
from MLTools.NanoML.inspection.report import Inspection
from MLTools.NanoML.rootio.remote.server import is_remote

_ONNX_VERSION = 0x08  # tag of ir_version, the first field of an ONNX file
_ONNX_NEXT = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"  # tags of the fields that may follow it
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MEANT = {".root": "a ROOT file", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file", ".onnx": "an ONNX file"}


def inspect_file(path: str | os.PathLike[str], show_data: bool = True) -> Inspection:
    """Inspect a ROOT, HDF5 or ONNX file, a workspace of pyhf, or the URL of a ROOT file. The content decides, not the name.

    Without `show_data`, nothing is said of data after the first cut: they may be blind.

    Raises NanoMLError if there is no such file, it is of no known kind, or it is damaged.
    """
    name = os.fspath(path)
    # each kind needs packages that take long to import, and that not every machine has
    kind = kind_of(name)
    inspect = importlib.import_module(f"{__name__}.{kind}").inspect
    return inspect(name, show_data) if kind in ("root", "hdf5") else inspect(name)


def kind_of(path: str | os.PathLike[str]) -> str:
    """Kind of a file: "root", "hdf5", "onnx" or, for a workspace of pyhf, "histograms"; a URL counts as "root".

    Raises NanoMLError if there is no such file, it cannot be opened, or it is of no known kind.
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
    # a small IR version, then another field of a model
    if len(head) >= 2 and head[0] == _ONNX_VERSION and 0 < head[1] < 128 and head[2:3] in _ONNX_NEXT:
        return "onnx"
    suffix = os.path.splitext(name)[1].lower()
    meant = f" Its name says {_MEANT[suffix]}: fetch or make it again." if suffix in _MEANT else ""
    what, advice = "a text file" if _is_text(head) else "a binary file of another kind", meant
    if head.startswith(b"version https://git-lfs"):
        what, advice = "a Git LFS pointer", " Run `git lfs pull`."
    elif head.lstrip()[:1] == b"<":
        what = "an HTML or XML file"
    elif head.lstrip()[:1] == b"{":
        if _is_workspace(file):
            return "histograms"
        what, advice = "a JSON file", meant or " If it belongs to a model, name the .onnx file beside it."
    raise NanoMLError(f"{name}: is {what}, not a ROOT, HDF5 or ONNX file.{advice}")


def _is_hdf5(file: BinaryIO, size: int) -> bool:
    """The signature stands at the beginning, or after a user block of 512, 1024, 2048, ... bytes."""
    offset = 0
    while offset + len(_HDF5) <= size:
        file.seek(offset)
        if file.read(len(_HDF5)) == _HDF5:
            return True
        offset = max(512, 2 * offset)
    return False


def _is_workspace(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        content = json.load(file)
    except ValueError:
        return False
    return {"channels", "observations", "measurements"} <= content.keys()


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
