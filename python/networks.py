"""Descriptions that classes of networks give of themselves, NanoML's and the user's, read in their sources: importing one takes PyTorch."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional


def networks() -> Iterator[Path]:
    """The networks of ML_processing/networks/, each a module, without importing any."""
    spec = importlib.util.find_spec("ML_processing")
    for directory in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(Path(directory, "networks").glob("[!_]*.py"))


@dataclass(frozen=True)
class Method:
    """A method of a class: its line, its parameters without self, and how many of these have no default."""

    line: int
    parameters: tuple[str, ...]
    needed: int


@dataclass(frozen=True)
class NetworkClass:
    """The declarations of a network's class, read in its source without importing it, since that takes PyTorch.

    Attributes
    ----------
    path
        Its file.
    object_fields
        The fields that it needs of each collection of objects; None if it needs no collection.
    heads
        The heads that it names; none if it has one.
    defaults
        Its own defaults of settings of `train`.
    unused
        The settings of `train` that mean nothing to it, or what they are about, as in `Train.about`.
    methods
        Its methods, by name.
    options
        What its constructor takes after the shape; None if it takes anything, or is not in the class itself.
    """

    path: Path
    object_fields: Optional[tuple[str, ...]]
    heads: tuple[str, ...]
    defaults: dict[str, Any]
    unused: tuple[str, ...]
    methods: dict[str, Method]
    options: Optional[tuple[str, ...]]

    @classmethod
    def of(cls, model: str, base: Path) -> Optional[NetworkClass]:
        """The class that `train.model` names; None if it is not found or understood: PyTorch's part says what is wrong.

        `base` is the directory of the YAML file: a module is found beside it only.
        """
        place, _, name = model.rpartition(":")
        sources = [base / Path(place if place.endswith(".py") else f"{place.replace('.', '/')}.py").expanduser()]
        if not place:
            sources = [path for path in networks() if path.stem == name]
        for path in sources:
            for found in _classes(path):
                if found.name == name if place else "network" in map(ast.unparse, found.decorator_list):
                    fields, heads, unused = (_names(found, key) for key in ("object_fields", "heads", "unused"))
                    return cls(
                        path,
                        fields,
                        heads or (),
                        _value(found, "defaults") or {},
                        unused or (),
                        _methods(found),
                        _options(found),
                    )
        return None


def hooks() -> dict[str, tuple[str, ...]]:
    """Parameters, without self, of the methods that the class of a network may have, as `Hooks` of the training declares them."""
    spec = importlib.util.find_spec("ML_processing")
    for directory in (spec.submodule_search_locations if spec else None) or ():
        for found in _classes(Path(directory, "models", "hooks.py")):
            if found.name == "Hooks":
                return {name: it.parameters for name, it in _methods(found).items()}
    return {}


def _classes(path: Path) -> tuple[ast.ClassDef, ...]:
    try:
        return _classes_in(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()


@functools.lru_cache
def _classes_in(source: bytes) -> tuple[ast.ClassDef, ...]:
    """Each check of a configuration asks for them."""
    return tuple(line for line in ast.parse(source).body if isinstance(line, ast.ClassDef))


def _names(class_: ast.ClassDef, key: str) -> Optional[tuple[str, ...]]:
    """The texts that an attribute of a class is, if it is written as a tuple or list of them."""
    found = _value(class_, key)
    return tuple(found) if isinstance(found, (tuple, list)) else None


def _value(class_: ast.ClassDef, key: str) -> Any:
    """The value of an attribute of a class, if it is written as it is; otherwise None."""
    for line in class_.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", line)]
        if isinstance(line, (ast.Assign, ast.AnnAssign)) and ast.unparse(targets[0]) == key:
            try:
                return ast.literal_eval(line.value or ast.Tuple([]))
            except ValueError:
                return None
    return None


def _methods(found: ast.ClassDef) -> dict[str, Method]:
    """The methods of a class, without those that take any number of parameters, or may be something else by a decorator."""
    methods = [it for it in found.body if isinstance(it, ast.FunctionDef) and not (it.decorator_list or it.args.vararg)]
    parameters = {it.name: tuple(each.arg for each in it.args.args[1:]) for it in methods}
    return {
        it.name: Method(it.lineno, parameters[it.name], len(parameters[it.name]) - len(it.args.defaults))
        for it in methods
    }


def _options(found: ast.ClassDef) -> Optional[tuple[str, ...]]:
    """The parameters of the constructor after self and the shape; None if it takes any, or there is none."""
    for it in found.body:
        if isinstance(it, ast.FunctionDef) and it.name == "__init__" and not it.args.kwarg:
            return tuple(each.arg for each in (*it.args.args[2:], *it.args.kwonlyargs))
    return None
