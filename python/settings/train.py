"""The section `train`: the network and its training."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.settings.names import BRANCH, NAME

__all__ = ["MODELS", "PRECISIONS", "SCHEDULES", "TRACKERS", "Decorrelation", "PerObject", "Train"]


def _networks() -> Iterator[str]:
    """The networks of ML_processing/networks/, each a module, without an import of any."""
    spec = importlib.util.find_spec("ML_processing")
    for directory in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(path.stem for path in Path(directory, "networks").glob("[!_]*.py"))


MODELS = tuple(dict.fromkeys(["mlp", *_networks()]))
"""The networks that `train.model` can name, the default first."""


SCHEDULES = ("plateau", "cosine", "constant")
"""What `train.schedule` can name."""


PRECISIONS = ("float32", "bfloat16", "float16")
"""What `train.precision` can name."""


TRACKERS = ("mlflow", "tensorboard")
"""What `train.tracking` can name."""


@dataclass(frozen=True)
class Decorrelation:
    """A column that the network's output must not depend on, for the background."""

    column: str = field(
        metadata={
            "doc": "Event-level column of the HDF5 files, which need not be a feature.",
            **BRANCH,
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
        metadata={"doc": "The collection, one of `convert.objects`.", **BRANCH, "examples": ["Electron"]}
    )
    label: str = field(
        metadata={
            "doc": "The field, without the prefix, that tells what an object is: a whole number. It is no input.",
            **BRANCH,
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
            "items": BRANCH,
        },
    )
    objects: Optional[list[str]] = field(
        default=None,
        metadata={
            "doc": "Collections that the network reads; by default all of the HDF5 files.",
            "uniqueItems": True,
            "items": BRANCH,
        },
    )
    per_object: Optional[PerObject] = field(default=None, metadata={"doc": PerObject.__doc__})
    targets: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Event-level columns to be estimated by regression, instead of telling classes apart.",
            "uniqueItems": True,
            "items": BRANCH,
        },
    )
    parameter: Optional[str] = field(
        default=None,
        metadata={
            "doc": "A name in `datasets.NAME.parameters`, such as the mass of a signal: the network learns to tell "
            "the classes apart at any of its values. Events of datasets without it get one at random.",
            **BRANCH,
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
