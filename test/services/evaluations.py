"""Evaluations of which a test needs a few parts only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from matplotlib.figure import Figure
from torch import nn

from ML_processing.evaluation import report
from ML_processing.evaluation.content import Evaluation, all_sections
from ML_processing.evaluation.scored import ClassEvents, EventCounts
from ML_processing.evaluation.sections.data import DataComparison
from ML_processing.evaluation.sections.regions import RegionResult
from ML_processing.events.survey import ClassTotal
from ML_processing.models.scaling import Scaling, Unscaled
from MLTools.NanoML.report.section import PRIVATE_WORK
from services.arrays import parts

T = TypeVar("T")
EFFECTIVE = {"signal": 1234.4, "other": 1234.4}


def part(cls: type[T], **given: Any) -> T:
    """An object of which a test needs a few fields only."""
    return cls(**{**dict.fromkeys(it.name for it in fields(cls)), **given})  # type: ignore[arg-type]


def evaluation(sections: Mapping[Any, Any], effective: Mapping[str, float] = EFFECTIVE) -> Evaluation:
    """Some sections, and the effective numbers of events."""
    classes = {name: ClassEvents(ClassTotal(round(it), it), it, 0.0) for name, it in effective.items()}
    return part(Evaluation, sections=sections, events=part(EventCounts, classes=classes), classes=[*effective])


def evaluate(run: Path, files: Sequence[Path], directory: Path, *given: Any, **named: Any) -> dict[str, Any]:
    """Measure a training and draw its report; return metrics.json."""
    content = report.evaluate(run, files, directory, *given, **named)
    report.draw_report(run, directory, PRIVATE_WORK)
    return content


def exact(value: Any) -> Any:
    """A value in a form that is equal if types and bits are."""
    if isinstance(value, np.ndarray):
        return parts(value)
    if is_dataclass(value):
        return type(value), [exact(getattr(value, it.name)) for it in fields(value)]
    if isinstance(value, Mapping):
        return [(key, exact(it)) for key, it in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [exact(it) for it in value]
    number = value.item() if isinstance(value, np.generic) else value
    return type(number), repr(number)


def draw_only(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave the figures of all other sections empty: to draw them takes longer than all else."""
    kinds: list[tuple[Any, str]] = [(kind, "draw") for kind in all_sections() if kind.name not in names]
    kinds += [(RegionResult, "draw")] if "regions" not in names else []
    kinds += [(DataComparison, f"draw_{it}") for it in ("inputs", "scores")] if "data" not in names else []
    for kind, method in kinds:
        patch.setattr(kind, method, lambda self, style: Figure())


def undefined_in(page: str) -> list[str]:
    """Numbers that should not be shown, in a report up to where it says what it comes from."""
    text, _, _ = re.sub(r'base64,[^"]*', "", page).partition("Where this comes from</h2>")
    return re.findall(r"\b(nan|None|inf)\b", text)


@contextmanager
def runs_of_networks() -> Iterator[list[int]]:
    """The numbers of events with which networks run meanwhile; each of them begins with its scaling. A new one is tried on two."""
    found: list[int] = []

    def note(module: nn.Module, given: Any) -> None:
        if isinstance(module, (Scaling, Unscaled)) and len(given[0].features) > 2:
            found.append(len(given[0].features))

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()
