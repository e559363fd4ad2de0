"""The code that a result depends on: the modules that make it and everything that these import, compared by their syntax.

A module depends on those that it imports, even if only in a function, and on files beside it that it names in a string,
such as a table. Comments, docstrings, blank lines and code for type checkers do not count; of NanoML, nor do the words
of messages, and modules that cannot change a number (`_NO_MATTER`). If a package only re-exports names of its modules,
importing a name from it means importing it from the module. Other packages are not followed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import json
import re
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from MLTools.NanoML.atomic import cache_directory, write_json
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.extending import OWN, installed

_FILE = re.compile(r"[\w-]+(\.[\w-]+)+")
# terminal, processes, configuration, access to files: what they hand to a kernel are its job and its files; and what only draws
_NO_MATTER = tuple(
    f"MLTools.NanoML.{name}"
    for name in (
        "atomic", "batch", "config", "dependencies", "errors", "extending", "grid", "installation", "loading", "observing", "parallel",
        "report.figures", "rootio.remote", "schema.document", "schema.roles", "schema.settings", "stages", "terminal", "workflow",
    )
)  # fmt: skip
FIGURES = "MLTools.NanoML.report.figures"
"""What draws, for the code of a stage that does nothing else."""
_SAID = ("say", "say_once", "progress", "listed", "plural")
_PACKAGES = ("MLTools.NanoML", "data_processing", "ML_processing", "statistical_analysis")
_Root = Union[str, Path]


def code_of(*roots: _Root, only_own: bool = False) -> str:
    """A hash of the code behind some modules of NanoML and files of the user: as long as it is the same, so are the results.

    With `only_own`, what modules of NanoML depend on is left out. Raises ConfigError if a file of the user is not Python.
    """
    syntaxes = _known()
    modules = {
        name: syntaxes.of(path).hash if path.suffix == ".py" else _sha256(path.read_bytes())
        for name, path in files_behind(*roots, only_own=only_own).items()
    }
    code = _sha256(json.dumps(sorted(modules.items())).encode())
    syntaxes.note(code, modules)
    syntaxes.write()
    return code


def source_of(thing: object) -> Path:
    """The file with a class of the user, or with that of a selection or another object.

    Raises TypeError or OSError if it is in no file, since it was typed in interactively.
    """
    return Path(inspect.getfile(thing if isinstance(thing, type) else type(thing)))


def changed(before: str, now: str) -> list[str]:
    """The modules in which two codes differ; none if a code is not known here, because it is from another user."""
    syntaxes = _known()
    old, new = syntaxes.noted(before), syntaxes.noted(now)
    return [name for name in {**new, **old} if old.get(name) != new.get(name)] if old and new else []


def files_behind(*roots: _Root, only_own: bool = False) -> dict[str, Path]:
    """The files behind some modules, by the names of the modules; these modules themselves come first.

    Raises ModuleNotFoundError if there is no such module of NanoML.
    """
    syntaxes = _known()
    syntaxes.look_again()
    found: dict[Path, str] = {}
    followed: set[Path] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [_first(root, syntaxes) for root in reversed(roots)]
    while waiting:
        place = waiting.pop()
        if place.path not in found:
            name = place.name
            # two helpers may have the same name, each beside the file that imports it
            while name in found.values():
                name += "'"
            found[place.path] = name
        if place.is_followed and place.path not in followed and place.path.suffix == ".py":
            followed.add(place.path)
            behind = _behind(place, syntaxes, seen)
            waiting += [each for each in behind if not (is_ours(each.name) if only_own else _cannot_matter(each.name))]
    return {name: path for path, name in found.items()}


class _Place(NamedTuple):
    """A file, the name of its module, and whether its imports count."""

    path: Path
    name: str
    is_followed: bool = True


def _first(root: _Root, syntaxes: _Syntaxes) -> _Place:
    if isinstance(root, Path):
        path = root.resolve()
        for package, directory in _directories().items():
            if directory in path.parents:
                return _Place(path, ".".join([package, *path.relative_to(directory).with_suffix("").parts]))
        return _Place(path, root.name)
    found = syntaxes.module(root)
    if found is None:
        raise ModuleNotFoundError(f"No module named {root!r}", name=root)
    return _Place(found, root)


@functools.cache
def is_ours(module: str) -> bool:
    """Whether a module is NanoML's or of an extension, by its name."""
    return f"{module}.".startswith(tuple(f"{name}." for name in (*_PACKAGES, *installed().values())))


