"""The source files that a result depends on."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

__all__ = ["source_files"]


def source_files(thing: object) -> list[Path]:
    """The files that a selection, or another thing of the user's, depends on.

    They are those of its class and the bases, what these import of the same directory, and what that imports: a constant
    counts as code does. Of NanoML itself only what a class imports counts, not all that stands behind it.
    """
    files = {Path(source) for cls in type(thing).__mro__[:-1] if (source := inspect.getsourcefile(cls))}
    first = Path(inspect.getsourcefile(type(thing)) or "")
    is_ours = first.parent == Path(__file__).parent
    waiting = [first] if is_ours else [path for path in files if path.parent == first.parent]
    while waiting:
        for path in _imported(waiting.pop()):
            if path not in files:
                files.add(path)
                waiting += [] if is_ours else [path]
    return sorted(files)


def _imported(file: Path) -> Iterator[Path]:
    """What a file imports of its own directory."""
    if not file.is_file():  # of a notebook, say
        return
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        for name in names:
            path = file.parent / f"{name.rpartition('.')[2]}.py"
            if path.is_file():
                yield path
