"""Stands in for the module of this name in CMSSW, so that configurations can be run where CMSSW is not: as much of it as is used."""

from __future__ import annotations

import sys
from typing import Any


class Parameter:
    """The base of all types of parameters, each of which is made when a configuration names it."""

    def __init__(self, *values: Any, **parts: Any) -> None:
        self.values, self.parts = values, parts

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
    """Modules one after the other."""

    def __init__(self, *parts: Any) -> None:
        self.modules = [module for part in parts for module in part.modules]

    def __add__(self, other: Part) -> Part:
        return Part(self, other)

    def associate(self, task: Part) -> None:
        self.modules += task.modules

    def moduleNames(self) -> set[str]:  # noqa: N802
        return {module.label for module in self.modules}


class Module(Part):
    def __init__(self, type: str, **parameters: Any) -> None:
        self.type, self.modules = type, [self]
        vars(self).update(parameters)

    def parameters(self) -> dict[str, list[Any]]:
        return {name: each.typed() for name, each in vars(self).items() if isinstance(each, Parameter)}


Path, EndPath, Task = (type(name, (Part,), {}) for name in ("Path", "EndPath", "Task"))
Source, EDProducer, EDFilter, OutputModule = (
    type(name, (Module,), {}) for name in ("Source", "EDProducer", "EDFilter", "OutputModule")
)
KINDS = {"producers_": EDProducer, "outputModules_": OutputModule, "paths_": Path, "endpaths_": EndPath}


class Process:
    def __init__(self, name: str) -> None:
        self.name = name

    def __setattr__(self, label: str, part: Any) -> None:
        vars(self)[label] = part
        if isinstance(part, Module):
            part.label = label

    def __getattr__(self, name: str) -> Any:
        if name not in KINDS:
            raise AttributeError(name)
        return lambda: self.of(KINDS[name])

    def of(self, kind: type) -> dict[str, Any]:
        return {label: part for label, part in vars(self).items() if isinstance(part, kind)}

    def schedule_(self) -> None: ...

    def job(self) -> dict[str, Any]:
        """What testJob reads: the modules of paths and tasks in the order in which they run, and the source."""
        runs = {label for kind in (Path, EndPath) for path in self.of(kind).values() for label in path.moduleNames()}
        modules = [part for kind in (EDProducer, EDFilter, OutputModule) for part in self.of(kind).values()]
        described = [
            {"label": it.label, "type": it.type, "parameters": it.parameters()} for it in modules if it.label in runs
        ]
        source = {name: value for name, (_, value) in self.source.parameters().items()}
        return {"modules": described, "events": self.maxEvents.value()["input"][1], **source}
