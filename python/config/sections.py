"""The sections of an analysis's YAML file, with the defaults that a physicist would choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

__all__ = [
    "ENGINES",
    "METRICS",
    "MODELS",
    "NAME",
    "PRECISIONS",
    "PRUNERS",
    "SAMPLERS",
    "SCHEDULES",
    "TRACKERS",
    "TUNABLE",
    "Axis",
    "Convert",
    "Dataset",
    "Decorrelation",
    "Evaluate",
    "Export",
    "Objects",
    "PerObject",
    "Score",
    "Skim",
    "Train",
    "Tune",
]

MODELS = ("mlp", "deepsets", "particlenet", "transformer")
"""The models that `train.model` can name."""

SCHEDULES = ("plateau", "cosine", "constant")
"""What `train.schedule` can name."""

PRECISIONS = ("float32", "bfloat16", "float16")
"""What `train.precision` can name."""

TRACKERS = ("mlflow", "tensorboard")
"""What `train.tracking` can name."""

TUNABLE = (
    "batch_size", "learning_rate", "schedule", "warmup", "weight_decay", "clip", "epochs", "patience", "precision",
)  # fmt: skip
"""Settings of `train` that `tune.space` can name, beside options.NAME."""

METRICS = ("validation_loss", "validation_auc")
"""What `tune.metric` can name."""

SAMPLERS = ("tpe", "random")
"""What `tune.sampler` can name."""

PRUNERS = ("median", "hyperband", "none")
"""What `tune.pruner` can name."""

ENGINES = ("columnar", "nanoaodtools")
"""What `skim.engine` can name."""

NAME = {
    "pattern": "[A-Za-z0-9_-][A-Za-z0-9._-]*",
    "form": 'letters, digits, "_", "-" and "." (not first), because files are named after it',
}
"""What the name of a dataset may be."""
_BRANCH = {"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "the name of a branch or of a selection's column"}


@dataclass(frozen=True)
class Dataset:
    """One sample of events: simulation of one process, or data."""

    files: list[str] = field(
        metadata={
            "doc": "NanoAOD files: paths, patterns such as data/WZ/*.root, or root:// URLs.",
            "minItems": 1,
            "examples": ["data/WZ/*.root"],
        }
    )
    class_: Optional[str] = field(
        default=None,
        metadata={
            "doc": "The class of these events in training. Several datasets may share one; without one the dataset "
            "is only scored.",
            "examples": ["signal"],
        },
    )
    cross_section: Optional[float] = field(
        default=None, metadata={"doc": "Cross section of the process [pb].", "exclusiveMinimum": 0}
    )
    is_data: bool = field(
        default=False, metadata={"doc": "True for data, false for simulation.", "key": "data"}
    )
    parameters: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "doc": "Numbers that are the same for all its events, such as the mass of a hypothesis: columns of the "
            "HDF5 files, for networks that depend on them. They are NaN for datasets that do not have them.",
            "names": {**_BRANCH, "form": "the name of a column, as in mass"},
            "examples": [{"mass": 600}],
        },
    )


@dataclass(frozen=True)
class Skim:
    """Which events and branches are kept."""

    selection: Optional[str] = field(
        default=None,
        metadata={
            "doc": "The class that selects events and computes columns, as module:Class or file.py:Class.",
            "pattern": r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|.+\.py):[A-Za-z_]\w*",
            "form": "module:Class or file.py:Class",
            "examples": ["MLTools.NanoML.trilepton:Trilepton", "my_selection.py:DiMuon"],
        },
    )
    keep: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Branches to keep, by name or pattern, beside the selection's columns and the event's identifiers; "
            "`drop PATTERN` takes away of those before it.",
            "examples": [["MET_*", "Muon_*", "drop Muon_*Iso*"]],
        },
    )
    branches: Optional[str] = field(
        default=None,
        metadata={
            "doc": "Branch selection file of nanoAOD-tools: lines such as `drop HLT_*`, beginning with all branches. "
            "The rules of `keep` come after it.",
            "examples": ["keep_and_drop.txt"],
        },
    )
    modules: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Modules of nanoAOD-tools that are run event by event, after the selection if there is one: "
            "a class, or what makes one, as module:name or file.py:name.",
            "examples": [["my_module.py:MyModule"]],
        },
    )
    cut: Optional[str] = field(
        default=None,
        metadata={
            "doc": "A cut before the selection, as nano_postproc.py takes it after -c.",
            "examples": ["nMuon >= 2 && Muon_pt[0] > 20"],
        },
    )
    certified: Optional[str] = field(
        default=None,
        metadata={
            "doc": "JSON file of certified luminosity sections. Of data, only these are kept; simulation has none.",
            "examples": ["Cert_271036-284044_13TeV_Legacy2016_Collisions16_JSON.txt"],
        },
    )
    compression: str = field(
        default="ZLIB:5",
        metadata={
            "doc": "Compression of the ROOT files: algorithm and level.",
            "pattern": "(?:ZSTD|LZMA|ZLIB|LZ4):[1-9]",
            "form": "ZSTD, LZMA, ZLIB or LZ4 and a level from 1 to 9, as in ZLIB:5",
        },
    )
    chunk: int = field(
        default=200_000, metadata={"doc": "How many events are read at once, at most.", "minimum": 1}
    )
    memory: int = field(
        default=100,
        metadata={"doc": "How much the branches that are read at once may take [MB].", "minimum": 1},
    )
    workers: int = field(
        default=0,
        metadata={
            "doc": "How many files are read at the same time; 0: as many as there are usable cores.",
            "minimum": 0,
        },
    )
    engine: str = field(
        default=ENGINES[0],
        metadata={
            "doc": "What runs the skim: NanoML's own, columnar, or the PostProcessor of PhysicsTools/NanoAODTools, "
            "event by event, where that and ROOT are installed.",
            "enum": ENGINES,
        },
    )


@dataclass(frozen=True)
class Objects:
    """The objects of one collection, such as the jets of an event."""

    fields: list[str] = field(
        metadata={
            "doc": "Branches of the collection without its prefix: pt for Jet_pt.",
            "minItems": 1,
            "uniqueItems": True,
            "items": _BRANCH,
            "examples": [["pt", "eta", "phi", "mass"]],
        }
    )
    max: Optional[int] = field(
        default=None,
        metadata={
            "doc": "How many objects of an event are kept, the first in order. Give this or a quantile.",
            "minimum": 1,
            "examples": [6],
        },
    )
    quantile: Optional[float] = field(
        default=None,
        metadata={
            "doc": "Instead of max: keep as many objects that this share of all events loses none.",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "examples": [0.99],
        },
    )
    order: Optional[str] = field(
        default="-pt",
        metadata={
            "doc": "The field to sort by, with a minus for descending; null keeps the order of the file.",
            "pattern": "-?[A-Za-z_][A-Za-z0-9_]*",
            "form": 'the name of a field, or "-" and the name of a field',
        },
    )


@dataclass(frozen=True)
class Convert:
    """What the network gets to see: skims become HDF5 files."""

    features: list[str] = field(
        metadata={
            "doc": "One number per event each: columns of the selection or branches of NanoAOD.",
            "minItems": 1,
            "uniqueItems": True,
            "items": _BRANCH,
            "examples": [["ZCand_mass", "MET_pt"]],
        }
    )
    objects: dict[str, Objects] = field(
        default_factory=dict,
        metadata={
            "doc": "Collections of objects, such as Jet, by name.",
            "names": {**_BRANCH, "form": "the name of a collection, as in Jet"},
        },
    )
    float16: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Columns to store with half precision (3 digits, up to 65504), by name or pattern, as in Jet_*.",
            "examples": [["Jet_*"]],
        },
    )
    compression: Optional[str] = field(
        default="gzip:1",
        metadata={
            "doc": "Compression of the HDF5 files: gzip and a level; null for none.",
            "pattern": "gzip:[1-9]",
            "form": "gzip and a level from 1 to 9, as in gzip:4",
        },
    )
    memory: int = field(
        default=100, metadata={"doc": "How much the events at work may take [MB].", "minimum": 1}
    )
    shuffle: Optional[int] = field(
        default=None,
        metadata={
            "doc": "Seed: all datasets go into one file, in random order, which training reads at one go; "
            "without it each dataset has a file of its own.",
            "minimum": 0,
            "maximum": 2**32 - 1,
        },
    )


@dataclass(frozen=True)
class Decorrelation:
    """A column that the network's output must not depend on, for the background."""

    column: str = field(
        metadata={
            "doc": "Event-level column of the HDF5 files, which need not be a feature.",
            **_BRANCH,
            "examples": ["WCand_mT"],
        }
    )
    strength: float = field(
        default=1.0,
        metadata={"doc": "Weight of the distance correlation in the loss.", "exclusiveMinimum": 0},
    )


