"""Regions, and classes that are estimated from data in one of them: their settings, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Union

from MLTools.NanoML.config.datasets import FIT, TRAINING, only
from MLTools.NanoML.config.document import Keys, Problem
from MLTools.NanoML.config.schema import REGION, setting, suggestion, unknown
from MLTools.NanoML.contracts.hdf5 import region_column
from MLTools.NanoML.errors import NanoMLError

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config


@dataclass(frozen=True)
class DataDriven:
    """A class of events that is estimated from data: those in one region stand for what is expected in others."""

    from_: list[str] = setting(
        ...,
        "The datasets of data. An event that is in several of them counts once.",
        minItems=1,
        uniqueItems=True,
        examples=[["Muon_2018", "EGamma_2018"]],
    )
    region: str = setting(..., "The region in which the events are.", **REGION, examples=["sideband"])
    weight: Union[str, float] = setting(
        ...,
        "The weight of each event, such as a fake factor or the ratio of two regions: a number, or an expression of event-level "
        "columns in the language of skim.cut.",
        pattern=".+",
        form="a number, or an expression of columns",
        examples=["fake_factor", 0.12],
    )
    variations: dict[str, Union[str, float]] = setting(
        dict,
        "The transfer weight under its variations, as numbers or expressions: up and down, or NAME_up and NAME_down for each "
        "source of uncertainty.",
        names={"pattern": "[A-Za-z0-9_]+", "form": "up, down, or a name of letters, digits and _, as in statistics_up"},
        examples=[{"up": "1.3 * fake_factor", "down": "0.7 * fake_factor"}],
    )
    subtract: list[str] = setting(
        list,
        "Simulation whose events in the region are subtracted, by dataset or class, with all their weights.",
        uniqueItems=True,
        examples=[["WZ", "ZZ"]],
    )
    into: dict[str, str] = setting(
        dict,
        "The regions for which it is the estimate, each with the cut that its events must pass to count there (1: all do).",
        names=REGION,
        items={"or_number": True},
        examples=[{"SR": "nBJet == 0"}],
    )
    only: Optional[str] = only()


@dataclass(frozen=True)
class Part:
    """The events of a dataset in a class that is estimated from data."""

    name: str  # of their HDF5 file
    class_: str
    dataset: str
    is_subtracted: bool


def parts_of(config: Config, class_: str) -> list[Part]:
    """The parts of a class that is estimated from data, those of data in the order of their datasets."""
    wanted = config.data_driven[class_]
    kept = [Part(f"{class_}_from_{name}", class_, name, False) for name in config.datasets if name in wanted.from_]
    names = dict.fromkeys(name for entry in wanted.subtract for name in _named(config, wanted, entry))
    return [*kept, *(Part(f"{class_}_less_{name}", class_, name, True) for name in names)]


def _named(config: Config, wanted: DataDriven, entry: str) -> list[str]:
    """The datasets that an entry of `subtract` names: that of this name, or those of the class in the eras of the data."""
    if entry in config.datasets:
        return [entry]
    eras = {config.datasets[name].era for name in wanted.from_ if name in config.datasets}
    return [name for name, dataset in config.datasets.items() if dataset.class_ == entry and dataset.era in eras]


def regions(config: Config) -> Iterator[Problem]:
    """Contradictions between regions, and between them and other settings."""
    convert, train = config.convert, config.train
    parameters = {name for dataset in config.datasets.values() for name in dataset.parameters}
    columns = {*(convert.features if convert else ()), *parameters}
    yield from twins("regions", config.regions)
    for name, cut in config.regions.items():
        place = ("regions", name)
        yield from expression(place, cut)
        if region_column(name) in columns:
            yield place, f"HDF5 files have a column {region_column(name)} for it, as you call another one. Rename it"
    if train is not None and train.files is None:
        for number, name in enumerate(train.regions):
            yield from unknown(("train", "regions", number), name, config.regions, "one of `regions`")


def data_driven(config: Config) -> Iterator[Problem]:
    """Contradictions between classes that are estimated from data and other settings."""
    simulated = {dataset.class_ for dataset in config.datasets.values()}
    for class_, wanted in config.data_driven.items():
        place = ("data_driven", class_)
        if class_ in simulated:
            yield place, "datasets are of a class of this name. Rename one of the two"
        for number, name in enumerate(wanted.from_):
            yield from unknown((*place, "from", number), name, config.datasets, "a dataset")
            if name in config.datasets and not config.datasets[name].is_data:
                what = f'"{name}" is simulation. Name data, or add "data: true" to that dataset'
                yield (*place, "from", number), what
        yield from unknown((*place, "region"), wanted.region, config.regions, "one of `regions`")
        yield from expression((*place, "weight"), str(wanted.weight))
        for variation, text in wanted.variations.items():
            yield from expression((*place, "variations", variation), str(text))
        for region, cut in wanted.into.items():
            yield from unknown((*place, "into", region), region, config.regions, "one of `regions`")
            yield from expression((*place, "into", region), cut)
            if region == wanted.region:
                what = "its events are in this region: it is the estimate for others. Remove it"
                yield (*place, "into", region), what
        train = config.train if wanted.only != FIT else None
        in_training = train.regions if train is not None and train.per_object is None else []
        if in_training and not {*in_training} & {*wanted.into}:
            what = f'none of its events would be trained on, as `train.regions` has other regions. Add "into: {{{in_training[0]}: CUT}}"'
            yield place, what
        yield from _subtracted(config, class_, wanted)
        for part in parts_of(config, class_):
            if part.name in config.datasets:
                what = f"the file of {part.dataset} in the class {class_} has this name. Rename it"
                yield ("datasets", part.name), what


def _subtracted(config: Config, class_: str, wanted: DataDriven) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    eras = {config.datasets[name].era for name in wanted.from_ if name in config.datasets}
    classes = {dataset.class_ for dataset in config.datasets.values() if dataset.class_ is not None}
    for number, entry in enumerate(wanted.subtract):
        place = ("data_driven", class_, "subtract", number)
        of_class = [name for name, dataset in config.datasets.items() if dataset.class_ == entry]
        if entry not in config.datasets and not of_class:
            known = dict.fromkeys([*config.datasets, *classes])
            yield place, f'"{entry}" is neither a dataset nor a class of datasets. {suggestion(entry, known)}'
        if entry in config.datasets and of_class not in ([], [entry]):
            yield place, f'"{entry}" is a dataset, and a class of {", ".join(of_class)} as well. Name the datasets'
            continue
        names = _named(config, wanted, entry)
        if of_class and not names:
            yield place, f'no dataset of the class "{entry}" is of the era of the data. Remove it'
        for name in names:
            dataset = config.datasets[name]
            if owner.setdefault(name, entry) != entry:
                yield place, f'{name} is subtracted already, by "{owner[name]}". Remove one'
            if dataset.is_data:
                yield place, f'"{name}" is data, and only simulation is subtracted. Remove it'
            elif dataset.era not in eras and eras:
                yield place, f'"{name}" is of the era {dataset.era}, of which no data are taken. Remove it'
            elif dataset.cross_section is None or config.luminosity_of(name) is None:
                what = (
                    f'how many events of "{name}" there are is not known. Give it a "cross_section", and a luminosity'
                )
                yield place, what
    for use in (wanted.only,) if wanted.only else (TRAINING, FIT) if config.histogram else ():
        there = {config.datasets[name].class_ for name in owner if config.datasets[name].only in (None, use)}
        for name, entry in owner.items():
            if config.datasets[name].class_ not in there:
                what = f"{name} is not in the {use}, so nothing would be subtracted for it there. Name its class"
                yield ("data_driven", class_, "subtract", wanted.subtract.index(entry)), what


def twins(section: str, names: Iterable[str]) -> Iterator[Problem]:
    """Names of a section by which files are named that would be one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            what = f'differs from "{other}" only in upper and lower case, which not every disk tells apart. Rename one'
            yield (section, name), what


def expression(keys: Keys, text: str) -> Iterator[Problem]:
    """What is wrong with an expression of columns in itself."""
    from MLTools.NanoML.nanoaod.formula import Formula  # takes awkward, which most configurations do without

    try:
        Formula(text)
    except NanoMLError as problem:
        yield keys, str(problem)
