"""The stages, each declared once, with what their jobs ask for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.errors import ConfigError, NanoMLError

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")


def seconds_in(text: str) -> int:
    """Seconds in a text such as 90s, 30min, 8h or 2d; an error if it is not a time."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f'"{text}" is not a time: write it as 30min, 8h or 2d.')
    return max(1, round(float(found[1]) * _SECONDS[found[2]]))


def in_words(seconds: float) -> str:
    """A time for people: "45 s", "12 min", "3.5 h", "2.1 d"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} d"


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

    @property
    def part(self) -> str:
        """The part of NanoML that does it."""
        return self.maker.partition(".")[0]


STAGES = (
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
        "compile",
        "ML_processing.stages:compile_stage",
        ["export"],
        "cmssw.md",
        Resources(memory=4000),
        names_outputs=True,
        about="Put the selection into the model. With `export.selection`, a second file reads the branches of NanoAOD, in cmsRun "
        "for example. It is compared with the selection on real events.",
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
    ),
)
"""All stages, in order."""

NAMES = tuple(stage.name for stage in STAGES)
"""The names of all stages."""

PARTS = {
    part: tuple(stage.name for stage in STAGES if stage.part == part)
    for part in dict.fromkeys(stage.part for stage in STAGES)
}
"""The names of the stages of each part."""

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
        stages = ", ".join(PARTS[part])
        if problem.name == part:
            raise NanoMLError(
                f"{stages}: the directory {part}/ is not here. Take the whole of NanoML for these stages."
            ) from None
        from MLTools.NanoML.installation import how_to_install

        how = how_to_install(_EXTRAS[part])
        raise NanoMLError(f"{stages}: the Python package {problem.name} is missing. Install it: {how}.") from problem
