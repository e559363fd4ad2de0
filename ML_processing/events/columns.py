"""Which columns of the HDF5 files a training reads, and for what; and which of them are one source of uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ML_processing.events.inputs import CollectionShape, Shape
from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    PARAMETER,
    ConvertedColumn,
    ConvertedDataset,
    ConvertedRegion,
    ConvertedWeight,
    HDF5Metadata,
)
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import CLASSES, TARGETS
from MLTools.NanoML.nanoaod.fileaccounting import combined
from MLTools.NanoML.rootio.versions import IDENTIFIERS, did_you_mean

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train


NOMINAL = "weight"
"""The column with the weights that are not varied."""
T = TypeVar("T")
ALL = "all"
"""The one class of all events, in a regression on files without classes."""


@dataclass(frozen=True)
class Source:
    """One source of uncertainty of a weight, as a nuisance parameter has it."""

    name: str
    weight: str
    columns: tuple[str, ...]  # with the weights of events under its variations
    combine: str = ""  # how; if empty, they are up and down, or one that has no opposite

    def ends(self, values: Any, columns: Sequence[str], xp: object = np) -> tuple[Any, Any]:
        """A quantity up and down, None if there is no down, from its values (columns, ...) under each variation; of the module `xp`."""
        nominal, found = values[columns.index(NOMINAL)], values[[columns.index(column) for column in self.columns]]
        if self.combine:
            return combined(self.combine, nominal, found, xp)
        return found[0], found[1] if len(found) > 1 else None


def sources_of(weights: Sequence[ConvertedWeight]) -> list[Source]:
    """All sources: variations that are combined are one; others that end with _up and _down, or are named so, are a pair."""
    return [source for weight in weights if weight.variations for source in _of_weight(weight)]


def _of_weight(weight: ConvertedWeight) -> Iterator[Source]:
    if weight.combine:
        yield Source(weight.name, weight.name, tuple(weight.variations.values()), weight.combine)
        return
    pairs: dict[str, dict[str, str]] = {}
    for variation, column in weight.variations.items():
        name, _, direction = variation.rpartition("_")
        if direction not in ("up", "down"):
            name, direction = variation, "up"
        pairs.setdefault(name, {})[direction] = column
    for name, pair in pairs.items():
        columns = [pair[direction] for direction in ("up", "down") if direction in pair]
        yield Source(f"{weight.name}_{name}" if name else weight.name, weight.name, tuple(columns))


@dataclass(frozen=True)
class InputCollection:
    """A collection of objects that is an input; `max` and `order` are those of its `CollectionShape`."""

    name: str
    columns: tuple[ConvertedColumn, ...]
    max: int
    order: str | None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its columns."""
        return tuple(column.name for column in self.columns)

    @property
    def shape(self) -> CollectionShape:
        """The same as a network needs to know it."""
        return CollectionShape(self.name, self.fields, self.max, self.order)


@dataclass(frozen=True)
class ObjectLabels:
    """Which objects are classified, in a training on objects instead of events: each is a row."""

    collection: str  # their collection
    field: str  # its field that gives the class of an object
    classes: dict[int, int]  # values of this field to number of the class; other objects are left out
    fields: dict[str, str]  # the other fields, by their full names: Electron_pt to pt

    @property
    def name(self) -> str:
        """Full name of the field that gives the class."""
        return f"{self.collection}_{self.field}"


