"""Imports files and modules of users, and notes what their code touches while a task is done.

These are the files it opens, the modules it imports, the directories it lists and the environment variables it reads. Code is
the user's if the innermost frame outside Python's library and installed packages is not NanoML's. Compiled libraries open
files unseen: these files are registered (`Selection.file`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import json
import multiprocessing
import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Optional

from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.dependencies import code_of, imports_of, is_our_file, is_ours
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.terminal.progress import say_once

FILE, FOLDER, VARIABLE = "file", "folder", "variable"
_MADE = "made"  # files that were written
_SPOOL = "NANOML_OBSERVED"  # the file to which processes that a task starts add what they note
_LISTED = ("os.listdir", "os.scandir")
# what differs from one machine or job to the next
_OF_MACHINE = re.compile(
    "_CONDOR_.*|SLURM_.*|NANOML_.*|XDG_.*|LC_.*|LANG|TMPDIR|TMP|TEMP|TERM|COLUMNS|LINES|HOME|PWD|OLDPWD|USER|LOGNAME|HOSTNAME|SHELL|DISPLAY"
    "|NO_COLOR|FORCE_COLOR|X509_.*|KRB5.*|(OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS|PYTEST_.*|MPL.*|CUDA_VISIBLE_DEVICES"
)
_COMPILED = ("onnxruntime", "h5py", "correctionlib", "ROOT")

_Key = tuple[str, str]
_seen: Optional[set[_Key]] = None  # of the task that is done now
_spool: Optional[str] = None  # in a process that a task has started
_selections: set[str] = set()  # the modules of selections that it uses
_registered: set[str] = set()
# what modules of users touched when they were imported, which happens once in a process
_at_import: dict[str, set[_Key]] = {}
_importing = 0
_is_installed = False
_import_module = importlib.import_module


@contextmanager
def observed() -> Iterator[dict[str, Optional[str]]]:
    """Note what user code touches; the mapping has it at the end, with its `state`."""
    global _seen, _spool
    _install()
    _selections.clear()
    _registered.clear()
    found: dict[str, Optional[str]] = {}
    before = _seen, _spool, os.environ.get(_SPOOL)
    _seen, _spool = set(), None
    with tempfile.NamedTemporaryFile("r", prefix="nanoml-observed-", encoding="utf-8") as spool:
        os.environ[_SPOOL] = spool.name
        try:
            yield found
        finally:
            seen, (_seen, _spool, outer) = _seen, before
            os.environ.pop(_SPOOL)
            if outer is not None:
                os.environ[_SPOOL] = outer
            seen |= {(kind, name) for kind, name in map(json.loads, spool)}
    for module in _selections if not _registered else ():
        _warn_of_unseen(module)
    keys = (f"{kind} {name}" for kind, name in sorted(seen) if kind != _MADE and (_MADE, name) not in seen)
    found.update((key, state(key)) for key in keys)


def imported(make: Callable[[], ModuleType], is_selection: bool) -> ModuleType:
    """A module of the user, from what imports it: what its import touched counts for all tasks that use it."""
    global _importing
    _install()
    _importing += 1
    try:
        module = make()
    finally:
        _importing -= 1
    if is_selection:
        _selections.add(module.__name__)
    for key in _behind(module.__name__):
        if key != (FILE, os.path.abspath(str(module.__file__))):  # its code counts as it is
            _note(*key, sys._getframe(1))
    return module


def _behind(module: str) -> Iterator[_Key]:
    """The files of a user's module and of those that it imports, and what their imports touched, be it for another task."""
    waiting, done = [module], set[str]()
    while waiting:
        name = waiting.pop()
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is None or name in done or is_ours(name) or _is_library(path):
            continue
        done.add(name)
        yield FILE, os.path.abspath(path)
        yield from tuple(_at_import.get(name, ()))  # which may grow meanwhile
        with suppress(ImportError, OSError, SyntaxError):
            for level, place, wanted in imports_of(Path(path)):
                if level:
                    place = importlib.util.resolve_name("." * level + place, sys.modules[name].__package__ or "")
                waiting += itertools.accumulate(f"{place}.{wanted}".split("."), "{}.{}".format)


def register(path: str) -> None:
    """Note that a file is read by what opens it unseen."""
    _registered.add(path)
    _note(FILE, os.path.abspath(path), sys._getframe(1))


def state(key: str) -> Optional[str]:
    """The present state of a file, a list of a directory or a variable, as a hash; None if it is not there."""
    kind, _, name = key.partition(" ")
    try:
        if kind == VARIABLE:
            content = os.environ[name].encode(errors="surrogateescape")
        elif kind == FOLDER:
            content = "\0".join(sorted(os.listdir(name))).encode(errors="surrogateescape")
        elif name.endswith(".py"):
            # a comment does not count
            return code_of(Path(name), only_own=True) if os.path.isfile(name) else None
        else:
            return file_hash(name)
    except (KeyError, OSError):
        return None
    return hashlib.sha256(content).hexdigest()


@functools.lru_cache
def _warn_of_unseen(module: str) -> None:
    """Say where a selection, none of whose files is registered, imports a library that opens files unseen."""
    path = sys.modules[module].__file__
    if path is None or is_ours(module):
        return
    for node in ast.walk(ast.parse(Path(path).read_bytes())):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for library in (name.partition(".")[0] for name in names):
            if library in _COMPILED:
                what = f"{library} opens files unseen: name each by self.file(PATH), so that a change of it counts."
                say_once(f"{path}: {library}", f"WARNING {path}:{node.lineno}: {what}")