@dataclass(frozen=True)
class PerObject:
    """Single objects of a collection, such as electrons, that are told apart instead of events."""

    collection: str = field(
        metadata={"doc": "The collection, one of `convert.objects`.", **_BRANCH, "examples": ["Electron"]}
    )
    label: str = field(
        metadata={
            "doc": "The field, without the prefix, that tells what an object is: a whole number. It is no input.",
            **_BRANCH,
            "examples": ["genPartFlav"],
        }
    )
    classes: dict[str, list[int]] = field(
        metadata={
            "doc": "The classes, each with its values of the label. Objects of other values are left out.",
            "names": NAME,
            "examples": ["{prompt: [1, 15], fake: [0, 3, 4, 5]}"],
        }
    )


@dataclass(frozen=True)
class Train:
    """The network and its training."""

    model: str = field(
        default=MODELS[0],
        metadata={
            "doc": f"The kind of network: {', '.join(MODELS)}, or a PyTorch module of yours as module:Class or file.py:Class.",
            "examples": list(MODELS),
        },
    )
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "doc": "Settings of the network, by name: hidden and dropout of an mlp, for instance. "
            "Those that are not given have the defaults of doc/training.md.",
            "examples": [{"hidden": [128, 128], "dropout": 0.2}],
        },
    )
    files: Optional[list[str]] = field(
        default=None,
        metadata={
            "doc": "HDF5 files to train on, instead of those that the analysis converts.",
            "minItems": 1,
        },
    )
    features: Optional[list[str]] = field(
        default=None,
        metadata={
            "doc": "Event-level columns that the network reads, and with per_object also fields of the object, such as "
            "Electron_pt; by default all of the HDF5 files.",
            "uniqueItems": True,
            "items": _BRANCH,
        },
    )
    objects: Optional[list[str]] = field(
        default=None,
        metadata={
            "doc": "Collections that the network reads; by default all of the HDF5 files.",
            "uniqueItems": True,
            "items": _BRANCH,
        },
    )
    per_object: Optional[PerObject] = field(default=None, metadata={"doc": PerObject.__doc__})
    targets: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Event-level columns to be estimated by regression, instead of telling classes apart.",
            "uniqueItems": True,
            "items": _BRANCH,
        },
    )
    parameter: Optional[str] = field(
        default=None,
        metadata={
            "doc": "A name in `datasets.NAME.parameters`, such as the mass of a signal: the network learns to tell "
            "the classes apart at any of its values. Events of datasets without it get one at random.",
            **_BRANCH,
        },
    )
    decorrelate: Optional[Decorrelation] = field(default=None, metadata={"doc": Decorrelation.__doc__})
    batch_size: int = field(default=256, metadata={"doc": "Events per step.", "minimum": 1})
    epochs: int = field(
        default=200, metadata={"doc": "Passes over the training events, at most.", "minimum": 1}
    )
    learning_rate: float = field(
        default=2e-3, metadata={"doc": "Size of the steps at the beginning.", "exclusiveMinimum": 0}
    )
    schedule: str = field(
        default=SCHEDULES[0],
        metadata={
            "doc": "How the steps become smaller: plateau halves them where the validation loss stands still, "
            "cosine takes them to zero over all epochs, constant does not.",
            "enum": SCHEDULES,
        },
    )
    warmup: float = field(
        default=0.0,
        metadata={
            "doc": "Epochs over which the steps grow to their full size at the beginning.",
            "minimum": 0,
        },
    )
    weight_decay: float = field(
        default=1e-4, metadata={"doc": "Strength of the pull of weights to zero.", "minimum": 0}
    )
    clip: Optional[float] = field(
        default=1.0,
        metadata={
            "doc": "Largest norm of a gradient, so that one odd event cannot throw the network far; null for none.",
            "exclusiveMinimum": 0,
        },
    )
    patience: int = field(
        default=20, metadata={"doc": "Training stops after so many epochs without improvement.", "minimum": 1}
    )
    folds: int = field(
        default=5,
        metadata={
            "doc": "Networks in cross-validation, each tested on events that it has not seen: at least 3. "
            "1 trains a single one, on three fifths of the events.",
            "minimum": 1,
        },
    )
    seed: int = field(
        default=1, metadata={"doc": "Seed of all random numbers.", "minimum": 0, "maximum": 2**32 - 1}
    )
    signal: Optional[str] = field(
        default=None,
        metadata={
            "doc": "The class to call signal in plots; by default the class signal, or else the first one."
        },
    )
    device: str = field(
        default="auto",
        metadata={
            "doc": "Where to compute; auto takes a GPU if there is one.",
            "enum": ("auto", "cpu", "cuda"),
        },
    )
    precision: str = field(
        default=PRECISIONS[0],
        metadata={
            "doc": "Number type of the bulk of the computation in training; bfloat16 and float16 are faster on a GPU.",
            "enum": PRECISIONS,
        },
    )
    workers: int = field(
        default=0,
        metadata={
            "doc": "How many networks are trained at the same time, each on one core of the CPU; "
            "0: as many as there are usable cores. On a GPU they are trained one after the other.",
            "minimum": 0,
        },
    )
    processes: int = field(
        default=1,
        metadata={
            "doc": "How many processes share each network's batches, one per GPU (torchrun).",
            "minimum": 1,
        },
    )
    memory: int = field(
        default=1000,
        metadata={
            "doc": "How much the events may take in memory [MB]; what is beyond is read from the files again in "
            "every epoch.",
            "minimum": 1,
        },
    )
    tracking: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Where the training is recorded beside its own files: mlflow, tensorboard.",
            "uniqueItems": True,
            "items": {"enum": TRACKERS},
        },
    )