@dataclass(frozen=True)
class TrainingColumns:
    """The columns of a training, as files of the conversion describe them."""

    # of the event, in a training on objects also of the object; a parameter is the last
    features: tuple[ConvertedColumn, ...]
    collections: tuple[InputCollection, ...]
    targets: tuple[str, ...]  # of a regression; none for a classification
    parameter: str | None  # the feature that is a parameter of the network
    spectator: str | None  # what the output must not depend on
    extras: tuple[str, ...]  # read beside the inputs: targets, estimates, spectator, and more on request
    classes: list[str]
    is_labelled: bool  # the files tell the class of an event; otherwise all events are used, and are of class `ALL`
    selection: str | None  # the selection that computed the columns, as "module:Class"
    datasets: tuple[ConvertedDataset, ...]
    regions: tuple[ConvertedRegion, ...]  # of the files
    weights: tuple[ConvertedWeight, ...]  # that a selection gave, of all files
    within: tuple[ConvertedRegion, ...]  # those whose events are used; none for all events
    labels: ObjectLabels | None = None  # None in a training on events
    share: float = 1.0  # of the events that are used, those with the smallest hashes
    estimates: tuple[str, ...] = ()  # the targets of a network that also has a head for the classes
    left_out: float | None = None  # events with this value of the parameter are not used
    # values that count as missing, by the full name of the column
    named: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [column.name for column in self.features]

    @property
    def shape(self) -> Shape:
        """The inputs and outputs of a network."""
        outputs = len(self.targets) or len(self.classes)
        return Shape(tuple(self.names), tuple(it.shape for it in self.collections), outputs, len(self.estimates))

    @property
    def physical(self) -> bool:
        """Whether the weights are expected numbers of events."""
        return all(
            dataset.is_data or (dataset.cross_section is not None and dataset.luminosity is not None)
            for dataset in self.datasets
        )

    @property
    def datasets_read(self) -> list[str]:
        """Names of the HDF5 datasets."""
        return [*self._wanted()]

    def check(self, file: Path, h5: Any) -> None:
        """Make sure that an open HDF5 file has the datasets and fields that its metadata promise."""
        for dataset, names in self._wanted().items():
            known = (h5[dataset].dtype.names or ()) if dataset in h5 else ()
            missing = [name for name in names if name not in known]
            if missing == ["weight"]:
                raise NanoMLError(
                    f"{file}: its events have no weight, since no cross section or luminosity was given. Give each dataset "
                    "its `cross_section` and the analysis its `luminosity`, and convert again."
                )
            if missing:
                raise NanoMLError(
                    f"{file}: `{dataset}` has no field {missing[0]}. Make the file again with `nanoml convert`."
                )
            if dataset in h5 and len(h5[dataset]) != len(h5[EVENTS]):
                raise NanoMLError(
                    f"{file}: `{dataset}` has {len(h5[dataset])} rows for {len(h5[EVENTS])} events. "
                    "Make the file again with `nanoml convert`."
                )

    def _wanted(self) -> dict[str, list[str]]:
        """The fields of each HDF5 dataset."""
        of_object = self.labels.fields if self.labels else {}
        names = [*self.names, *self.extras]
        of_event = [name for name in names if name not in of_object] + [region.column for region in self.within]
        wanted = {EVENTS: [*IDENTIFIERS, "label", "weight", *of_event]}
        if self.labels is not None:
            fields = [of_object[name] for name in names if name in of_object]
            wanted[self.labels.collection] = ["valid", self.labels.field, *fields]
        return wanted | {it.name: ["valid", *it.fields] for it in self.collections}


