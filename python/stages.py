"""The stages, each declared once, with what their jobs ask for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection
from typing import Any

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.extending import Declaration, Resources, stages

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")


def seconds_in(text: str) -> int:
    """Seconds in a text such as 90s, 30min, 8h or 2d; an error if it is not a time."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f'"{text}" is not a time: write it as 30min, 8h or 2d.')
    return max(1, round(float(found[1]) * _SECONDS[found[2]]))


_OF_CORE = (
    Declaration("skim", "data_processing.skim.stage:skim_stage", ["skim"], "howto/selection.md", speed=5e6),
    Declaration("convert", "data_processing.convert.stage:convert_stage", ["convert"], "hdf5.md", speed=20e6),
    Declaration("shuffle", "data_processing.convert.stage:shuffle_stage", ["convert"], "hdf5.md", Resources(time=7200)),
    Declaration(
        "train",
        "ML_processing.stages:train_stage",
        ["train"],
        "howto/train.md",
        Resources(time=8 * 3600, memory=4000),
        about="Train the networks. There is one for each fold; they read the HDF5 files of `nanoml convert`.",
    ),
    Declaration(
        "ratios",
        "ML_processing.stages:ratios_stage",
        ["train"],
        "howto/unbinned.md",
        Resources(time=8 * 3600, memory=4000),
        names_outputs=True,
        about="Train the networks of the unbinned channels of the fit. They learn the ratios of the processes' densities, and are compared "
        "with the events.",
    ),
    Declaration("closure", "ML_processing.stages:closure_stage", ["train"], "howto/unbinned.md", draws="ratios"),
    Declaration(
        "evaluate",
        "ML_processing.stages:evaluate_stage",
        ["train"],
        resources=Resources(memory=4000),
        about="Make the report of a training. It shows ROC curves, the confusion matrix, score distributions and numbers.",
    ),
    Declaration(
        "report",
        "ML_processing.stages:report_stage",
        ["train"],
        result=lambda layout, era: layout.report(era),
        draws="evaluate",
    ),
    Declaration(
        "export",
        "ML_processing.stages:export_stage",
        ["train"],
        resources=Resources(time=1800),
        result=lambda layout, era: layout.model(era),
    ),
    Declaration(
        "normalise",
        "data_processing.score.stage:normalise_stage",
        ["score", "train"],
        "scores.md",
        about="Sum up the weights of each dataset. Weights in files with scores need these sums over all files, "
        "and need to know which events of data are duplicates. `nanoml score` does this, too.",
    ),
    Declaration(
        "score",
        "data_processing.score.stage:score_stage",
        ["score", "train"],
        "scores.md",
        speed=10e6,
        result=lambda layout, _: layout.scores(),
    ),
    Declaration(
        "fill",
        "data_processing.histograms.stage:fill_stage",
        ["histogram"],
        "histograms.md",
        speed=20e6,
        about="Fill the histograms of each file of events with scores. `nanoml histogram` adds them up.",
    ),
    Declaration(
        "histogram",
        "data_processing.histograms.stage:histogram_stage",
        ["histogram"],
        "histograms.md",
        result=lambda layout, _: layout.histograms(".root"),
        about="Add up the histograms of all files. They are written for plots and fits.",
    ),
    Declaration(
        "draw",
        "data_processing.histograms.stage:draw_stage",
        ["histogram"],
        "histograms.md",
        result=lambda layout, _: layout.histograms(".html"),
        draws="histogram",
    ),
    Declaration(
        "fit",
        "statistical_analysis.stages:fit_stage",
        ["fit"],
        "fit.md",
        Resources(time=2 * 3600, memory=4000),
        about="Fit the histograms: limit and significance of the signal, pulls, impacts, and a card for Combine. "
        "If the signal has a parameter, such as a mass, there is a fit for each of its values.",
    ),
    Declaration(
        "plot",
        "statistical_analysis.stages:plot_stage",
        ["fit"],
        "fit.md",
        result=lambda layout, _: layout.fit / "report.html",
        draws="fit",
    ),
    Declaration(
        "limits",
        "statistical_analysis.stages:limits_stage",
        ["fit"],
        "fit.md",
        about="Collect the fits at all masses of the signal. The mass may be any other parameter of it. `nanoml fit` does this, too.",
        draws="fit",
        example="analysis.yaml",
    ),
)


def _in_order() -> tuple[Declaration, ...]:
    found = [*_OF_CORE]
    for each in stages():
        names = [it.name for it in found]
        found.insert(names.index(each.after) + 1 if each.after in names else len(found), each)
    return tuple(found)


STAGES = _in_order()
"""All stages, in order."""

NAMES = tuple(stage.name for stage in STAGES)
"""The names of all stages."""

PARTS = {
    part: tuple(stage.name for stage in STAGES if part in (stage.part, *stage.needs))
    for part in dict.fromkeys(stage.part for stage in _OF_CORE)
}
"""The names of the stages that each part does, or that need it."""

_EXTRAS = {"data_processing": "data", "ML_processing": "train", "statistical_analysis": "fit"}


def declared(name: str) -> Declaration:
    """The declaration of a stage."""
    return STAGES[NAMES.index(name)]


def with_figures(names: Collection[str]) -> tuple[str, ...]:
    """Stages, and those that draw their results, in order."""
    return tuple(it.name for it in STAGES if it.name in names or it.draws in names)


def import_part(module: str) -> Any:
    """Import a module of a part; an error if the part is not here, or a package that it needs is missing."""
    part = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        names = ", ".join(PARTS.get(part, [module]))
        if problem.name == part:
            raise NanoMLError(
                f"{names}: the directory {part}/ is not here. Take the whole of NanoML for these stages."
            ) from None
        from MLTools.NanoML.installation import how_to_install

        how = how_to_install(_EXTRAS.get(part, "all"))
        raise NanoMLError(f"{names}: the Python package {problem.name} is missing. Install it: {how}.") from problem