@dataclass(frozen=True)
class Axis:
    """What a setting may be in the search: a range, or one of some choices."""

    low: Optional[float] = field(default=None, metadata={"doc": "Lower end of a range.", "examples": [1e-4]})
    high: Optional[float] = field(default=None, metadata={"doc": "Upper end of a range.", "examples": [1e-2]})
    log: bool = field(
        default=False,
        metadata={"doc": "True to search the logarithm: as many trials from 1 to 10 as from 10 to 100."},
    )
    step: Optional[float] = field(
        default=None, metadata={"doc": "Distance between values of a range.", "exclusiveMinimum": 0}
    )
    choices: Any = field(
        default=None,
        metadata={"doc": "A list of values, instead of a range.", "examples": [[64, 128, 256]]},
    )


@dataclass(frozen=True)
class Tune:
    """The search for good settings of the training."""

    trials: int = field(default=50, metadata={"doc": "How many settings are tried.", "minimum": 1})
    metric: str = field(
        default=METRICS[0],
        metadata={"doc": "What is to be as small (the loss) or large (the AUC) as can be.", "enum": METRICS},
    )
    space: dict[str, Axis] = field(
        default_factory=dict,
        metadata={
            "doc": "What is varied: a setting of `train`, or options.NAME, and what it may be. "
            "By default the learning rate, the weight decay, the batch size and the size of the network.",
            "examples": [{"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}],
        },
    )
    sampler: str = field(
        default=SAMPLERS[0],
        metadata={
            "doc": "How settings are chosen: tpe learns from the trials before, random does not.",
            "enum": SAMPLERS,
        },
    )
    pruner: str = field(
        default=PRUNERS[0],
        metadata={
            "doc": "Which trials are ended early: median those that are worse than half of the others at the same "
            "epoch, hyperband all but the best of growing groups, none none.",
            "enum": PRUNERS,
        },
    )
    seed: int = field(
        default=1, metadata={"doc": "Seed of the choice of settings.", "minimum": 0, "maximum": 2**32 - 1}
    )
    tracking: bool = field(
        default=False, metadata={"doc": "True to record each trial, too, where `train.tracking` says."}
    )


@dataclass(frozen=True)
class Evaluate:
    """The report of a training."""

    compare: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "HDF5 files of other events, of real data say, whose features are compared with those of the training.",
            "examples": [["hdf5/SingleMuon.h5"]],
        },
    )


