"""Extensions: each is a folder with all of a feature, which the core knows by no name.

An extension is a package with an object `EXTENSION`. NanoML's own are the folders of `extensions/`, imported as
`MLTools.NanoML.extensions.NAME`; others are installed, and name their package under the entry-point group `nanoml.extensions`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Optional, TypeVar

from MLTools.NanoML.errors import NanoMLError, in_words

__all__ = ["Declaration", "Extension", "Resources", "settings_of"]

GROUP = "nanoml.extensions"
"""The entry points of installed extensions: a name, and the package with `EXTENSION`."""

WITHOUT = "NANOML_WITHOUT"
"""The variable with the names of extensions that are hidden, as of `nanoml --without`: with commas, or "all"."""

OWN = "MLTools.NanoML.extensions"
_FOLDER = Path(__file__).parent / "extensions"

T = TypeVar("T")


@dataclass(frozen=True)
class Resources:
    """The needs of a job of its machine."""

    time: int = 3600  # wall time [s]
    memory: int = 2000  # [MB]
    cores: int = 1
    gpus: int = 0
    disk: int = 2000  # space in the job's own directory [MB]

    def after(self, kind: str) -> Resources:
        """The request after a failure of this kind (see `job.KINDS`): twice as much of what was lacking."""
        if kind not in ("memory", "time", "disk"):
            return self
        return replace(self, **{kind: 2 * int(getattr(self, kind))})

    def changes_since(self, other: Resources) -> str:
        """How this differs from another, in words; empty if it does not."""
        changes = []
        if self.memory != other.memory:
            changes.append(f"memory {other.memory} -> {self.memory} MB")
        if self.time != other.time:
            changes.append(f"time {in_words(other.time)} -> {in_words(self.time)}")
        if self.disk != other.disk:
            changes.append(f"disk {other.disk} -> {self.disk} MB")
        return ", ".join(changes)


@dataclass(frozen=True)
class Declaration:
    """A stage, as commands, the runner and batch systems know it."""

    name: str  # its name, which is that of its command
    # "module:function": makes its `Stage` of an `Analysis`, or None if the analysis does not ask for it
    maker: str
    sections: Sequence[str]  # sections of the configuration, one of which must be there
    page: Optional[str] = None  # the page of the manual about what its tasks do
    # what its jobs ask for by default. If there is a task for each file, time and disk follow from the sizes
    resources: Resources = field(default_factory=Resources)
    speed: Optional[float] = None  # how fast its tasks read, if there is one for each file [B/s]
    # what of the `Layout` a run names when the stage is done, for each of `Config.trainings`
    result: Optional[Callable[[Any, Optional[str]], Path]] = None
    names_outputs: bool = False  # whether it names the first output of each task
    # the help of its command, which takes a configuration; not needed if `commands` has one with more options
    about: str = ""
    # the stage of whose results it makes figures and pages; the command of that does this, too
    draws: Optional[str] = None
    after: Optional[str] = None  # of an extension: the stage that it follows; the last one if it names none
    example: str = "examples/wz.yaml"  # of an analysis that has it
    needs: Sequence[str] = ()  # of an extension: what that needs

    @property
    def part(self) -> str:
        """The part of NanoML that does it."""
        return self.maker.partition(".")[0]


@dataclass(frozen=True)
class Extension:
    """A feature. Whatever it names is "module:object", with the module in the extension, and is imported where it is needed.

    Attributes
    ----------
    about
        What it is, in one sentence.
    fields
        Settings that it adds to sections of the YAML file, by section ("train"; "" is the file itself): dataclasses whose
        fields are settings, for Python 3.9. `settings_of` gives them back.
    checks
        Functions of a `Config` that yield a `Problem` for each contradiction between settings.
    stages
        What it adds to a run; the maker of each is "module:function".
    kinds
        What it adds to registries of the core, by registry and name: "commands", "sections" (of the report on a training),
        "systems" (for batch jobs), "makers" (what makes files of corrections, in words, by the beginning of their names), and
        others, where the core asks for `entries`.
    titles
        How people call what it adds to registries, by its name there, where help and messages list it.
    needs
        The parts of NanoML, and other extensions, without which it is not there.
    extra
        The extra of pyproject.toml with the packages that it needs; empty if it needs none.
    packages
        These packages with the oldest versions that will do, as "distributed>=2024.8", which `nanoml doctor` looks for.
    python
        The lowest version of Python.
    """

    about: str
    fields: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[str] = ()
    stages: Sequence[Declaration] = ()
    kinds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[str] = ()
    extra: str = ""
    packages: str = ""
    python: tuple[int, int] = (3, 9)


def naming() -> list[Path]:
    """The files by which installed distributions name extensions."""
    files = (it for place in sys.path for it in Path(place).glob("*-info/entry_points.txt"))
    return [it for it in files if GROUP in it.read_text(encoding="utf-8", errors="replace")]


@functools.cache
def _packages() -> dict[str, str]:
    """The packages of all extensions that are not hidden, by their names: NanoML's own, then installed ones."""
    hidden = os.environ.get(WITHOUT, "").split(",")
    if "all" in hidden:
        return {}
    own = {it.name: f"{OWN}.{it.name}" for it in pkgutil.iter_modules([str(_FOLDER)]) if it.ispkg}
    installed = {it.name: it.value for it in _entry_points()}
    twice = sorted({*own} & {*installed})
    if twice:
        raise NanoMLError(
            f"{installed[twice[0]]}: there is an extension {twice[0]} already. Uninstall it, or rename it."
        )
    return {name: package for name, package in {**own, **installed}.items() if name not in hidden}


