"""The sections of the report on a training, and what they hold together: metrics.json."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from matplotlib.figure import Figure

from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import EventCounts
from ML_processing.evaluation.sections import MODULES
from ML_processing.metrics.measured import as_json
from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.report.figures import Draw, in_style
from MLTools.NanoML.report.page import Answer, Digest
from MLTools.NanoML.report.section import Block, Caption, Style
from MLTools.NanoML.schema.plain import build, plain, read

P = TypeVar("P", bound="Part")
_FEWEST = 50  # effective events of a class: with fewer nothing is fine


def _key(kind: type[Part]) -> str:
    """The key of a section in what is written, as some sections share a name."""
    return f"{kind.__module__}:{kind.__qualname__}"


def _built(content: Mapping[str, Any]) -> dict[type[Part], Part | None]:
    """The sections of their content, by what is registered: nothing is imported that a file names."""
    kinds = {_key(kind): kind for kind in all_sections()}
    return {kinds[key]: None if it is None else build(kinds[key], it) for key, it in content.items()}


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a training; the sections are by their classes, None if nothing can be shown."""

    created: str
    era: str | None  # of all events; None if they are of several, or if there is none
    classes: list[str]
    events: EventCounts
    training: dict[str, Any]  # the lines of training.json that identify it
    notes: list[str]
    sections: Mapping[type[Part], Part | None] = field(metadata={"build": _built})
    hidden: tuple[str, ...] = ()  # classes from data whose numbers of events the page does not tell

    def of(self, kind: type[P]) -> P | None:
        """The section of a kind."""
        found = self.sections.get(kind)
        return found if isinstance(found, kind) else None

    @property
    def too_few(self) -> str:
        """The classes that have too few effective events for any conclusion, and how many they have."""
        few = {name: it.effective for name, it in self.events.classes.items() if it.effective < _FEWEST}
        return ", ".join(
            f"{name} has {number:,.0f} of at least {_FEWEST} effective events" for name, number in few.items()
        )

    def write(self, path: Path) -> None:
        """Write all that was measured, exactly, as JSON, from which `read` makes the same again."""
        sections = {_key(kind): plain(it) for kind, it in self.sections.items()}
        write_text(path, json.dumps({**plain(replace(self, sections={})), "sections": sections}) + "\n")

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read what `write` wrote; a NanoMLError if it is damaged, or was written by another version."""
        return read(cls, path, "Measure again: `nanoml evaluate --force`.")

    def as_json(self, verdict: list[Answer], digest: Digest) -> dict[str, object]:
        """The content of metrics.json."""

        def kept(place: str) -> dict[str, Any]:
            return {kind.name: as_json(it) for kind, it in self.sections.items() if kind.place == place}

        names = ("created", "era", "classes", "events", "training", "notes")
        return {
            "schema": 2,
            **{key: as_json(getattr(self, key)) for key in names},
            **{key: value for found in kept("first").values() for key, value in found.items()},
            "plots": kept("plots"),
            **kept("last"),
            "verdict": as_json(verdict),
            "digest": as_json(digest),
            "hidden": as_json(self.hidden),
        }


class Part:
    """A section of the report: a frozen dataclass, which is what metrics.json has of it, in a module of `sections`.

    It has a figure, tables, and an answer to a question, or some of them.
    """

    name: ClassVar[str]
    """Its key in metrics.json, its anchor on the page, and the name of the file with its figure."""
    only: ClassVar[str]
    """The trainings that it is about, "classification" or "regression"; empty if both."""
    place: ClassVar[str]
    """Where it is in metrics.json: in "plots", "first" or "last" beside that, or nowhere, if it is empty."""
    after: ClassVar[str]
    """The section behind which it is on the page; empty for the first."""
    asked_after: ClassVar[str]
    """The section behind whose answers its own are in the verdict."""
    caption: ClassVar[Caption] = Caption("", "")
    """The caption of its figure, if it has one."""
    unmeasured: ClassVar[tuple[str, str]] = ("", "")
    """The question, and what there is to say where it is not defined for classes that are separated; empty if that says nothing."""

    @classmethod
    def compute(cls: type[P], of: Measurement) -> P | None:
        """The content of the section for a training; None if that is not defined."""
        raise NotImplementedError

    def draw(self, style: Style) -> Figure | None:
        """The figure; None if there is nothing to draw."""
        return None

    def figures(self, style: Style) -> Iterator[tuple[str, Draw]]:
        """The names of the files of its figures, each with what draws it, if it is not one."""
        yield self.name, partial(self.draw, style)

    def numbers(self, figure: str) -> object:
        """The numbers in a figure of it, if these are not all that it holds."""
        return self

    def tables(self, page: Evaluation) -> str:
        """Its tables, as HTML."""
        return ""

    def answer(self, page: Evaluation) -> Answer | None:
        """An answer to what one wants to know, maybe that it cannot be computed."""
        return None

    def answers(self, page: Evaluation) -> Iterable[Answer]:
        """Answers, if it is not one."""
        answer = self.answer(page)
        return [answer] if answer else []

    def blocks(self, page: Evaluation, drawn: Collection[str]) -> Iterator[Block]:
        """Its parts of the page, if it is not one with a figure; `drawn` are the names of all figures."""
        if self.caption.title and self.name in drawn:
            yield Block(self.name, self.caption.title, self.tables(page), [(self.name, self.caption)], True)


_KINDS: list[type[Part]] = []


def section(
    name: str, only: str = "", place: str = "plots", after: str = "data", asked_after: str = "data"
) -> Callable[[type[P]], type[P]]:
    """Register a class as a section of the report, with its name, and what else `Part` says."""

    def register(kind: type[P]) -> type[P]:
        kind.name, kind.only, kind.place, kind.after, kind.asked_after = name, only, place, after, asked_after
        kind.draw = in_style(kind.draw)  # type: ignore[method-assign]
        _KINDS.append(kind)
        return kind

    return register


def all_sections() -> list[type[Part]]:
    """All sections: those of the modules in `sections`."""
    for module in MODULES:
        importlib.import_module(module)
    return [*_KINDS]


def in_order(kinds: Iterable[type[Part]], place: str) -> list[type[Part]]:
    """These sections, each behind the one that it names as `place`; those last that name one which is not there."""
    every = all_sections()

    def behind(name: str) -> list[type[Part]]:
        row = [kind for kind in every if getattr(kind, place) == name]
        return row + [kind for each in dict.fromkeys(kind.name for kind in row) for kind in behind(each)]

    return [kind for kind in dict.fromkeys([*behind(""), *every]) if kind in kinds]


def finding(significant: bool, relevant: bool, chance: str, tolerance: str) -> str:
    """Whether a difference is more than chance, and more than matters: many events show differences that do not."""
    real, large = f"significant (limit: {chance})", f"relevant (limit: {tolerance})"
    if significant:
        return f"{real} and {large}" if relevant else f"{real}, but not {large}"
    return f"{large}, but not {real}" if relevant else f"neither {real} nor {large}"


def judged(significant: bool, relevant: bool, chance: str, tolerance: str, is_blunt: bool = False) -> tuple[str, str]:
    """The state of an answer about a difference, "open" if it may matter and is not shown, or could not be, and its `finding`."""
    remark = finding(significant, relevant, chance, tolerance)
    if significant and relevant:
        return "look", remark
    return "open" if relevant or (is_blunt and not significant) else "good", remark
