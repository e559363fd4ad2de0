"""The sections `evaluate`, `export` and `tune`: what is asked of a training beside its networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from MLTools.NanoML.extending import extended
from MLTools.NanoML.schema.settings import NAME, REGION, setting

# what settings can name, the default first
METRICS = ("validation_loss", "validation_auc", "validation_significance")
_SAMPLERS = ("tpe", "random")
_PRUNERS = ("median", "hyperband", "none")


@extended("evaluate")
@dataclass(frozen=True)
class Evaluate:
    """The report of a training."""

    compare: list[str] = setting(
        list,
        "HDF5 files of other events: other simulation, whose features are compared with those of the training, or data beside "
        "those of the analysis.",
        examples=[["hdf5/WZ_powheg.h5"]],
    )
    data_in: list[str] = setting(
        list,
        "Regions in which data are compared with simulation. In others they are not read, and an event that is also in a blind region is "
        "left out.",
        uniqueItems=True,
        items=REGION,
        examples=[["CR_ZZ"]],
    )
    seeds: int = setting(
        0,
        "How many more trainings with other seeds show the spread of the result; each takes as long as the training.",
        minimum=0,
        examples=[5],
    )
    learning_curve: list[float] = setting(
        list,
        "Shares of the events on which to train again, to show what more events would bring; each takes its share of the time.",
        uniqueItems=True,
        items={"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        examples=[[0.1, 0.3, 0.6]],
    )
    left_out: bool = setting(
        False,
        "True to train again without each value of the parameter in turn, which shows what networks know of values between those trained.",
    )


@extended("export")
@dataclass(frozen=True)
class Export:
    """The trained network as an ONNX file."""

    cmssw: Optional[str] = setting(
        None,
        "The CMSSW release that must be able to run the model. If its ONNX Runtime is not known, the model gets the "
        "form that all known releases from 12_4 on read, with a warning.",
        pattern="CMSSW_[0-9]+_[0-9]+(?:_[A-Za-z0-9_-]+)?",
        form="a release such as CMSSW_14_0_X or CMSSW_14_0_19_patch1",
        examples=["CMSSW_14_0_X"],
    )
    name: Optional[str] = setting(None, "The name of the model; by default the workdir's.", **NAME)


@dataclass(frozen=True)
class Axis:
    """The choice for a setting in the search: a value in a range, or one of several choices."""

    low: Optional[float] = setting(None, "Lower end of a range.", examples=[1e-4])
    high: Optional[float] = setting(None, "Upper end of a range.", examples=[1e-2])
    log: bool = setting(False, "True to search the logarithm: as many trials between 1 and 10 as between 10 and 100.")
    step: Optional[float] = setting(None, "Distance between values of a range.", exclusiveMinimum=0)
    choices: Any = setting(None, "A list of values, instead of a range.", examples=[[64, 128, 256]])


@extended("tune")
@dataclass(frozen=True)
class Tune:
    """The search for good settings of the training."""

    trials: int = setting(50, "How many settings are tried.", minimum=1)
    metric: str = setting(
        METRICS[0],
        "The figure of merit: the loss (with train.objective: result, the expected uncertainty of the signal strength), the AUC, "
        "or the expected significance of a fit to the discriminant in bins.",
        enum=METRICS,
    )
    space: dict[str, Axis] = setting(
        dict,
        "What is varied: settings of `train`, or options.NAME, and their values. "
        "By default the learning rate, the weight decay, the batch size and the size of the network.",
        examples=[{"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}],
    )
    sampler: str = setting(
        _SAMPLERS[0], "How settings are chosen: tpe learns from earlier trials, random does not.", enum=_SAMPLERS
    )
    pruner: str = setting(
        _PRUNERS[0],
        "Which trials stop early: median stops those that are worse than half of the others at the same "
        "epoch, hyperband all but the best of growing groups, none stops no trial.",
        enum=_PRUNERS,
    )
    seed: int = setting(1, "Seed of the choice of settings.", minimum=0, maximum=2**32 - 1)
