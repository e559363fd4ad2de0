"""Notes what code of users touches while a task is done.

These are the files it opens or looks for, the modules it imports, the directories it lists and the environment variables it reads,
as they are when it first touches them. Code is the user's if the innermost frame outside Python's library and installed packages
is not NanoML's. Compiled libraries and other programs open files unseen: these files are registered (`Selection.file`).
What user code read while a task was done, it may have kept in a variable: the next task imports it anew.
"""

from __future__ import annotations

import fcntl
import functools
import glob
import hashlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, MappingProxyType, ModuleType
from typing import Any, Optional, Union

from MLTools.NanoML.atomic import file_hash, file_version
from MLTools.NanoML.dependencies import code_of, is_our_file
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.observing import whose

FILE, FOLDER, VARIABLE = "file", "folder", "variable"
GLOB, PATHS = "glob", "paths"  # what a pattern matches, of `glob` and of `pathlib`, which also matches hidden files
PRESENCE = "presence"  # whether there is a file or directory
_MADE = "made"  # files that were written
_SPOOL = "NANOML_OBSERVED"  # the file to which processes that a task starts add what they note
_PREFIX = "nanoml-touched-"
_LISTED = ("os.listdir", "os.scandir")
_GLOB = "glob.glob/2" if sys.version_info >= (3, 10) else "glob.glob"
_PATTERNS = {_GLOB: GLOB, "pathlib.Path.glob": PATHS, "pathlib.Path.rglob": PATHS}
_PROGRAMS = ("subprocess.Popen", "os.system", "os.posix_spawn")
_HEARD = {"open", "os.mkdir", "sqlite3.connect", *_LISTED, *_PATTERNS, *_PROGRAMS}
# what differs from one machine, job or login to the next
_OF_MACHINE = re.compile(
    "_CONDOR_.*|SLURM_.*|NANOML_.*|XDG_.*|LC_.*|LANG|TMPDIR|TMP|TEMP|TERM|COLUMNS|LINES|HOME|PWD|OLDPWD|USER|LOGNAME|HOSTNAME|SHELL|DISPLAY"
    "|NO_COLOR|FORCE_COLOR|X509_.*|KRB5.*|(OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS|PYTEST_.*|MPL.*|CUDA_VISIBLE_DEVICES"
    "|SSH_.*|SHLVL|_|TMUX.*|STY|TERM_.*|COLORTERM|LS_COLORS|WINDOWID|DBUS_.*|GPG_.*|VSCODE_.*|MAIL|HIST.*"
)
SECRET = re.compile(".*(TOKEN|PASSW|SECRET|KEY|CREDENTIAL|X509_).*", re.IGNORECASE)
"""Variables that may be secrets, by name: that they are there is noted, and nothing of what they are."""

_Key = tuple[str, str]
_First = Union[str, tuple[int, ...], None]
"""What something was when it was first touched: the version of a file, the state of anything else; () if that is not looked at."""
_UNCHECKED: _First = ()
_seen: Optional[dict[_Key, _First]] = None  # of the task that is done now
_spool: Optional[str] = None  # in a process that a task has started
_selections: set[str] = set()  # the modules of selections that it uses
_registered: set[str] = set()
# what modules of users touched when they were imported, which happens once in a process until they are forgotten
_at_import: dict[str, dict[_Key, _First]] = {}
_loaded: set[str] = set()  # modules of users that NanoML, or their own code by name, has imported
_sources: dict[str, Optional[str]] = {}  # the code of their files when tasks were planned, or they were first imported
_may_keep = False  # whether their code has read what it may have kept
_importing = 0
_is_installed = False
_import_module = importlib.import_module


