"""The stages convert and shuffle: an HDF5 file of each dataset and of each part of a class from data, and one of all."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from data_processing.convert.columns import DatasetParameter, StoredCollection
from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.convert.expressions import Estimate, Expression, Region, Transfer
from data_processing.convert.reading import Sample
from data_processing.datasets.datasets import output_names, root_files
from data_processing.shuffle import ShuffleJob, shuffle_files
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.data import TRAINING, Part
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata
from MLTools.NanoML.contracts.missing import lines as missing_lines
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import plural, told_once
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task


def convert_stage(analysis: Analysis) -> Stage:
    """One HDF5 file for each dataset, and for each part of a class that is estimated from data."""
    config = analysis.config
    assert config.convert is not None
    groups = root_files(analysis)
    jobs = {name: _dataset_job(analysis, name, groups) for name in groups}
    parts = config.parts_in(TRAINING)
    jobs |= {part.name: _part_job(config, part, jobs[part.dataset], groups) for part in parts}
    code = code_of(convert_files.__module__)
    tasks = [Task.of("convert", name, convert_files, job, code) for name, job in jobs.items()]
    return Stage("convert", tasks, 0, functools.partial(convert_summary, hidden=analysis.blinded.hidden))


def _dataset_job(analysis: Analysis, name: str, groups: Mapping[str, Sequence[str]]) -> ConvertJob:
    """The conversion of a dataset; `groups` are the ROOT files of all."""
    config = analysis.config
    convert, dataset = config.convert, config.datasets[name]
    assert convert is not None
    objects = {
        name: StoredCollection(wanted.fields, wanted.max, wanted.order, wanted.quantile)
        for name, wanted in convert.objects.items()
    }
    # every file has as many objects as the others, so a quantile is taken over all of them
    quantiles = any(wanted.quantile is not None for wanted in convert.objects.values())
    weight = Expression(dataset.weight, config.place("datasets", name, "weight")) if dataset.weight else None
    parameters = _parameters(config)
    trained = {class_: it for class_, it in config.data_driven.items() if class_ in config.classes}
    return ConvertJob(
        groups[name],
        Layout.of(config).hdf5(name),
        convert.features,
        objects,
        Sample(name, config.members(TRAINING).get(name), config.cross_section_of(name), dataset.is_data, weight),
        config.classes,
        config.luminosity_of(name),
        convert.compression or "none",
        convert.memory,
        convert.float16,
        convert.missing,
        survey=tuple(path for paths in groups.values() for path in paths) if quantiles else (),
        parameters=[replace(one, value=dataset.parameters.get(one.name, math.nan)) for one in parameters],
        missing=analysis.missing.get(name, ()),
        earlier={other: groups[other] for other in config.earlier(name)},
        allow_gaps=convert.allow_gaps,
        regions=[region_of(config, region) for region in config.regions],
        others=[_transfer(config, class_) for class_, it in trained.items() if it.variations],
        is_corrected=bool(config.data_driven) or any(each.weight for each in config.datasets.values()),
        shifts=convert.shifts,
    )


def _part_job(config: Config, part: Part, job: ConvertJob, groups: Mapping[str, Sequence[str]]) -> ConvertJob:
    """The conversion of the events of a dataset, which `job` converts, in a class that is estimated from data."""
    return replace(
        job,
        output=Layout.of(config).hdf5(part.name),
        sample=replace(job.sample, name=part.name, class_=part.class_),
        # an event that is in a dataset of which nothing is taken must not be lost
        earlier={name: groups[name] for name in job.earlier if name in config.data_driven[part.class_].from_},
        others=[it for it in job.others if it.class_ != part.class_],
        estimate=estimate_of(config, part),
    )


def estimate_of(config: Config, part: Part) -> Estimate:
    """The role of a dataset's events in a class that is estimated from data."""
    wanted, place = config.data_driven[part.class_], ("data_driven", part.class_)
    into = [Region(name, Expression(cut, config.place(*place, "into", name))) for name, cut in wanted.into.items()]
    region, transfer = region_of(config, wanted.region), _transfer(config, part.class_)
    return Estimate(part.dataset, region, transfer, part.is_subtracted, into)


def _transfer(config: Config, class_: str) -> Transfer:
    wanted, place = config.data_driven[class_], ("data_driven", class_)
    nominal = Expression(str(wanted.weight), config.place(*place, "weight"))
    varied = {
        key: Expression(str(it), config.place(*place, "variations", key)) for key, it in wanted.variations.items()
    }
    return Transfer(class_, {NOMINAL: nominal, **varied})


def region_of(config: Config, name: str) -> Region:
    """A region of the configuration."""
    return Region(name, Expression(config.regions[name], config.place("regions", name)))