def _note(kind: str, name: str, frame: Optional[FrameType] = None) -> None:
    """Note something that the user's code in a frame touches, for the task and for the module that is just imported."""
    key = kind, name
    while frame is not None and not (frame.f_code.co_name == "<module>" and _users(frame) is frame):
        frame = frame.f_back
    if frame is not None:
        _at_import.setdefault(frame.f_globals["__name__"], set()).add(key)
    if _seen is not None and key not in _seen:
        _seen.add(key)
        if _spool is not None:
            with open(_spool, "a", encoding="utf-8") as file:
                file.write(json.dumps(key) + "\n")


class _Environment(type(os.environ)):  # type: ignore[misc]  # its class has no public name
    """The environment, which notes what user code asks for."""

    def __getitem__(self, key: str) -> str:
        if isinstance(key, str) and not _OF_MACHINE.fullmatch(key) and _is_watched():
            frame = _users(sys._getframe(1))
            if frame is not None:
                _note(VARIABLE, key, frame)
        return str(super().__getitem__(key))


class _Observer:
    """It is part of what multiprocessing hands to a process, and observes that from its beginning."""

    def __init__(self, spool: Optional[str] = None) -> None:
        if spool is not None:
            os.environ[_SPOOL] = spool
        _install()

    def __reduce__(self) -> tuple[type[_Observer], tuple[Optional[str]]]:
        return _Observer, (os.environ.get(_SPOOL),)


def _install() -> None:
    global _is_installed
    if not _is_installed:
        _is_installed = True
        is_our_file(Path(os.path.abspath(__file__))), _libraries()  # to find them is heard, too
        sys.addaudithook(_hear)
        os.environ.__class__ = _Environment
        importlib.import_module = _import_for_users
        multiprocessing.current_process()._config["nanoml"] = _Observer()  # type: ignore[attr-defined]
        os.register_at_fork(after_in_child=_begin)
        _begin()


def _begin() -> None:
    """In a process that a task has started, add what is noted to what the task touches."""
    global _seen, _spool
    _spool = os.environ.get(_SPOOL)
    _seen = None if _spool is None else set()


def _is_watched() -> bool:
    return _seen is not None or _importing > 0


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event not in ("open", *_LISTED) or not _is_watched() or not isinstance(arguments[0], (str, bytes)):
        return
    path, is_module = os.path.abspath(os.fsdecode(arguments[0])), False
    if event == "open":
        if isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            _note(_MADE, path)
            return
        is_module = path.endswith((".py", ".pyc"))
        if path.endswith(".pyc"):
            folder, name = os.path.split(path)
            path = os.path.join(os.path.dirname(folder), f"{name.partition('.')[0]}.py")
    frame = None if _is_library(path) else _users(sys._getframe(1), is_module)
    if frame is not None and not is_our_file(Path(os.path.realpath(path))):
        _note(FOLDER if event in _LISTED else FILE, path, frame)


@functools.wraps(_import_module)  # it is Python's, not NanoML's: no job may ask for it
def _import_for_users(name: str, package: Optional[str] = None) -> ModuleType:
    """`importlib.import_module`, which notes what the user imports by name, even if that was imported before."""
    module, frame = _import_module(name, package), _users(sys._getframe(1)) if _is_watched() else None
    for key in _behind(module.__name__) if frame is not None else ():
        _note(*key, frame)
    return module


def _users(frame: Optional[FrameType], is_import: bool = False) -> Optional[FrameType]:
    """The first frame that is no library's, if it is the user's; the machinery of imports itself does not count."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            if not is_import:
                return None
        elif not name.startswith("<") and not _is_library(name):
            return None if is_ours(str(frame.f_globals.get("__name__", ""))) else frame
        frame = frame.f_back
    return None


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


def load_module(what: str, place: str, prefix: str, base: str | os.PathLike[str] = ".") -> ModuleType:
    """Import a user's `place`: a file.py, relative to the directory `base`, or a module on the import path or in `base`.

    Raises ConfigError, which begins with `what`, if there is no such file or module, or it fails.
    """
    path = file_of(what, place, base) if place.endswith(".py") else None
    try:
        with importable(Path(base)) if path is None else nullcontext():
            make = partial(importlib.import_module, place) if path is None else partial(import_file, path, prefix)
            return imported(make, prefix == "nanoml_selection")
    except Exception as problem:
        raise _import_failed(what, problem) from problem


def file_of(what: str, place: str, base: str | os.PathLike[str] = ".") -> Path:
    """Where `load_module` finds a user's `place`, without importing it; a ConfigError as from there."""
    path = Path(base, place)
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"{what}: {path}: no such file.")
        return path
    importlib.invalidate_caches()
    with importable(Path(base)), suppress(ModuleNotFoundError):  # one of its packages
        spec = importlib.util.find_spec(place)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    raise ConfigError(f"{what}: there is no module {place} on the import path or in {base}.")


def import_file(path: Path, prefix: str) -> ModuleType:
    """Import a Python file that is not on the import path, once; it may import helpers beside it.

    The name of the module is `prefix` and the path of the file.
    """
    name = "_".join((prefix, *path.resolve().with_suffix("").parts[1:]))
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def importable(directory: Path) -> Iterator[None]:
    """Put a directory at the end of the import path, for helpers beside a user's file."""
    path = str(directory.resolve())
    sys.path.append(path)
    try:
        yield
    finally:
        sys.path.remove(path)


def _import_failed(what: str, problem: Exception) -> ConfigError:
    where = ""
    if isinstance(problem, SyntaxError):
        where = f" ({problem.filename}:{problem.lineno})"
    elif problem.__traceback__ is not None:
        last = inspect.getinnerframes(problem.__traceback__)[-1]
        where = f" ({last.filename}:{last.lineno})" if "importlib" not in last.filename else ""
    return ConfigError(f"{what}: cannot be imported: {type(problem).__name__}: {problem}{where}.")