@contextmanager
def observed(planned: Optional[Mapping[str, Optional[str]]] = None) -> Iterator[dict[str, Optional[str]]]:
    """Note what user code touches; the mapping has it at the end, with its `state`.

    In a process that has not planned the task, `planned` are the `sources` of the one that has.

    Raises NanoMLError at the end if a file that it has read was changed since: the result may belong to either content.
    """
    global _seen, _spool
    _install()
    _forget()
    _sources.update(planned or {})
    _selections.clear()
    _registered.clear()
    found: dict[str, Optional[str]] = {}
    before = _seen, _spool, os.environ.get(_SPOOL)
    _seen, _spool = {}, None
    with tempfile.NamedTemporaryFile("r", prefix=_PREFIX, encoding="utf-8") as spool:
        fcntl.flock(spool, fcntl.LOCK_SH)  # it is in use
        os.environ[_SPOOL] = spool.name
        try:
            yield found
        finally:
            seen, (_seen, _spool, outer) = _seen, before
            os.environ.pop(_SPOOL)
            if outer is not None:
                os.environ[_SPOOL] = outer
            for kind, name, first in map(json.loads, spool):
                seen.setdefault((kind, name), tuple(first) if isinstance(first, list) else first)
    for module in whose.modules_behind(*(_selections and _selections | _loaded)):
        whose.warn_of_unseen(module, bool(_registered))
    for (kind, name), first in sorted(seen.items(), key=lambda it: it[0]):
        if kind == _MADE or (_MADE, name) in seen or (kind == PRESENCE and (FILE, name) in seen):
            continue
        if kind == FILE and first not in (_UNCHECKED, _first(FILE, name)):
            raise NanoMLError(f"{name}: was changed while your code read it. Run the same command again.")
        key = f"{kind} {name}"
        found[key] = state(key) if kind == FILE else first if isinstance(first, str) else None


def as_planned(path: Path) -> Path:
    """A file of the user, noted as it is now unless a task is done: tasks that are planned are to import no other."""
    if _seen is None:
        _sources[os.path.abspath(path)] = state(f"{FILE} {os.path.abspath(path)}")
    return path


def sources() -> dict[str, Optional[str]]:
    """The code of users' modules when tasks were planned."""
    return dict(_sources)


def _forget() -> None:
    """Let the next task import modules of users anew, if they may have kept what they read, or that has changed."""
    global _may_keep
    read = [item for touched in _at_import.values() for item in touched.items()]
    if _may_keep or any(first not in (_UNCHECKED, _first(*key)) for key, first in read):
        for name in [*whose.modules_behind(*_loaded)]:
            sys.modules.pop(name, None)
        _loaded.clear()
        _at_import.clear()
    _may_keep = False


def _first(kind: str, name: str) -> _First:
    """What something is now, as far as it takes no reading of files."""
    if kind != FILE:
        return state(f"{kind} {name}")
    with suppress(OSError):
        return file_version(name)
    return None


def _remove_spools() -> None:
    """Remove what killed runs have left: nobody holds it."""
    for path in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), f"{_PREFIX}*")):
        with suppress(OSError), open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mtime < time.time() - 60:  # [s]: by then, who has made it holds it
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)


def imported(make: Callable[[], ModuleType], is_selection: bool) -> ModuleType:
    """A module of the user, from what imports it: what its import touched counts for all tasks that use it."""
    global _importing, _may_keep
    _install()
    _importing += 1
    try:
        module = make()
    finally:
        _importing -= 1
    own = os.path.abspath(str(module.__file__))
    now = state(f"{FILE} {own}") if _seen is None or module.__name__ not in _loaded else None
    if _seen is None:
        _may_keep = True  # what its code reads outside of tasks is not noted
        _sources[own] = now
    if module.__name__ not in _loaded:
        if _sources.setdefault(own, now) != now:
            raise NanoMLError(f"{own}, or what it names, was changed after this was planned: run or submit it again.")
        _loaded.add(module.__name__)
    if is_selection:
        _selections.add(module.__name__)
    for key, first in _behind(module.__name__):
        if key != (FILE, own):  # its code counts as it is
            _note(*key, sys._getframe(1), first)
    return module


def _behind(module: str) -> Iterator[tuple[_Key, _First]]:
    """The files of a user's module and of those that it imports, and what their imports touched, be it for another task."""
    for name in [*whose.modules_behind(module)]:
        key = FILE, os.path.abspath(str(sys.modules[name].__file__))
        yield key, _first(*key)
        yield from tuple(_at_import.get(name, {}).items())  # which may grow meanwhile


def state_of(variable: str, value: str) -> str:
    """The state of a variable with a value."""
    content = "" if SECRET.fullmatch(variable) else value
    return hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()


def variables() -> dict[str, str]:
    """The states of the variables of this process, but for those of its machine."""
    return {name: state_of(name, it) for name, it in os.environ.items() if not _OF_MACHINE.fullmatch(name)}