def agreed_columns(
    files: Sequence[Path], metadata: Sequence[HDF5Metadata], config: Train, heads: Sequence[str], everything: bool
) -> TrainingColumns:
    """The columns that a training reads from files, which must agree on them.

    `heads` are those of the network. With `everything`, all other columns that are one number of a row are extras. A NanoMLError
    says how the files disagree, a ConfigError which column or collection is missing or cannot be used as `config` asks.
    """
    first = metadata[0]
    for file, other in zip(files[1:], metadata[1:], strict=True):
        _check_agreement(files[0], first, file, other)
    labels = _labels(first, config)
    known = {column.name: column for column in first.features}
    if labels is not None:
        members = {column.name: column for column in first.objects[labels.collection].fields}
        known = {**{name: replace(members[field], name=name) for name, field in labels.fields.items()}, **known}
    parameters = [name for name, column in known.items() if column.source == PARAMETER]
    wanted = config.features
    if wanted is None:
        wanted = [name for name in known if name not in (*config.targets, *parameters)]
    features = [_find(name, known, "train.features") for name in wanted if name != config.parameter]
    targets = [_find(name, known, "train.targets").name for name in config.targets]
    both = [name for name in targets if name in wanted]
    if both:
        raise ConfigError(
            f"train.targets: {both[0]} is a feature as well: the network would read what it is to estimate."
        )
    telling = [column.name for column in features if column.name in parameters]
    if telling:
        raise ConfigError(
            f"train.features: {telling[0]} is a parameter of some datasets, so it would tell them from the others. "
            f"Name it in `train.parameter`, or take it out."
        )
    if config.parameter is not None:
        features.append(_parameter(config.parameter, known, parameters))
    _check_heads(config, heads)
    extras, spectator = dict.fromkeys(targets), None
    if config.decorrelate is not None:
        spectator = _find(config.decorrelate.column, known, "train.decorrelate.column").name
        extras[spectator] = None
    extras |= dict.fromkeys(_find(name, known, "train.flatten").name for name in config.flatten if name not in wanted)
    if everything:
        names = [column.name for column in features]
        extras |= dict.fromkeys(name for name in known if name not in names and name not in parameters)
    chosen = [] if labels else list(first.objects) if config.objects is None else config.objects
    found = {name: _find(name, first.objects, "train.objects") for name in chosen}
    collections = tuple(InputCollection(name, it.fields, it.max, it.order) for name, it in found.items())
    if not features and not collections:
        raise NanoMLError(
            f"{files[0]}: has no event-level feature and no collection to train on. Name some in `convert.features` "
            "or `convert.objects` and convert again, or leave `train.features` and `train.objects` out."
        )
    return TrainingColumns(
        tuple(features),
        collections,
        () if CLASSES in heads else tuple(targets),
        config.parameter,
        spectator,
        tuple(extras),
        *_classes(first, config, heads),
        first.selection,
        tuple(dataset for content in metadata for dataset in content.datasets),
        first.regions,
        _weights(metadata),
        tuple(_find(name, {it.name: it for it in first.regions}, "train.regions") for name in config.regions),
        labels,
        config.share,
        tuple(targets) if CLASSES in heads else (),
        config.left_out,
        named_values(known.values(), collections),
    )


def named_values(
    columns: Iterable[ConvertedColumn], collections: Iterable[InputCollection]
) -> dict[str, tuple[float, ...]]:
    """The values that count as missing in some columns, by their full names; only columns of which something is said."""
    fields = ((f"{it.name}_{each.name}", each) for it in collections for each in it.columns)
    every = (*((each.name, each) for each in columns), *fields)
    return {name: each.missing for name, each in every if each.missing is not None}


def _check_heads(config: Train, heads: Sequence[str]) -> None:
    """Raise a ConfigError if the heads of the network do not fit what is to be learnt."""
    if heads and TARGETS in heads and not config.targets:
        raise ConfigError(f'train.targets: names nothing that the head "{TARGETS}" of {config.model} could estimate.')
    if heads and TARGETS not in heads and config.targets:
        raise ConfigError(f'train.targets: {config.model} has no head "{TARGETS}" beside {", ".join(heads)}.')


def _classes(content: HDF5Metadata, config: Train, heads: Sequence[str]) -> tuple[list[str], bool]:
    """The classes, and whether the label of an event tells its class."""
    if config.per_object is not None:
        return list(config.per_object.classes), False
    if config.targets and not content.classes and CLASSES not in heads:
        return [ALL], False
    return content.classes, True


def _weights(metadata: Sequence[HDF5Metadata]) -> tuple[ConvertedWeight, ...]:
    """The weights of all files: not every dataset has each of them."""
    found: dict[str, ConvertedWeight] = {}
    for weight in (weight for content in metadata for weight in content.weights):
        sofar = found.setdefault(weight.name, weight)
        found[weight.name] = replace(sofar, variations={**sofar.variations, **weight.variations})
    return tuple(found.values())


