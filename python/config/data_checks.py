"""Contradictions between settings of datasets, regions, skims, conversion and scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from MLTools.NanoML.config.analysis import Config, parts_of, subtracted_by
from MLTools.NanoML.config.data import ENGINES, FIT, ONLY_NANOAODTOOLS, TIERS, TRAINING, DataDriven
from MLTools.NanoML.contracts.hdf5 import RESERVED, region_column
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.document import Keys, Problem
from MLTools.NanoML.schema.settings import suggestion, unknown

_LARGEST = 3.4028235e38  # of float32


def _datasets(config: Config) -> Iterator[Problem]:
    yield from twins("datasets", config.datasets)
    features = config.convert.features if config.convert else []
    for name, dataset in config.datasets.items():
        place = ("datasets", name)
        if not dataset.files and not dataset.das:
            what = 'has no files. Add "files", as in "files: data/WZ/*.root", or "das" with a name of the catalogue'
            yield place, what
        for number, text in enumerate(dataset.das):
            tier = text.rpartition("/")[2]
            if not any(fnmatchcase(known, tier) for known in TIERS):
                what = f"{tier} is not NanoAOD. Take the dataset's NANOAOD or NANOAODSIM, or a USER one"
                yield (*place, "das", number), what
        if dataset.instance and not dataset.das:
            yield (*place, "instance"), 'has an effect with "das" only. Remove it'
        if dataset.is_data and dataset.cross_section is not None:
            yield (*place, "cross_section"), 'data has no cross section. Remove this or "data: true"'
        for key in ("k_factor", "weight", "luminosity"):
            if dataset.is_data and getattr(dataset, key) is not None:
                yield (*place, key), 'is for simulation. Remove this or "data: true"'
        if not dataset.generator_weights and (dataset.is_data or config.skim is None):
            remedy = "Remove it" if dataset.is_data else "Add a section `skim`, or remove it"
            yield (*place, "generator_weights"), f"is for simulation that is skimmed. {remedy}"
        if dataset.k_factor is not None and dataset.cross_section is None:
            yield (*place, "k_factor"), "has no effect without a cross section. Add it, or remove this"
        if dataset.triggers and not dataset.is_data:
            what = "is for data: simulation keeps events that fire any trigger of its era's data. Remove this"
            yield (*place, "triggers"), what
        if dataset.triggers and (config.skim is None or config.skim.selection is None):
            yield (*place, "triggers"), 'is applied with the selection, but there is none. Add "skim: {selection: ...}"'
        if dataset.era is not None:
            yield from unknown((*place, "era"), dataset.era, config.eras, "one of `eras`")
        elif config.eras:
            yield place, f'belongs to no era. Add "era: {next(iter(config.eras))}", or another one'
        if dataset.is_data and dataset.class_ is not None:
            yield (*place, "class"), 'data is trained on in a region of "data_driven" only. Remove this or "data: true"'
        yield from expression((*place, "weight"), dataset.weight) if dataset.weight else ()
        for key, value in dataset.parameters.items():
            where = (*place, "parameters", key)
            if key in RESERVED:
                yield where, "every HDF5 file has a column of this name with another meaning. Rename it"
            elif key in features:
                yield where, "a feature has this name, too. Rename it, or take it out of convert.features"
            if not abs(value) <= _LARGEST:
                yield where, f"{value} is not a number that float32 can hold, as in 600"


def _cross_sections(config: Config) -> Iterator[Problem]:
    known = [name for name, dataset in config.datasets.items() if dataset.cross_section is not None]
    if not known:
        return
    for name in known:
        era = config.datasets[name].era
        if (era is None or era in config.eras) and config.luminosity_of(name) is None:
            what = f"one to the era {era}" if era else "it"
            what = f'has no effect without a luminosity. Add {what}, in /fb, as in "luminosity: 59.8"'
            yield ("datasets", name, "cross_section"), what
            break
    which = "dataset with a class" if config.classes and not (config.train and config.train.per_object) else "dataset"
    wanted = {*config.trained, *(name for name in config.datasets if config.histogram and config.process_of(name))}
    for name, dataset in config.datasets.items():
        if name in wanted and not dataset.is_data and name not in known:
            what = f'missing, while "{known[0]}" has one. Give it for every {which}, or for none'
            yield ("datasets", name, "cross_section"), what


def _eras(config: Config) -> Iterator[Problem]:
    for key in ("luminosity", "luminosity_uncertainty", "corrections", "energy"):
        if config.eras and getattr(config, key) is not None:
            yield (key,), f"is given by each of `eras`. Move it there, as in `eras: {{2018: {{{key}: ...}}}}`"


def _skims(config: Config) -> Iterator[Problem]:
    """Mistakes in the section `skim`."""
    skim = config.skim
    if skim and not (skim.selection or skim.modules or skim.cut or skim.certified):
        yield ("skim",), 'selects nothing. Give "selection", as in "selection: my_selection.py:DiMuon"'
    if skim and skim.modules and skim.engine == ENGINES[0]:
        yield ("skim", "engine"), ONLY_NANOAODTOOLS


def _conversions(config: Config) -> Iterator[Problem]:
    """Mistakes in the section `convert`."""
    if config.convert is None:
        return
    for name, objects in config.convert.objects.items():
        if (objects.max is None) == (objects.quantile is None):
            yield ("convert", "objects", name), 'takes "max" or "quantile", one of them, as in "max: 6"'
    if config.convert.shuffle is None or not config.datasets:
        return
    if not config.trained:
        what = 'takes the datasets with a class, but none has one. Remove this, or add "class: ..." to them'
        yield ("convert", "shuffle"), what
    taken = {("all" if era is None else f"all_{era}").lower() for era in config.trainings}
    for name in config.datasets:
        if name.lower() in taken:
            what = "the file of all datasets, which convert.shuffle makes, has this name. Rename it"
            yield ("datasets", name), what


def _regions(config: Config) -> Iterator[Problem]:
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


def _data_driven(config: Config) -> Iterator[Problem]:
    """Contradictions between classes that are estimated from data and other settings."""
    simulated = {dataset.class_ for dataset in config.datasets.values()}
    for class_, wanted in config.data_driven.items():
        place = ("data_driven", class_)
        if class_ in simulated:
            yield place, "a class of datasets has this name. Rename one of the two"
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
        names = subtracted_by(config, wanted, entry)
        if of_class and not names:
            yield place, f'no dataset of the class "{entry}" is of the era of the data. Remove it'
        for name in names:
            dataset = config.datasets[name]
            if owner.setdefault(name, entry) != entry:
                yield place, f'{name} is subtracted already, by "{owner[name]}". Remove one'
            if dataset.is_data:
                yield place, f'"{name}" is data, and only simulation is subtracted. Remove it'
            elif dataset.era not in eras and eras:
                yield place, f'"{name}" is of the era {dataset.era}, from which no data are taken. Remove it'
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


def _sources(config: Config) -> Iterator[Problem]:
    """Sections that have nothing to read."""
    if config.datasets:
        return
    for section in ("skim", "convert"):
        if getattr(config, section) is not None:
            yield (section,), 'there are no datasets to read. Add some under "datasets:"'
    if config.score is not None and config.score.files is None:
        yield ("score",), 'there is nothing to score. Add datasets or "score.files"'
    if config.score is not None and config.score.model == [] and config.score.files is not None:
        yield ("score", "model"), "only files of datasets have weights. Name a model, or files as those of a dataset"


def twins(section: str, names: Iterable[str]) -> Iterator[Problem]:
    """Names of a section by which files are named that would be one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            what = f'differs from "{other}" only in upper and lower case, which not every disk tells apart. Rename one'
            yield (section, name), what


def expression(keys: Keys, text: str) -> Iterator[Problem]:
    """Mistakes in an expression of columns by itself."""
    from MLTools.NanoML.nanoaod.formula import Formula  # takes awkward, which most configurations do without

    try:
        Formula(text)
    except NanoMLError as problem:
        yield keys, str(problem)


CHECKS = (_datasets, _cross_sections, _eras, _skims, _conversions, _regions, _data_driven, _sources)
