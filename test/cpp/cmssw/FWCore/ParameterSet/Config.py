"""Stands in for the module of this name in CMSSW, so that configurations can be run where CMSSW is not: as much of it as is used."""

from __future__ import annotations

import sys
from typing import Any


class Parameter:
    """The base of all types of parameters, which are made when a configuration names them."""

    def __init__(self, *values: Any, **parts: Any) -> None:
        self.values = values
        self.parts = parts

    def value(self) -> Any:
        """As JSON has it."""
        kind = type(self).__name__
        if kind == "PSet":
            return {name: each.typed() for name, each in self.parts.items()}
        values = [each.value() if isinstance(each, Parameter) else each for each in self.values]
        return values if kind.lower().startswith("v") else values[0]

    def typed(self) -> list[Any]:
        return [type(self).__name__, self.value()]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return globals().setdefault(name, type(name, (Parameter,), {}))


untracked = sys.modules[__name__]


class Part:
    """A path or a task: modules one after the other."""

    def __init__(self, *modules: Any) -> None:
        self.modules = [each for part in modules for each in part.modules]

    def __add__(self, other: Part) -> Part:
        return Part(self, other)

    def associate(self, task: Part) -> None:
        self.modules += task.modules

    def moduleNames(self) -> set[str]:  # noqa: N802
        return {module.label for module in self.modules}


class Path(Part): ...


class EndPath(Path): ...


class Task(Part): ...


class Module(Part):
    def __init__(self, type: str, **parameters: Any) -> None:
        self.type, self.modules = type, [self]
        vars(self).update(parameters)

    def parameters(self) -> dict[str, list[Any]]:
        return {name: each.typed() for name, each in vars(self).items() if isinstance(each, Parameter)}


class EDProducer(Module): ...


class EDFilter(Module): ...


class OutputModule(Module): ...


class Source(Module): ...


class Process:
    def __init__(self, name: str) -> None:
        self.name = name

    def __setattr__(self, label: str, part: Any) -> None:
        vars(self)[label] = part
        if isinstance(part, Module):
            part.label = label

    def of(self, kind: type) -> dict[str, Any]:
        return {label: part for label, part in vars(self).items() if isinstance(part, kind)}

    def schedule_(self) -> None: ...

    def producers_(self) -> dict[str, Any]:
        return self.of(EDProducer)

    def outputModules_(self) -> dict[str, Any]:  # noqa: N802
        return self.of(OutputModule)

    def paths_(self) -> dict[str, Any]:
        return self.of(Path)

    def endpaths_(self) -> dict[str, Any]:
        return self.of(EndPath)

    def job(self) -> dict[str, Any]:
        """The job as testJob reads it: the modules of paths and tasks in the order in which they run."""
        runs = {
            label for path in self.of(Part).values() if not isinstance(path, Module) for label in path.moduleNames()
        }
        modules = [part for kind in (EDProducer, EDFilter, OutputModule) for part in self.of(kind).values()]
        described = [
            {"label": it.label, "type": it.type, "parameters": it.parameters()} for it in modules if it.label in runs
        ]
        source = {name: value for name, (_, value) in self.source.parameters().items()}
        return {"modules": described, "events": self.maxEvents.value()["input"][1], **source}