def variables_at_import() -> set[str]:
    """The variables that modules of users have read when they were imported."""
    return {name for touched in _at_import.values() for kind, name in touched if kind == VARIABLE}


def register(path: str) -> None:
    """Note that a file is read by what opens it unseen."""
    _registered.add(path)
    _note(FILE, os.path.abspath(path), sys._getframe(1))


def state(key: str) -> Optional[str]:
    """The present state of a file, a list of a directory or a variable, as a hash; None if it is not there."""
    kind, _, name = key.partition(" ")
    try:
        if kind == VARIABLE:
            return state_of(name, os.environ[name])
        if kind == PRESENCE:
            return "directory" if os.path.isdir(name) else "file" if os.path.exists(name) else None
        if kind in (FOLDER, GLOB, PATHS):
            found = os.listdir(name) if kind == FOLDER else _matches(kind, name)
            content = "\0".join(sorted(found)).encode(errors="surrogateescape")
        elif name.endswith(".py"):
            return code_of(Path(name), only_own=True) if os.path.isfile(name) else None  # a comment does not count
        else:
            return file_hash(name)
    except (KeyError, OSError, ConfigError):
        return None
    return hashlib.sha256(content).hexdigest()


def _matches(kind: str, pattern: str) -> Iterator[str]:
    """What an absolute pattern matches, relative to its first directories."""
    parts = Path(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    base, rest = os.path.join(*parts[:fixed]), os.path.join(*parts[fixed:])
    found = glob.glob(pattern, recursive=True) if kind == GLOB else map(str, Path(base).glob(rest))
    return (os.path.relpath(path, base) for path in found)


def _note(kind: str, name: str, frame: Optional[FrameType] = None, first: _First = "") -> bool:
    """Note something that the user's code in a frame touches, for the task and for the module that is just imported, if one is.

    What it is now is found out, unless it is known from its `first` touch.
    """
    key = kind, name
    importer = whose.importing(frame)
    module = _at_import.setdefault(importer, {}) if importer is not None else None
    places = [it for it in (module, _seen) if it is not None and key not in it]
    if places and first == "":
        first = _UNCHECKED if kind == _MADE else _first(kind, name)
    for place in places:
        place[key] = first
    if _spool is not None and any(it is _seen for it in places):
        with open(_spool, "a", encoding="utf-8") as file:
            file.write(json.dumps([kind, name, first]) + "\n")
    return module is not None


def _touch(kind: str, name: str, frame: FrameType, first: _First = "") -> None:
    """Note what the user's code in a frame touches now; it may keep what it reads after its import."""
    global _may_keep
    is_at_import = _note(kind, name, frame, first)
    _may_keep |= not is_at_import and kind != _MADE


class _Environment(type(os.environ)):  # type: ignore[misc]  # its class has no public name
    """The environment, which notes what user code asks for."""

    def __getitem__(self, key: Any) -> Any:
        name = os.fsdecode(key) if isinstance(key, (str, bytes)) else "_"
        if not _OF_MACHINE.fullmatch(name) and _is_watched():
            frame = whose.users(sys._getframe(1))
            # who starts a program asks for the PATH
            if frame is not None and (name != "PATH" or {"PATH", b"PATH"} & {*frame.f_code.co_consts}):
                _touch(VARIABLE, name, frame)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if (
            _seen is not None
            and (VARIABLE, os.fsdecode(key)) not in _seen
            and whose.users(sys._getframe(1)) is not None
        ):
            _note(_MADE, os.fsdecode(key))
        super().__setitem__(key, value)


class _Observer:
    """It is part of what multiprocessing hands to a process, observes that from its beginning, and finds the user's modules there."""

    def __init__(self, spool: Optional[str] = None, places: Mapping[str, str] = MappingProxyType({})) -> None:
        if spool is not None:
            os.environ[_SPOOL] = spool
        _install()
        self._places = places
        sys.meta_path.append(self)

    def __reduce__(self) -> tuple[type[_Observer], tuple[Optional[str], dict[str, str]]]:
        places = {name: str(sys.modules[name].__file__) for name in whose.modules_behind(*_loaded)}
        return _Observer, (os.environ.get(_SPOOL), places)

    def find_spec(self, name: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        """Where a module of the user is that is found nowhere else."""
        return importlib.util.spec_from_file_location(name, self._places[name]) if name in self._places else None


def _install() -> None:
    global _is_installed
    if not _is_installed:
        _is_installed = True
        is_our_file(Path(os.path.abspath(__file__))), whose.libraries()  # to find them is heard, too
        _remove_spools()
        sys.addaudithook(_hear)
        os.environ.__class__ = os.environb.__class__ = _Environment
        _look_out()
        importlib.import_module = _import_for_users
        multiprocessing.current_process()._config["nanoml"] = _Observer()  # type: ignore[attr-defined]
        os.register_at_fork(after_in_child=_begin)
        _begin()


def _begin() -> None:
    """In a process that a task has started, add what is noted to what the task touches."""
    global _seen, _spool
    _spool = os.environ.get(_SPOOL)
    _seen = None if _spool is None else {}


def _is_watched() -> bool:
    return _seen is not None or _importing > 0


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _HEARD or not _is_watched():
        return
    if event in _PROGRAMS:
        whose.warn_of_program(sys._getframe(1))
        return
    if event in _PATTERNS:
        # `glob` may have a directory to begin in, and since Python 3.10 says so
        start, pattern = arguments if event != _GLOB else ((*arguments, "")[2] or "", arguments[0])
        deep = "**" if event == "pathlib.Path.rglob" else ""
        path = os.path.join(glob.escape(os.path.abspath(os.fsdecode(start))), deep, os.fsdecode(pattern))
    elif not isinstance(arguments[0], (str, bytes, os.PathLike)) or arguments[0] == ":memory:":
        return
    else:
        path = os.path.abspath(os.fsdecode(arguments[0]))
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
    if event == "os.mkdir" or flags & (os.O_CREAT | os.O_TRUNC) or flags & os.O_ACCMODE == os.O_WRONLY:
        _note(_MADE, path)
        return
    first: _First = _UNCHECKED if event == "sqlite3.connect" or flags & os.O_RDWR else ""
    if event == "open" and path.endswith(".pyc"):
        folder, name = os.path.split(path)
        path = os.path.join(os.path.dirname(folder), f"{name.partition('.')[0]}.py")
    # what the machinery of imports opens itself: a module, a zip file of them, or a file that `pkgutil.get_data` wants
    is_import = event == "open" and sys._getframe(1).f_code.co_filename.startswith(("<frozen importlib", "<frozen zip"))
    frame = None if whose.is_library(path) else whose.users(sys._getframe(1), is_import)
    if frame is None or (event in _LISTED and whose.is_matching(frame)) or is_our_file(Path(os.path.realpath(path))):
        return
    _touch(_PATTERNS.get(event) or (FOLDER if event in _LISTED else FILE), path, frame, first)


@functools.wraps(_import_module)  # it is Python's, not NanoML's: no job may ask for it
def _import_for_users(name: str, package: Optional[str] = None) -> ModuleType:
    """`importlib.import_module`, which notes what the user imports by name, even if that was imported before."""
    module, frame = _import_module(name, package), whose.users(sys._getframe(1)) if _is_watched() else None
    if frame is not None and getattr(module, "__file__", None):
        _loaded.add(module.__name__)
        for key, first in _behind(module.__name__):
            _note(*key, frame, first)
    return module


def _look_out() -> None:
    """Hear of it when user code asks whether there is a file, or starts a thread, of which Python tells no audit hook."""
    whose.mark_threads(_is_watched)

    def heard(ask: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(ask)
        def asked(path: Any, *arguments: Any, **options: Any) -> Any:
            if _is_watched() and isinstance(path, (str, bytes, os.PathLike)) and options.get("dir_fd") is None:
                frame, place = whose.users(sys._getframe(1)), os.path.abspath(os.fsdecode(path))
                if frame is not None and not (
                    whose.is_library(place) or is_our_file(Path(place)) or whose.is_matching(frame)
                ):
                    _touch(PRESENCE, place, frame)
            return ask(path, *arguments, **options)

        for able in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if ask in able:
                able.add(asked)
        return asked

    os.stat, os.access, os.path.lexists = heard(os.stat), heard(os.access), heard(os.path.lexists)
    accessor = getattr(pathlib, "_NormalAccessor", None)  # until Python 3.10
    if accessor is not None:
        accessor.stat = staticmethod(os.stat)