@dataclass(frozen=True)
class Export:
    """The trained network as an ONNX file."""

    cmssw: Optional[str] = field(
        default=None,
        metadata={
            "doc": "The CMSSW release that must be able to run the model.",
            "pattern": "CMSSW_[0-9]+_[0-9]+_(?:X|[0-9]+)(?:_[A-Za-z0-9_-]+)?",
            "form": "a release such as CMSSW_14_0_X or CMSSW_14_0_19_patch1",
            "examples": ["CMSSW_14_0_X"],
        },
    )
    name: Optional[str] = field(
        default=None, metadata={"doc": "The name of the model; by default the workdir's.", **NAME}
    )


@dataclass(frozen=True)
class Score:
    """Events that get the network's output as new branches."""

    files: Optional[list[str]] = field(
        default=None,
        metadata={"doc": "ROOT files to score; by default the skims of all datasets.", "minItems": 1},
    )
    model: Optional[list[str]] = field(
        default=None,
        metadata={
            "doc": "The ONNX file, or several; by default the exported one.",
            "minItems": 1,
            "uniqueItems": True,
            "examples": ["model.onnx"],
        },
    )
    parameter: dict[str, float] = field(
        default_factory=dict,
        metadata={"doc": "Values of the models' parameters, by name.", "examples": [{"mass": 600}]},
    )
    copy: bool = field(
        default=False,
        metadata={"doc": "True to write full copies of the files with the scores, not the scores alone."},
    )
