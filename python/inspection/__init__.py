"""What is in a file of the pipeline (ROOT, HDF5 or ONNX): as plain content, and printed for a person."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.inspection.branches import matching_branches
from MLTools.NanoML.inspection.kind import kind_of

__all__ = ["inspect_file", "kind_of", "matching_branches", "show"]


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
    kind = kind_of(name)
    # each kind needs packages that take long to import, and that not every machine has
    if kind == "root":
        from MLTools.NanoML.inspection.root import inspect_root

        return inspect_root(name)
    if kind == "hdf5":
        from MLTools.NanoML.inspection.hdf5 import inspect_hdf5

        return inspect_hdf5(name)
    from MLTools.NanoML.inspection.onnx import inspect_onnx

    return inspect_onnx(name)


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
    if pattern is not None:
        if content["kind"] != "root":
            raise ConfigError(
                f"{content['path']}: is not a ROOT file: it has no branches to be listed. Leave --branches out."
            )
        from MLTools.NanoML.inspection.show_root import show_branches

        show_branches(content, console, pattern)
    elif content["kind"] == "root":
        from MLTools.NanoML.inspection.show_root import show_root

        show_root(content, console)
    elif content["kind"] == "hdf5":
        from MLTools.NanoML.inspection.show_hdf5 import show_hdf5

        show_hdf5(content, console)
    else:
        from MLTools.NanoML.inspection.show_onnx import show_onnx

        show_onnx(content, console)