def _labels(content: HDF5Metadata, config: Train) -> ObjectLabels | None:
    wanted = config.per_object
    if wanted is None:
        return None
    place = "train.per_object"
    if config.objects or config.targets:
        raise ConfigError(
            f"{place}: its networks read one object at a time and separate classes: take out "
            f"train.{'objects' if config.objects else 'targets'}."
        )
    members = _find(wanted.collection, content.objects, f"{place}.collection").fields
    label = _find(wanted.label, {column.name: column for column in members}, f"{place}.label")
    if np.dtype(label.dtype).kind not in "biu":
        raise ConfigError(
            f'{place}.label: "{wanted.label}" is of type {label.dtype}, but classes are given by whole numbers.'
        )
    of_class = {value: i for i, values in enumerate(wanted.classes.values()) for value in values}
    fields = {f"{wanted.collection}_{it.name}": it.name for it in members if it.name != wanted.label}
    of_events = [column.name for column in content.features]
    both = next((name for name in fields if name in of_events), None)
    if both is not None:
        raise NanoMLError(
            f"{both} is a column of the event and, as {wanted.collection}.{fields[both]}, one of its objects: "
            "take one of them out of `convert`, and convert again."
        )
    return ObjectLabels(wanted.collection, wanted.label, of_class, fields)


def _find(name: str, known: Mapping[str, T], setting: str) -> T:
    if name not in known:
        hint = did_you_mean(name, known) or f" They have: {', '.join(known) or 'none'}."
        raise ConfigError(f'{setting}: "{name}" is not in the HDF5 files.{hint}')
    return known[name]


def _parameter(name: str, known: Mapping[str, ConvertedColumn], parameters: Iterable[str]) -> ConvertedColumn:
    if name not in parameters:
        raise ConfigError(
            f'train.parameter: "{name}" is not a parameter of the HDF5 files ({", ".join(parameters) or "they have none"}). '
            f"Give its value to the datasets that have one, as in `parameters: {{{name}: 600}}`, and convert again."
        )
    return known[name]


def _check_agreement(file_a: Path, a: HDF5Metadata, file_b: Path, b: HDF5Metadata) -> None:
    """Events of different files may only be joined if their columns mean the same."""
    views: dict[str, Callable[[HDF5Metadata], list[str]]] = {
        "features": lambda it: [column.name for column in it.features],
        "collections": lambda it: [f"{name}_{x.name}" for name, each in it.objects.items() for x in each.fields],
        "numbers of objects": lambda it: [
            f"{name} ({each.max}, sorted by {each.order})" for name, each in it.objects.items()
        ],
        "parameters": lambda it: [column.name for column in it.features if column.source == PARAMETER],
        "missing values": lambda it: [
            f"{each.name}: {each.missing}"
            for each in (*it.features, *(x for of in it.objects.values() for x in of.fields))
            if each.missing is not None
        ],
        "classes": lambda it: it.classes,
        "selection": lambda it: [it.selection or "none"],
        "regions": lambda it: [f"{region.name} ({region.cut})" for region in it.regions],
    }
    for what, view in views.items():
        in_a, in_b = view(a), view(b)
        if in_a != in_b:
            raise NanoMLError(
                f"{file_b}: its {what} are not those of {file_a}: {_difference(in_a, in_b)}. "
                "Convert all datasets with the same configuration."
            )


def _difference(in_a: list[str], in_b: list[str]) -> str:
    missing = [name for name in in_a if name not in in_b]
    extra = [name for name in in_b if name not in in_a]
    texts = [f"{word} {', '.join(names)}" for word, names in (("without", missing), ("with", extra)) if names]
    return " and ".join(texts) or f"another order ({', '.join(in_b)})"
