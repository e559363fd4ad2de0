"""Which code is the user's: frames that run it, the modules with it, and where it opens files unseen."""

from __future__ import annotations

import ast
import functools
import importlib.util
import itertools
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Optional

from MLTools.NanoML.dependencies import imports_of, is_ours
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.terminal.progress import say_once

# libraries that open files unseen, and what opens them
_COMPILED = {
    "onnxruntime": ("InferenceSession",),
    "h5py": ("File",),
    "correctionlib": ("from_file",),
    "ROOT": ("TFile", "Open", "RDataFrame"),
}


def users(frame: Optional[FrameType], is_import: bool = False) -> Optional[FrameType]:
    """The first frame that is no library's, if it is the user's; the machinery of imports itself does not count.

    In a thread that the user's code has started, it is the last one if there is none.
    """
    last = frame
    while frame is not None:
        is_machinery = frame.f_code.co_filename.startswith("<frozen importlib") and not is_import
        if is_machinery or is_ours(str(frame.f_globals.get("__name__", ""))):  # installed, it is among the libraries
            return None
        if is_of_user(frame):
            return frame
        last, frame = frame, frame.f_back
    return last if getattr(threading.current_thread(), "_is_of_user", False) else None


def is_of_user(frame: FrameType) -> bool:
    """Whether the code of a frame is in a file that is neither a library's nor NanoML's."""
    name = frame.f_code.co_filename
    return not (name.startswith("<") or is_library(name) or is_ours(str(frame.f_globals.get("__name__", ""))))


@functools.lru_cache(4096)
def is_library(path: str) -> bool:
    """Whether a path is inside of a library, or of the system."""
    return (
        path.startswith((*libraries(), "/proc/", "/sys/", "/dev/", "/usr/", "/etc/", os.path.expanduser("~/.cache/")))
        or "/site-packages/" in path
        or "/dist-packages/" in path
    )


@functools.lru_cache
def libraries() -> tuple[str, ...]:
    """The directories of Python's library, and that of packages where numpy is: a job may have unpacked them anywhere."""
    paths, numpy = sysconfig.get_paths(), importlib.util.find_spec("numpy")
    places = [paths["stdlib"], paths["platstdlib"]]
    places += [os.path.dirname(os.path.dirname(numpy.origin))] if numpy is not None and numpy.origin else []
    return tuple(f"{it}/" for place in places for it in (place, os.path.realpath(place)))


def importing(frame: Optional[FrameType]) -> Optional[str]:
    """The name of the user's module that is just imported, if a frame belongs to its import."""
    while frame is not None and not (_is_importing(frame) and users(frame) is frame):
        frame = frame.f_back
    return frame.f_globals["__name__"] if frame is not None else None


def _is_importing(frame: FrameType) -> bool:
    """Whether a frame imports its module: that of a program, such as the command nanoml, is never imported again."""
    spec = frame.f_globals.get("__spec__")
    return frame.f_code.co_name == "<module>" and getattr(spec, "name", None) == frame.f_globals.get("__name__", "")


def mark_threads(is_watched: Callable[[], bool]) -> None:
    """Let each thread that the user's code starts from now on, while it is watched, count as the user's."""
    start = threading.Thread.start

    @functools.wraps(start)
    def started(thread: threading.Thread) -> None:
        if is_watched() and users(sys._getframe(1)) is not None:
            thread._is_of_user = True  # type: ignore[attr-defined]
        start(thread)

    setattr(threading.Thread, "start", started)  # noqa: B010  # a type checker refuses an assignment


def is_matching(user: FrameType) -> bool:
    """Whether a directory is listed, or a file looked for, to find what matches a pattern, which is noted."""
    frame: Optional[FrameType] = sys._getframe(2)
    while frame is not None and frame is not user:
        place, name = frame.f_code.co_filename, frame.f_code.co_name
        if place.endswith("glob.py") or ("pathlib" in place and name in ("glob", "rglob")):
            return True
        frame = frame.f_back
    return False


def modules_behind(*modules: str) -> Iterator[str]:
    """Modules of the user, if they are here, and those of the user that they import."""
    waiting, done = [*modules], set[str]()
    while waiting:
        name = waiting.pop()
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is None or name in done or is_ours(name) or is_library(path):
            continue
        done.add(name)
        with suppress(ImportError, OSError, ConfigError):
            for level, place, wanted in imports_of(Path(path)):
                if level:
                    place = importlib.util.resolve_name("." * level + place, sys.modules[name].__package__ or "")
                waiting += itertools.accumulate(f"{place}.{wanted}".split("."), "{}.{}".format)
        yield name


@functools.lru_cache
def warn_of_unseen(module: str, has_files: bool) -> None:
    """Say where a selection opens a file by a library that does so unseen, and has not registered it.

    Where no line is found that opens one, but none of its files is registered, it is where the library is imported.
    """
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None or is_ours(module) or not os.path.isfile(path):  # in a zip file
        return
    tree = ast.parse(Path(path).read_bytes())
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and _is_named(node.value)]
    named = {ast.unparse(it) for node in assigned for it in node.targets}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for library in (name.partition(".")[0] for name in names):
            calls = [it for it in ast.walk(tree) if isinstance(it, ast.Call) and it.args and library in _COMPILED]
            opening = [it for it in calls if ast.unparse(it.func).rpartition(".")[2] in _COMPILED[library]]
            unseen = [it for it in opening if not (_is_named(it.args[0]) or ast.unparse(it.args[0]) in named)]
            if unseen or (library in _COMPILED and not opening and not has_files):
                what = f"{library} opens files unseen: name each by self.file(PATH), so that a change of it counts."
                line = min((it.lineno for it in unseen), default=node.lineno)
                say_once(f"{path}: {library}", f"WARNING {path}:{line}: {what}")


def warn_of_program(frame: FrameType) -> None:
    """Say where the user's code starts another program, if a frame does."""
    user = users(frame)
    if user is not None:
        place = f"{user.f_code.co_filename}:{user.f_lineno}"
        say_once(place, f"WARNING {place}: another program opens files unseen: name each by self.file(PATH).")


def _is_named(value: ast.AST) -> bool:
    """Whether an expression registers the file that it is."""
    calls = (it.func for it in ast.walk(value) if isinstance(it, ast.Call))
    return any(isinstance(it, ast.Attribute) and it.attr == "file" for it in calls)