def is_our_file(path: Path) -> bool:
    """Whether a file, with its real path, is one of NanoML's packages."""
    return any(directory in path.parents for directory in _directories().values())


def imports_of(path: Path) -> list[tuple[int, str, str]]:
    """The imports in a file, also those in functions (see `_Syntax`)."""
    return _known().of(path).imports


@functools.cache
def _cannot_matter(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in _NO_MATTER)


def _behind(place: _Place, syntaxes: _Syntaxes, seen: set[tuple[str, str]]) -> Iterator[_Place]:
    """The modules that a file imports and the tables that it names.

    Modules of NanoML that were `seen` before are left out; new ones are added to it.
    """
    syntax = syntaxes.of(place.path)
    for text in syntax.texts:
        if (place.path.parent / text).is_file():
            yield _Place(place.path.parent / text, text)
    for level, module, name in syntax.imports:
        if level and is_ours(place.name):  # of an extension: a module of the core names all by its whole name
            package = place.name if place.path.name == "__init__.py" else place.name.rpartition(".")[0]
            level, module = 0, importlib.util.resolve_name("." * level + module, package)
        if is_ours(module):
            if (module, name) not in seen:
                seen.add((module, name))
                yield from _imported(module, name, syntaxes)
        elif not is_ours(place.name):
            for wanted in filter(None, (module, f"{module}.{name}".strip("."))):
                yield from _beside(place.path, level, wanted)


def _imported(module: str, name: str, syntaxes: _Syntaxes) -> Iterator[_Place]:
    """The files behind `from module import name`, if that is NanoML's: the module that defines it, and the packages around that."""
    path = syntaxes.module(module)
    if path is None:
        return
    inner = syntaxes.module(f"{module}.{name}") if name and path.name == "__init__.py" else None
    if inner is not None:
        path, module = inner, f"{module}.{name}"
    elif path.name == "__init__.py" and name in (exports := syntaxes.of(path).exports):
        yield _Place(path, module, False)
        yield from _imported(*exports[name], syntaxes)
        return
    yield _Place(path, module)
    while "." in module:
        module = module.rpartition(".")[0]
        package = syntaxes.module(module)
        if package is not None:
            yield _Place(package, module, not syntaxes.of(package).exports)


def _module(name: str) -> Optional[Path]:
    """The file of a module of NanoML; None if there is no such module."""
    for package, directory in _directories().items():
        if name == package:
            return directory / "__init__.py"
        if name.startswith(f"{package}."):
            place = directory.joinpath(*name[len(package) + 1 :].split("."))
            for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                if path.is_file():
                    return path
    return None


@functools.cache
def _directories() -> dict[str, Path]:
    """The folders of NanoML's packages and of extensions; one inside of another comes first."""
    place = Path(__file__).resolve().parent
    found = {OWN: (place / "extensions").resolve(), _PACKAGES[0]: place}
    for part in (*_PACKAGES[1:], *installed().values()):
        spec = importlib.util.find_spec(part)
        if spec is not None and spec.origin:
            found[part] = Path(spec.origin).resolve().parent
    return found


def _beside(path: Path, level: int, name: str) -> Iterator[_Place]:
    """A module that a user's file imports from its directory or package; an installed file, only from its own package."""
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    own = path.relative_to(top).parts[0].partition(".")[0]
    if not level and top in _installed() and name.partition(".")[0] != own:
        return
    place = (path.parents[level - 1] if level else top).joinpath(*name.split("."))
    packages = [each / "__init__.py" for each in (place, *place.parents) if top in each.parents]
    for file in (place.with_name(f"{place.name}.py"), *packages):
        if file.is_file():
            yield _Place(file, str(file.relative_to(top)))


@functools.cache
def _installed() -> frozenset[Path]:
    return frozenset(Path(path).resolve() for path in sysconfig.get_paths().values())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