def _parameters(config: Config) -> list[DatasetParameter]:
    """The parameters of all datasets, each with its first place in the configuration; every file has all of them."""
    found: dict[str, DatasetParameter] = {}
    for name, dataset in config.datasets.items():
        for key in dataset.parameters:
            place = config.place("datasets", name, "parameters", key)
            found.setdefault(key, DatasetParameter(key, math.nan, place))
    return [found[key] for key in sorted(found)]


def convert_tasks(files: Sequence[str], directory: Path, job: ConvertJob) -> list[Task]:
    """One task for each file to be converted into a directory; the sources and output of `job` do not matter."""
    code = code_of(convert_files.__module__)
    job = replace(job, survey=tuple(files) if any(it.quantile for it in job.objects.values()) else ())
    return [
        Task.of("convert", Path(name).stem, convert_files, replace(job, sources=(file,), output=directory / name), code)
        for file, name in output_names(list(files), ".h5").items()
    ]


def convert_summary(done: Mapping[str, Mapping[str, object]], hidden: Optional[Collection[str]] = None) -> list[str]:
    """Events of each file, and what was left out; `done` has the metadata of each file as JSON.

    Of files that are `hidden` no number of events is told; by default these are all data.
    """
    lines, warnings = [], []
    for name, content in done.items():
        metadata = HDF5Metadata.from_json(content, name)
        (dataset,) = metadata.datasets
        label = f"class {dataset.class_}" if dataset.class_ else "data" if dataset.is_data else "no class"
        part = dataset.data_driven
        estimate = f": {part.sum_of_weights:+.6g} expected by {part.dataset} in {part.region}" if part else ""
        is_hidden = bool(dataset.is_data) if hidden is None else name in hidden
        if is_hidden:
            lines.append(f"{name}: {label}; how many events it has is blind")
        else:
            lines.append(f"{name}: {plural(dataset.accounting.selected, 'event')}, {label}{estimate}")
        lines += missing_lines({name: list(dataset.missing)} if dataset.missing else {})
        warnings += [(name, line, ()) for line in losses(name, metadata, is_hidden)]
    return [*lines, *told_once(warnings)]


def losses(name: str, metadata: HDF5Metadata, is_hidden: bool) -> list[str]:
    """The losses of a file, in lines: copies of events, entries that no file has, objects beyond their collection's `max`.

    If it is hidden, no line has numbers of events or objects.
    """
    lines = []
    for dataset in metadata.datasets:
        for owner, many in dataset.duplicates.items():
            number = "" if is_hidden else f"{many:,} "
            what = "copies of its own events" if owner == dataset.name else f"events that {owner} also has"
            lines.append(f"{name}: {number}{what} were left out")
    lines += [
        f"WARNING {name}: {gap} were not read. The normalisation is scaled by the weights that were."
        for dataset in metadata.datasets
        for gap in dataset.gaps
    ]
    for collection, stored in metadata.objects.items():
        objects, lost = stored.truncated.objects, stored.truncated.lost
        if lost:
            lines.append(
                f"WARNING {name}: {lost / objects:.1%} of {collection} lost{'' if is_hidden else f' ({lost:,} of {objects:,})'}: "
                f"more than {stored.max} in an event. Raise its max."
            )
    return lines


def shuffle_stage(analysis: Analysis) -> Optional[Stage]:
    """One HDF5 file of all datasets that are trained on together."""
    config = analysis.config
    assert config.convert is not None
    layout, convert, seed = Layout.of(config), config.convert, config.convert.shuffle
    if seed is None:
        return None
    compression, code = convert.compression or "none", code_of(shuffle_files.__module__)
    tasks = []
    for era in config.trainings:
        sources, output = [layout.hdf5(name) for name in config.trained_in(era)], layout.hdf5_all(era)
        job = ShuffleJob(sources, output, seed, convert.memory, compression)
        tasks.append(Task.of("shuffle", output.stem, shuffle_files, job, code))
    return Stage("shuffle", tasks, summary=functools.partial(shuffle_summary, hidden=analysis.blinded.hidden))


def shuffle_summary(done: Mapping[str, Mapping[str, object]], hidden: Collection[str] = ()) -> list[str]:
    """Events of the file, unless some of them are `hidden`; `done` has its metadata as JSON."""
    lines = []
    for name, content in done.items():
        datasets = HDF5Metadata.from_json(content, name).datasets
        number = f"{sum(each.accounting.selected for each in datasets):,} events of "
        lines.append(f"{name}: {'' if any(it.name in hidden for it in datasets) else number}{len(datasets)} datasets")
    return lines
