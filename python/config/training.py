"""The section `train`: the networks, and how they are trained."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Optional, Union

from MLTools.NanoML.config.fit import FitTarget
from MLTools.NanoML.extending import extended
from MLTools.NanoML.networks import NetworkClass, networks
from MLTools.NanoML.schema.roles import HOW
from MLTools.NanoML.schema.settings import BRANCH, NAME, REGION, setting

# what settings can name, the default first
# the first is what wins on tables, rows of objects among them; see bench/README.md
MODELS = tuple(dict.fromkeys(["tabular", *(path.stem for path in networks())]))
SCHEDULES = ("plateau", "cosine", "onecycle", "constant")
SAMPLERS = ("every", "balanced", "weighted")
NEGATIVE_WEIGHTS = ("signed", "reweight")
OBJECTIVES = ("loss", "result")
SCALINGS = ("standard", "none")
ESTIMATES = ("huber", "mean", "median")
PRECISIONS = ("float32", "bfloat16", "float16")
DISCRIMINANT = "discriminant"
"""Name of the discriminant that a training with more than two classes has by itself."""


@dataclass(frozen=True)
class Decorrelation:
    """A column that the network's output must not depend on, for the background."""

    column: str = setting(
        ..., "Event-level column of the HDF5 files, which need not be a feature.", **BRANCH, examples=["WCand_mT"]
    )
    strength: float = setting(1.0, "Weight of the distance correlation in the loss.", exclusiveMinimum=0)


@dataclass(frozen=True)
class Against:
    """The classes that a discriminant tells apart: a class, and others in given shares."""

    signal: str = setting(..., "The signal class.", examples=["signal"])
    shares: dict[str, float] = setting(
        dict,
        "How many events of each class count against it, for one event of the signal unless its share is given as well; only "
        "their ratios matter for a cut. Classes that are left out do not count. By default all count, as many as are expected.",
        items={"exclusiveMinimum": 0},
        examples=[{"WZ": 0.7, "ZZ": 0.3}],
    )


@dataclass(frozen=True)
class PerObject:
    """Single objects of a collection, such as electrons, are classified instead of events."""

    collection: str = setting(..., "The collection, one of `convert.objects`.", **BRANCH, examples=["Electron"])
    label: str = setting(
        ...,
        "The field, without the prefix, that says what an object is: a whole number. It is not an input.",
        **BRANCH,
        examples=["genPartFlav"],
    )
    classes: dict[str, list[int]] = setting(
        ...,
        "The classes, each with its values of the label. Objects with other values are left out.",
        names=NAME,
        examples=["{prompt: [1, 15], fake: [0, 3, 4, 5]}"],
    )


@dataclass(frozen=True)
class Init:
    """The weights with which a training begins, instead of random ones."""

    file: str = setting(
        ...,
        "The checkpoint: the state_dict of the network in a file of torch.save, or network_I.pt of another training.",
        examples=["weights.pt"],
        **HOW,  # a training has `networks.beginning`, with the content of the file
    )
    fresh: list[str] = setting(
        list,
        "Parts of the network that begin with random weights all the same, such as the last layer for other classes.",
        uniqueItems=True,
        examples=[["output"]],
    )
    frozen: list[str] = setting(
        list, "Parts whose weights stay as they are in the file.", uniqueItems=True, examples=[["embedding", "blocks"]]
    )


DESCENT, SCORES = "descent", "scores"
"""What alone some settings of `train` are about: descent along gradients, and scores of classes. Trees do without the one, ratios without
the other."""