class _Syntax(NamedTuple):
    """The part of a module that counts."""

    hash: str
    # number of dots, module and name of `from ..module import name`; no name: the module
    imports: list[tuple[int, str, str]]
    texts: list[str]  # strings that may name a file
    exports: dict[str, tuple[str, str]]  # module and name of each that it re-exports; empty if it does anything else


class _Syntaxes:
    """The syntax of files by their content, kept in the user's cache directory, since parsing takes a second."""

    def __init__(self) -> None:
        self._path = cache_directory() / f"syntax-{_sha256(Path(__file__).read_bytes())}.json"
        self._known: dict[str, Any] = {}
        self._is_new = False
        self._seen: dict[Path, _Syntax] = {}
        self._modules: dict[str, Optional[Path]] = {}
        with suppress(OSError, TypeError, ValueError):
            self._known = dict(json.loads(self._path.read_text(encoding="utf-8")))

    def look_again(self) -> None:
        """Files may have changed."""
        self._seen.clear()
        self._modules.clear()

    def module(self, name: str) -> Optional[Path]:
        if name not in self._modules:
            self._modules[name] = _module(name)
        return self._modules[name]

    def of(self, path: Path) -> _Syntax:
        """The syntax of a file; ConfigError if it is not Python."""
        if path not in self._seen:
            content = path.read_bytes()
            is_our = is_our_file(path)
            key = f"{_sha256(content)}{' of ours' * is_our}"
            if key not in self._known:
                try:
                    self._known[key], self._is_new = _read(content, path, is_our), True
                except SyntaxError as problem:
                    what = f"{type(problem).__name__}: {problem.msg}"
                    raise ConfigError(f"{path}:{problem.lineno}: {what}.") from None
            self._seen[path] = _Syntax(*self._known[key])
        return self._seen[path]

    def note(self, code: str, modules: Mapping[str, str]) -> None:
        """Remember the modules behind a code, with the hash of each."""
        if self._known.get(code) != modules:
            self._known[code], self._is_new = dict(modules), True

    def noted(self, code: str) -> dict[str, str]:
        return self._known.get(code, {})

    def write(self) -> None:
        """Save new entries; without space or a home directory each run only takes a second longer."""
        if self._is_new:
            with suppress(Exception):
                write_json(self._path, self._known)
            self._is_new = False


@functools.cache
def _known() -> _Syntaxes:
    return _Syntaxes()


def _read(content: bytes, path: Path, is_our: bool) -> _Syntax:
    tree = ast.parse(content, str(path))
    imports: list[tuple[int, str, str]] = []
    texts: set[str] = set()
    for node in _nodes(tree):
        is_said = isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and getattr(node.func, "id", "") in _SAID)
        if is_said and is_our:
            _silence(node)
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _FILE.fullmatch(node.value):
            texts.add(node.value)
    return _Syntax(_sha256("".join(_words(tree)).encode()), imports, sorted(texts), _exports(tree))


def _silence(message: ast.AST) -> None:
    """Take the words out of a message."""
    for node in ast.walk(message):
        if isinstance(node, ast.JoinedStr):
            node.values = [each for each in node.values if not isinstance(each, ast.Constant)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""


def _exports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.update({alias.asname or alias.name: (node.module, alias.name) for alias in node.names})
        elif not (_is_text(node) or (isinstance(node, ast.Assign) and _names(node, "__all__"))):
            return {}
    return found


def _names(node: ast.AST, name: str) -> bool:
    return any(isinstance(each, ast.Name) and each.id == name for each in ast.walk(node))


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for _, value in _fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _words(value: object) -> Iterator[str]:
    """A syntax tree as text that is the same in every version of Python, unlike that of `ast.dump`."""
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name, child in _fields(value):
            yield f"{name}="
            yield from _words(child)
        yield ")"
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)
            yield ","
    else:
        yield ascii(value)


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    """The fields of a node, without those that cannot change a result."""
    is_for_types = isinstance(node, ast.If) and _names(node.test, "TYPE_CHECKING")
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            value = [each for each in value if not _is_text(each)]
        is_needless = name in ("ctx", "kind", "type_comment") or (name == "body" and is_for_types)
        if value is not None and value != [] and not is_needless:
            yield name, value


def _is_text(node: object) -> bool:
    """Whether a node is a docstring or another string that is used for nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
