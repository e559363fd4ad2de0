"""Notes what the code of a user touches while a task is done: files that it opens, modules, directories that it lists, variables.

Of the frames that lead to it, the first that is neither of Python's library nor of an installed package must be the user's, not NanoML's.
Compiled libraries open files unseen: these are registered (`Selection.file`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Optional

from MLTools.NanoML.terminal.progress import say_once

FILE, FOLDER, VARIABLE = "file", "folder", "variable"
_SPOOL = "NANOML_OBSERVED"  # the file to which processes that a task starts add what they note
_LISTED = ("os.listdir", "os.scandir")
# what differs from one machine or job to the next
_OF_MACHINE = re.compile(
    "_CONDOR_.*|SLURM_.*|NANOML_.*|XDG_.*|LC_.*|LANG|TMPDIR|TMP|TEMP|TERM|COLUMNS|LINES|HOME|PWD|OLDPWD|USER|LOGNAME|HOSTNAME|SHELL|DISPLAY"
    "|NO_COLOR|FORCE_COLOR|X509_.*|KRB5.*|(OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS|PYTEST_.*|CUDA_VISIBLE_DEVICES"
)
_COMPILED = ("onnxruntime", "h5py", "correctionlib", "ROOT")

_PACKAGES = ("MLTools.NanoML", "data_processing", "ML_processing", "statistical_analysis")

_Key = tuple[str, str]
_seen: Optional[set[_Key]] = None  # of the task that is done now
_selections: set[str] = set()  # that it uses
_registered: set[str] = set()
# what modules of users touched when they were imported, which happens once in a process
_at_import: dict[str, set[_Key]] = {}
_importing: list[str] = []
_made: set[str] = set()  # files that were written
_is_installed = False
_ours: tuple[str, ...] = ()  # the directories of NanoML's packages
_spool: Optional[str] = None  # in a process that a task has started


@contextmanager
def observed() -> Iterator[dict[str, Optional[str]]]:
    """Note what user code touches; the mapping has it at the end, with its `state`."""
    global _seen
    _install()
    _selections.clear()
    _registered.clear()
    found: dict[str, Optional[str]] = {}
    before, _seen = (_seen, os.environ.get(_SPOOL)), set[_Key]()
    with tempfile.NamedTemporaryFile("r", prefix="nanoml-observed-", encoding="utf-8") as spool:
        os.environ[_SPOOL] = spool.name
        try:
            yield found
        finally:
            seen, _seen = _seen, before[0]
            os.environ.pop(_SPOOL)
            if before[1] is not None:
                os.environ[_SPOOL] = before[1]
            seen |= {(kind, name) for kind, name in map(json.loads, spool)}
    for module in _selections if not _registered else ():
        _warn_of_unseen(module)
    found.update((f"{kind} {name}", state(f"{kind} {name}")) for kind, name in sorted(seen) if name not in _made)


@contextmanager
def importing(name: str, is_selection: bool) -> Iterator[None]:
    """A module or file of the user is imported; what it touches meanwhile counts for all tasks that use it."""
    _install()
    if is_selection:
        _selections.add(name)
    if _importing or name in _at_import:
        yield
    else:
        _at_import[name] = set()
        _importing.append(name)
        try:
            yield
        except BaseException:
            del _at_import[name]
            raise
        finally:
            _importing.remove(name)
    for key in _at_import.get(name, ()):
        _note(*key)


def register(path: str) -> None:
    """Note that a file is read by what opens it unseen."""
    _registered.add(path)
    _note(FILE, os.path.abspath(path))


def state(key: str) -> Optional[str]:
    """What a file, a list of a directory or a variable is now, as a hash; None if it is not there."""
    kind, _, name = key.partition(" ")
    try:
        if kind == VARIABLE:
            content = os.environ[name].encode(errors="surrogateescape")
        elif kind == FOLDER:
            content = "\0".join(sorted(os.listdir(name))).encode(errors="surrogateescape")
        elif name.endswith(".py"):
            from MLTools.NanoML.dependencies import code_of  # a comment does not count

            return code_of(Path(name), only_own=True) if os.path.isfile(name) else None
        else:
            status = os.stat(name)
            return _hash_of(name, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    except (KeyError, OSError):
        return None
    return hashlib.sha256(content).hexdigest()


@functools.lru_cache(1000)
def _hash_of(path: str, version: tuple[int, ...]) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@functools.lru_cache
def _warn_of_unseen(module: str) -> None:
    """Say where a selection, none of whose files is registered, imports a library that opens files unseen."""
    path = module if module.endswith(".py") else getattr(sys.modules.get(module), "__file__", None)
    if path is None or _is_ours(module):
        return
    for node in ast.walk(ast.parse(Path(path).read_bytes())):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for library in (name.partition(".")[0] for name in names):
            if library in _COMPILED:
                what = f"{library} opens files unseen: name each by self.file(PATH), so that a change of it counts."
                say_once(f"{path}: {library}", f"WARNING {path}:{node.lineno}: {what}")


def _note(kind: str, name: str) -> None:
    key = kind, name
    if _importing:
        _at_import[_importing[0]].add(key)
    if _seen is not None:
        _seen.add(key)
    elif _spool is not None:
        with open(_spool, "a", encoding="utf-8") as file:
            file.write(json.dumps(key) + "\n")


class _Environment(type(os.environ)):  # type: ignore[misc]  # its class has no public name
    """The environment, which notes what user code asks for."""

    def __getitem__(self, key: str) -> str:
        if isinstance(key, str) and not _OF_MACHINE.fullmatch(key) and _is_watched() and _is_users(sys._getframe(1)):
            _note(VARIABLE, key)
        return str(super().__getitem__(key))


def _install() -> None:
    global _is_installed, _spool, _ours
    if not _is_installed:
        _is_installed, _spool = True, os.environ.get(_SPOOL)
        specs = [importlib.util.find_spec(name) for name in _PACKAGES]
        places = [place for spec in specs if spec is not None for place in spec.submodule_search_locations or ()]
        _ours = tuple(f"{it}/" for place in places for it in (os.path.abspath(place), os.path.realpath(place)))
        _libraries()  # to find them is heard, too
        sys.addaudithook(_hear)
        os.environ.__class__ = _Environment


def _is_watched() -> bool:
    return _seen is not None or _spool is not None or bool(_importing)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event not in ("open", *_LISTED) or not _is_watched() or not isinstance(arguments[0], (str, bytes)):
        return
    path, is_module = os.path.abspath(os.fsdecode(arguments[0])), False
    if event == "open":
        if isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            _made.add(path)
            return
        is_module = path.endswith((".py", ".pyc"))
        if path.endswith(".pyc"):
            folder, name = os.path.split(path)
            path = os.path.join(os.path.dirname(folder), f"{name.partition('.')[0]}.py")
    if not _is_library(path) and not path.startswith(_ours) and _is_users(sys._getframe(1), is_module):
        _note(FOLDER if event in _LISTED else FILE, path)


def _is_ours(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _PACKAGES)


def _is_users(frame: Optional[FrameType], is_import: bool = False) -> bool:
    """Whether the first frame that is no library's is the user's; the machinery of imports itself does not count."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            if not is_import:
                return False
        elif not name.startswith("<") and not _is_library(name):
            return not _is_ours(str(frame.f_globals.get("__name__", "")))
        frame = frame.f_back
    return False


@functools.lru_cache(4096)
def _is_library(path: str) -> bool:
    return (
        path.startswith((*_libraries(), "/proc/", "/sys/", "/dev/", "/usr/", "/etc/", os.path.expanduser("~/.cache/")))
        or "/site-packages/" in path
        or "/dist-packages/" in path
    )


@functools.lru_cache
def _libraries() -> tuple[str, ...]:
    """The directories of Python's library, and that of packages where numpy is: a job may have unpacked them anywhere."""
    paths, numpy = sysconfig.get_paths(), importlib.util.find_spec("numpy")
    places = [paths["stdlib"], paths["platstdlib"]]
    places += [os.path.dirname(os.path.dirname(numpy.origin))] if numpy is not None and numpy.origin else []
    return tuple(f"{it}/" for place in places for it in (place, os.path.realpath(place)))