@extended("train")
@dataclass(frozen=True)
class Train:
    """The network and its training."""

    model: str = setting(
        MODELS[0],
        f"The kind of network: {', '.join(MODELS)}, or your own PyTorch module as module:Class or file.py:Class. "
        "Some have their own defaults of other settings: they are in doc/networks.md.",
        examples=list(MODELS),
    )
    options: dict[str, Any] = setting(
        dict,
        "Settings of the network, by name: width and dropout, for instance. Their defaults are in doc/networks.md.",
        examples=[{"width": 128, "dropout": 0.1}],
    )
    init: Optional[Union[Init, str]] = setting(
        None,
        "Weights to begin with, for fine-tuning: a checkpoint, alone or with parts of the network that are `fresh` or `frozen`.",
        examples=["weights.pt"],
        of=(DESCENT, SCORES),
    )
    scaling: str = setting(
        SCALINGS[0],
        "How inputs reach the network: standard shifts and scales each to a centre of 0 and a width of 1, none leaves them, and "
        "targets, as they are in the files, for a network with its own preprocessing.",
        enum=SCALINGS,
        of=(DESCENT,),
    )
    files: Optional[list[str]] = setting(
        None, "HDF5 files to train on, instead of those that the analysis converts.", minItems=1, **HOW
    )
    per_era: bool = setting(
        False,
        "True to train networks for each of `eras` instead of for all together: the networks of its own era score an event.",
        **HOW,
    )
    features: Optional[list[str]] = setting(
        None,
        "Event-level columns that the network reads, and with per_object also fields of the object, such as "
        "Electron_pt; by default all of the HDF5 files.",
        uniqueItems=True,
        items=BRANCH,
        searched=True,
    )
    objects: Optional[list[str]] = setting(
        None, "Collections that the network reads; by default all of the HDF5 files.", uniqueItems=True, items=BRANCH
    )
    per_object: Optional[PerObject] = setting(None)
    regions: list[str] = setting(
        list,
        "Regions whose events are trained on, validated with and tested: those in any of them; by default all events.",
        uniqueItems=True,
        items=REGION,
        examples=[["SR"]],
        of=(SCORES,),
    )
    targets: list[str] = setting(
        list,
        "Event-level columns to estimate by regression, instead of a classification. It needs no classes.",
        uniqueItems=True,
        items=BRANCH,
    )
    estimate: Union[float, str] = setting(
        ESTIMATES[0],
        "What a regression estimates of the targets: huber is between mean and median, and hardly feels outliers; mean; median; "
        "or a quantile, a number between 0 and 1.",
        examples=["mean", "median", 0.84],
    )
    discriminants: dict[str, Union[Against, str]] = setting(
        dict,
        "Discriminants, by name: outputs of the model that look for one class among the others in the shares that these have. "
        "A class alone stands for this class against all others, as many as are expected. The first judges the training. "
        "By default there is one if there are more than two classes: `discriminant`, for the signal.",
        names=REGION,
        examples=[{"wprime": "signal"}],
        of=(SCORES,),
    )
    parameter: Optional[str] = setting(
        None,
        "A name in `datasets.NAME.parameters`, such as the mass of a signal: the network learns to separate "
        "the classes at any of its values. Events of datasets without it get a random one.",
        **BRANCH,
        of=(SCORES,),
    )
    decorrelate: Optional[Decorrelation] = setting(None, of=(DESCENT, SCORES), searched=True)
    flatten: list[str] = setting(
        list,
        "Event-level columns, with per_object fields of the object, whose spectrum is made the same for all classes by weights of the "
        "training, so that a tagger does not learn it. Reports have the weights without.",
        uniqueItems=True,
        items=BRANCH,
        examples=[["Jet_pt", "Jet_mass"]],
        of=(SCORES,),
    )
    objective: str = setting(
        OBJECTIVES[0],
        "What the networks are trained for: loss is that of single events, the cross entropy of the classes; result then goes on with the "
        "expected uncertainty of the signal strength, as `fit` has it, with its systematic uncertainties. It needs many events.",
        enum=OBJECTIVES,
        of=(DESCENT, SCORES),
    )
    negative_weights: str = setting(
        NEGATIVE_WEIGHTS[0],
        "What the training does with negative weights: signed keeps them in the loss, reweight gives its events positive weights with the "
        "same expectation, learned from the signed ones. Everything else has the signed ones.",
        enum=NEGATIVE_WEIGHTS,
        of=(SCORES,),
    )
    batch_size: int = setting(256, "Events per step.", minimum=1, of=(DESCENT,), searched=True)
    sampler: str = setting(
        SAMPLERS[0],
        "How batches are drawn: every takes each event once in an epoch; weighted draws events as often as their weight is large, with the "
        "sign alone in the loss; balanced does so within each class, and has as many events of each class in a batch.",
        enum=SAMPLERS,
        of=(DESCENT, SCORES),
        searched=True,
    )
    epochs: int = setting(200, "The largest number of passes over the training events.", minimum=1, searched=True)
    learning_rate: float = setting(2e-3, "Size of the steps at the beginning.", exclusiveMinimum=0, searched=True)
    schedule: str = setting(
        SCHEDULES[0],
        "How the steps become smaller: plateau halves them when the validation loss stops falling, "
        "cosine takes them to zero over all epochs, onecycle makes them grow for 30 % of the epochs first, constant leaves them.",
        enum=SCHEDULES,
        of=(DESCENT,),
        searched=True,
    )
    warmup: float = setting(
        0.0,
        "Epochs over which the steps grow to their full size at the beginning.",
        minimum=0,
        of=(DESCENT,),
        searched=True,
    )
    weight_decay: float = setting(
        1e-4, "Strength of the pull of the weights towards zero.", minimum=0, of=(DESCENT,), searched=True
    )
    clip: Optional[float] = setting(
        1.0,
        "Largest norm of a gradient, so that one odd event cannot throw the network off; null for none.",
        exclusiveMinimum=0,
        of=(DESCENT,),
        searched=True,
    )
    ema: Optional[float] = setting(
        None,
        "The network that is judged and kept has the exponential moving average of the weights over the steps, each with this share of "
        "the average before; null for the weights themselves.",
        exclusiveMinimum=0,
        exclusiveMaximum=1,
        examples=[0.999],
        of=(DESCENT,),
        searched=True,
    )
    patience: int = setting(20, "Training stops after this many epochs without improvement.", minimum=1, searched=True)
    folds: int = setting(
        5,
        "Networks in cross-validation, each tested on events that it has not seen: at least 3. "
        "1 trains a single one, on three fifths of the events.",
        minimum=1,
    )
    seed: int = setting(1, "Seed of all random numbers.", minimum=0, maximum=2**32 - 1)
    signal: Optional[str] = setting(
        None,
        "The class to call signal in plots; by default that of the first of `discriminants`, or else the class signal, or else "
        "the first one.",
    )
    device: str = setting(
        "auto", "Where to compute; auto takes a GPU if there is one.", enum=("auto", "cpu", "cuda"), **HOW
    )
    precision: str = setting(
        PRECISIONS[0],
        "Number type of most of the computation in training; bfloat16 and float16 are faster on a GPU.",
        enum=PRECISIONS,
        of=(DESCENT,),
        searched=True,
    )
    workers: int = setting(
        0,
        "How many networks are trained at the same time, each on one core of the CPU; "
        "0: one for each usable core. On a GPU they are trained one after the other.",
        minimum=0,
        **HOW,
    )
    processes: int = setting(
        1, "How many processes share each network's batches, one per GPU (torchrun).", minimum=1, of=(DESCENT, SCORES)
    )
    memory: int = setting(
        1000,
        "Memory for the events [MB]; what exceeds it is read from the files again in every epoch.",
        minimum=1,
        **HOW,
    )
    share: float = field(default=1.0, metadata={"hidden": True})
    """Share of the events that are used: less than all for a learning curve."""
    left_out: Optional[float] = field(default=None, metadata={"hidden": True})
    """Value of the parameter whose events are not used, to see what the networks know of it."""

    target: Optional[FitTarget] = field(default=None, metadata={"hidden": True})
    """The fit whose result the networks are trained for, with the objective result."""

    @classmethod
    def about(cls, what: Collection[str]) -> list[str]:
        """The settings among `what`, and those about it alone."""
        return [it.name for it in fields(cls) if not {it.name, *it.metadata.get("of", ())}.isdisjoint(what)]

    def with_defaults(self, given: Collection[str], base: Path) -> Train:
        """The same with the model's own defaults of the settings that are not given; `base` is the directory of the YAML file."""
        found = NetworkClass.of(self.model, base)
        own = found.defaults if found else {}
        return replace(self, **{name: value for name, value in own.items() if name not in given})

    @property
    def start(self) -> Optional[Init]:
        """The checkpoint to begin with, its short form written out."""
        return Init(self.init) if isinstance(self.init, str) else self.init

    @property
    def against(self) -> dict[str, Against]:
        """The discriminants, those in short form written out."""
        return {name: Against(it) if isinstance(it, str) else it for name, it in self.discriminants.items()}

    def signal_among(self, classes: Sequence[str]) -> str:
        """The class that is called signal: `signal`, else that of the first discriminant, else "signal", else the first class."""
        first = next((each.signal for each in self.against.values()), None)
        return self.signal or first or ("signal" if "signal" in classes else classes[0])
