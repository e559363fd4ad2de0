"""The statistical model as a datacard of Combine, with its templates in a ROOT file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.templates import DATA
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.histograms import root_histogram
from statistical_analysis.model import EFFECTIVE_EVENTS, FitChannel, Sample, StatisticalModel
from statistical_analysis.workspace import MOST

CARD = "datacard.txt"
TEMPLATES = "templates.root"
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_RULE = "-" * 80
Floats = NDArray[np.float64]


def write_datacard(model: StatisticalModel, directory: Path) -> Path:
    """Write a datacard and the ROOT file that it names into `directory`, which is made; return the card.

    Combine calls the strength of the signal r. Shapes and log-normal uncertainties, and what share them, are those of `workspace`; a free
    normalisation is a `rateParam`. Statistical errors are those of the templates (`autoMCStats`).

    Raises
    ------
    NanoMLError
        Combine cannot take a name, or a channel has no background.
    """
    _check(model)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / TEMPLATES) as aside:
        _write_templates(model, aside)
    with replacing(directory / CARD) as aside:
        aside.write_text("\n".join(_card(model)) + "\n")
    return directory / CARD


def _check(model: StatisticalModel) -> None:
    processes = [sample.process for channel in model.channels for sample in channel.samples]
    for name in dict.fromkeys([*(it.name for it in model.channels), *processes, *model.nuisances, *model.free]):
        if not _NAME.fullmatch(name):
            raise NanoMLError(f"Combine cannot take the name {name}. Rename it with letters, digits and _ alone.")
    for channel in model.channels:
        if all(sample.is_signal for sample in channel.samples):
            raise NanoMLError(f"Combine cannot take the channel {channel.name}: it has no background.")


def _card(model: StatisticalModel) -> Iterator[str]:
    columns = [(channel, sample) for channel in model.channels for sample in channel.samples]
    backgrounds = dict.fromkeys(sample.process for _, sample in columns if not sample.is_signal)
    numbers = {model.signal: 0, **{name: number for number, name in enumerate(backgrounds, 1)}}
    what = "observed" if model.asimov is None else f"expected, with a signal of strength {model.asimov:g}"
    yield f"# Data are {what}."
    yield f"imax {len(model.channels)}"
    yield f"jmax {len(backgrounds)}"
    yield "kmax *"
    yield _RULE
    yield f"shapes * * {TEMPLATES} $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC"
    yield _RULE
    yield _row("bin", "", [channel.name for channel in model.channels])
    yield _row("observation", "", [_number(channel.data.sum()) for channel in model.channels])
    yield _RULE
    yield _row("bin", "", [channel.name for channel, _ in columns])
    yield _row("process", "", [sample.process for _, sample in columns])
    yield _row("process", "", [str(numbers[sample.process]) for _, sample in columns])
    yield _row("rate", "", [_number(sample.nominal.sum()) for _, sample in columns])
    yield _RULE
    for name in model.nuisances:
        kind = "shape" if any(name in sample.shapes for _, sample in columns) else "lnN"
        yield _row(name, kind, [_effect(name, sample) for _, sample in columns])
    for name, channel, sample in _free(columns):
        yield f"{name} rateParam {channel} {sample} 1 [0,{MOST:g}]"
    yield f"* autoMCStats {EFFECTIVE_EVENTS}"
    for group, names in model.groups.items():
        yield f"{group} group = {' '.join(names)}"


def _row(name: str, kind: str, cells: Sequence[str]) -> str:
    return " ".join([f"{name:<30}", f"{kind:<6}", *(f"{cell:<20}" for cell in cells)]).rstrip()


def _number(value: float) -> str:
    """A number as exact as it is: Combine compares it with the sum of a template."""
    return repr(float(value))


def _effect(name: str, sample: Sample) -> str:
    if name in sample.shapes:
        return "1"
    return _number(sample.factors[name]) if name in sample.factors else "-"


def _free(columns: Sequence[tuple[FitChannel, Sample]]) -> Iterator[tuple[str, str, str]]:
    for channel, sample in columns:
        if sample.free is not None:
            yield sample.free, channel.name, sample.process


def _write_templates(model: StatisticalModel, path: Path) -> None:
    import uproot

    with uproot.recreate(path) as file:
        for channel in model.channels:
            for name, values, variances in _templates(channel):
                file[f"{channel.name}/{name}"] = _histogram(channel, name, values, variances)


def _templates(channel: FitChannel) -> Iterator[tuple[str, Floats, Floats]]:
    """Each template with its name, contents and squared errors."""
    yield DATA, channel.data, channel.data
    for sample in channel.samples:
        variances = sample.errors**2
        yield sample.process, sample.nominal, variances
        for name, shape in sample.shapes.items():
            yield f"{sample.process}_{name}Up", shape.up, variances
            yield f"{sample.process}_{name}Down", shape.down, variances


def _histogram(channel: FitChannel, name: str, values: Floats, variances: Floats) -> Any:
    padded = (np.pad(each, 1) for each in (values, variances))
    return root_histogram(name, channel.name, [(channel.title, channel.edges)], *padded)