def _entry_points() -> Sequence[Any]:
    """What other distributions name; `importlib.metadata` alone takes as long as all else that a command imports."""
    if not naming():
        return ()
    from importlib import metadata

    found: Any = metadata.entry_points()
    return found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ())  # type: ignore[no-any-return]  # Python 3.9


@functools.cache
def _declared() -> dict[str, Extension]:
    """All extensions that are not hidden, by name, also those that lack something."""
    declared = dict[str, Extension]()
    for name, package in _packages().items():
        try:
            declared[name] = importlib.import_module(package).EXTENSION
        except Exception as problem:  # whatever others have written
            what = f"{type(problem).__name__}: {problem}"
            raise NanoMLError(
                f"extension {name}: {package}: {what}. Mend or remove it, or: nanoml --without {name} ..."
            ) from problem
    return declared


@functools.cache
def _read() -> tuple[dict[str, Extension], dict[str, str]]:
    """The extensions that are here, by name, and for the others what they lack."""
    here, lacking = _declared(), dict[str, str]()
    while True:
        lost = {name: _lack(it, here) for name, it in here.items() if _lack(it, here)}
        if not lost:
            return here, lacking
        lacking |= lost
        here = {name: it for name, it in here.items() if name not in lost}


def _lack(extension: Extension, here: Mapping[str, Extension]) -> str:
    if sys.version_info < extension.python:
        return "Python {}.{}".format(*extension.python)
    missing = (it for it in extension.needs if it not in here)
    return next((it for it in missing if it in _packages() or importlib.util.find_spec(it) is None), "")


def extensions() -> Mapping[str, Extension]:
    """The extensions that are here, by name."""
    return _read()[0]


def listed_extensions() -> str:
    """The names of the extensions that are here, and what others lack."""
    here, lacking = _read()
    absent = [f"{name} lacks {what}" for name, what in lacking.items()]
    return "; ".join([", ".join(here) or "none", *absent])


def folders() -> dict[str, Path]:
    """The folders of all extensions, by the names of their packages."""
    specs = {package: importlib.util.find_spec(package) for package in _packages().values()}
    return {it: Path(spec.origin).resolve().parent for it, spec in specs.items() if spec is not None and spec.origin}


def installed() -> dict[str, str]:
    """The packages of extensions that are installed beside NanoML, by their names."""
    return {name: package for name, package in _packages().items() if not package.startswith(OWN)}


def _absolute(name: str, place: str) -> str:
    return f"{_packages()[name]}.{place}"


def entries(kind: str) -> dict[str, str]:
    """What extensions add to a registry of the core, by name: each is "module:object"."""
    return {
        key: _absolute(name, place)
        for name, it in extensions().items()
        for key, place in it.kinds.get(kind, {}).items()
    }


def titles(kind: str) -> dict[str, str]:
    """How people call `entries`, by their names."""
    return {key: it.titles.get(key, key) for it in extensions().values() for key in it.kinds.get(kind, {})}


def modules(kind: str) -> tuple[str, ...]:
    """The modules of `entries`: code on which results depend that are made with them."""
    return tuple(dict.fromkeys(place.partition(":")[0] for place in entries(kind).values()))


def loaded(place: str) -> Any:
    """The object that "module:object" names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def checks() -> list[Callable[..., Any]]:
    """The checks of settings that extensions have."""
    return [loaded(_absolute(name, place)) for name, it in extensions().items() for place in it.checks]


def stages() -> list[Declaration]:
    """The stages that extensions add."""
    return [
        replace(stage, maker=_absolute(name, stage.maker), needs=it.needs)
        for name, it in extensions().items()
        for stage in it.stages
    ]


def extended(section: str) -> Callable[[type[T]], type[T]]:
    """Let extensions add settings to a section of the YAML file: for its dataclass, behind its own fields.

    Those of an extension that lacks something are known as well: the same file describes what is done elsewhere.
    """

    def with_fields(cls: type[T]) -> type[T]:
        added = [
            loaded(_absolute(name, it.fields[section])) for name, it in _declared().items() if section in it.fields
        ]
        known = {it.name for it in fields(cls)}  # type: ignore[arg-type]
        for each in added:
            twice = sorted(known & {it.name for it in fields(each)})
            if twice:
                raise NanoMLError(f"{each.__module__}: {section}.{twice[0]} is a setting already.")
            known |= {it.name for it in fields(each)}
        if not added:
            return cls
        about = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
        made: type[T] = dataclass(frozen=True)(type(cls.__name__, (*added, cls), about))
        return made

    return with_fields


def added_to(section: T) -> T:
    """A section with the settings of extensions alone: those of the core have their defaults."""
    own = [kind for kind in type(section).__mro__ if is_dataclass(kind)][-1]
    return replace(section, **{it.name: getattr(own(), it.name) for it in fields(own)})  # type: ignore[type-var]


def settings_of(section: object, kind: type[T]) -> T:
    """A section of the YAML file as an object of the dataclass by which an extension adds settings to it."""
    assert isinstance(section, kind), f"{type(section).__name__} has no {kind.__name__}"
    return section
