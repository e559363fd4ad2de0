"""The stage score: the scores of each file."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Optional

from data_processing.convert.expressions import Expression
from data_processing.convert.reading import Sample
from data_processing.convert.stage import estimate_of, region_of
from data_processing.datasets.datasets import find_files, output_names, root_files
from data_processing.score.eventcolumns import Mark, NormaliseJob, Role, copies_of, normalise
from data_processing.score.score import ScoreJob, load_models, loaded, score_file
from MLTools.NanoML.config.analysis import Config, scored_values, unbinned_channels
from MLTools.NanoML.config.data import FIT, Score
from MLTools.NanoML.config.fit import NONE
from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.entries import Outside, domain_lines
from MLTools.NanoML.schema.plain import build
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task


def score_stage(analysis: Analysis) -> Optional[Stage]:
    """Scores of all datasets, or of the files that `score.files` names.

    Without a section for them, an analysis that trains is scored if it has files, and values of the model's parameter. It
    is an error if a model that is not made by the analysis itself cannot be used like that.
    """
    config = analysis.config
    if not _is_scored(config, analysis):
        return None
    layout, score, values = Layout.of(config), config.score or Score(), scored_values(config)
    trained = {era: layout.model(era) for era in config.trainings}
    models = [config.path(model) for model in score.model] if score.model is not None else [*trained.values()]
    own = config.train is not None and any(path.resolve() in map(Path.resolve, models) for path in trained.values())
    if not own and all(model.is_file() for model in models):
        try:
            loaded = load_models(models, values)  # one message now, not one for each file
            if not score.files:
                _check_eras(config, loaded)
        except ConfigError as problem:
            raise config.error("score", message=str(problem)) from None
    job = ScoreJob("", Path(), tuple(models), values, score.copy, base=str(config.base))
    if score.files:
        tasks = score_tasks(find_files(score.files, config.base), layout.scores(), job, "", own)
        return Stage("score", tasks, 0, partial(domain_summary, {"": models}, hidden=[""] * (config.blind != NONE)))
    tasks, of_datasets = [], {}
    for name, paths in root_files(analysis).items():
        of_dataset = replace(job, roles=_roles(config, name), marks=_marks(config, name))
        if score.model is None:
            of_dataset = replace(of_dataset, models=(trained[config.training_of(name)],))
        ratios = (
            layout.ratios(it.name, ".onnx") for it in unbinned_channels(config) if it.era == config.datasets[name].era
        )
        of_dataset = replace(of_dataset, models=(*of_dataset.models, *ratios))
        of_datasets[name] = of_dataset.models
        tasks += score_tasks(paths, layout.scores(name), of_dataset, f"{name}/", own)
    return Stage("score", tasks, 0, partial(domain_summary, of_datasets, hidden=analysis.blinded.hidden))


def _check_eras(config: Config, models: Sequence[Model]) -> None:
    """Make sure that models with their selection inside have that of the datasets' era."""
    for model in models:
        era = model.description.inside.dataset.get("era") if model.description.inside else None
        other = next((name for name, each in config.datasets.items() if each.era != era), None)
        if era is not None and other is not None:
            raise ConfigError(
                f"{model.path}: has the selection of era {era} inside, but dataset {other} is not of this era. Score it by another model."
            )


def _is_scored(config: Config, analysis: Analysis) -> bool:
    # without a section for them, if it trains a model, has files, and knows a value of the parameter that the model may have
    train = config.train
    return config.score is not None or (
        train is not None
        and (train.parameter is None or train.parameter in scored_values(config))
        and bool(analysis.files)
    )


def normalise_stage(analysis: Analysis) -> Optional[Stage]:
    """The normalisation of each dataset, and of data in each class that is estimated from them, if these are scored."""
    config = analysis.config
    if not _is_scored(config, analysis) or (config.score is not None and config.score.files):
        return None
    groups, layout, code = root_files(analysis), Layout.of(config), code_of(normalise.__module__)
    allow_gaps = config.convert is not None and config.convert.allow_gaps
    tasks = []
    for name, sources in groups.items():
        dataset, luminosity = config.datasets[name], config.luminosity_of(name)
        sample = Sample(name, dataset.class_, config.cross_section_of(name), dataset.is_data)
        earlier = {other: groups[other] for other in config.earlier(name)}
        job = NormaliseJob(sources, layout.normalisation(name), sample, luminosity, earlier, allow_gaps)
        jobs = {name: job}
        for part in (it for it in config.parts_in(FIT) if it.dataset == name and not it.is_subtracted):
            wanted = config.data_driven[part.class_]
            jobs[part.name] = replace(
                job,
                output=layout.normalisation(part.name),
                # as in the conversion: an event that is in a dataset of which nothing is taken must not be lost
                earlier={other: paths for other, paths in earlier.items() if other in wanted.from_},
                region=region_of(config, wanted.region),
            )
        for key, each in jobs.items():
            outputs = (each.output, *([copies_of(each.output)] if dataset.is_data else []))
            tasks.append(Task.of("normalise", key, normalise, each, code, outputs=outputs))
    return Stage("normalise", tasks, 0)


def _roles(config: Config, name: str) -> list[Role]:
    """The roles of a dataset's events: its own, and those in classes that are estimated from data."""
    dataset, layout = config.datasets[name], Layout.of(config)
    weight = Expression(dataset.weight, config.place("datasets", name, "weight")) if dataset.weight else None
    regions = [region_of(config, region) for region in config.regions]
    own = Role(layout.normalisation(name), dataset.is_data, weight, regions)
    estimates = []
    for part in config.parts_in(FIT):
        if part.dataset == name:
            # simulation is normalised as in its own class; data may have other copies
            path = layout.normalisation(name if part.is_subtracted else part.name)
            estimates.append(replace(own, normalisation=path, estimate=estimate_of(config, part)))
    return [own, *estimates]


def _marks(config: Config, name: str) -> list[Mark]:
    """The numbers of class, dataset and era; that of a dataset follows from its name, whatever others there are."""
    dataset = config.datasets[name]
    classes, eras = (enumerate(it) for it in (dict.fromkeys([*config.classes, *config.processes]), config.eras))
    named = {
        ("label", "class"): ({class_: number for number, class_ in classes}, dataset.class_),
        ("dataset", "dataset"): ({it: zlib.crc32(it.encode()) >> 1 for it in sorted(config.datasets)}, name),
        ("era", "era"): ({era: number for number, era in eras}, dataset.era),
    }
    return [
        Mark(key, numbers.get(str(own), -1), f"{word}: {', '.join(f'{number} {it}' for it, number in numbers.items())}")
        for (key, word), (numbers, own) in named.items()
        if numbers
    ]


def domain_summary(
    models: Mapping[str, Sequence[Path]], done: Mapping[str, Mapping[str, Any]], hidden: Collection[str] = ()
) -> list[str]:
    """Say how many events lie outside of the models' domains, by dataset; `done` has the `Scored` as JSON, `models` those of each.

    Nothing is said of data in `hidden` datasets: their share might be that of a blind region.
    """
    found: dict[Path, dict[str, Outside]] = {}
    for name, content in done.items():
        dataset = name.rpartition("/")[0]
        if dataset in hidden and content.get("is_data", True):
            continue
        counts = {model: build(Outside, each) for model, each in content.get("outside", {}).items()}
        for path in models[dataset] if counts else ():
            if (about := loaded(path)).name in counts:
                found.setdefault(path, {}).setdefault(dataset, Outside()).merge(counts[about.name])
    return [
        line
        for path, each in found.items()
        for about in [loaded(path).description]
        for line in domain_lines(about.name, about.level, about.domain, each)
    ]


def score_tasks(
    files: Sequence[str], directory: Path, job: ScoreJob, prefix: str = "", own: bool = False
) -> list[Task]:
    """One task for each file to be scored into a directory; the source and output of `job` do not matter.

    `prefix` is put before the tasks' names: the dataset. `own` says that the model is made by the same analysis: it may
    not exist yet, and its selection has been run in the skims.
    """
    code = code_of(score_file.__module__, *([] if own else _selection_sources(job)))
    return [
        Task.of("score", prefix + Path(name).stem, score_file, each, code, cache=(each.output,))
        for file, name in output_names(list(files)).items()
        for each in [replace(job, source=file, output=directory / name)]
    ]


def _selection_sources(job: ScoreJob) -> list[Path]:
    """The files of the selections that models ask for; a faulty model is reported when it is used."""
    found: list[Path] = []
    for path in job.models:
        try:
            specs = set(Model(path).selection_columns.values())
            found += [source_of(load_selection(spec, job.base)) for spec in specs]
        except NanoMLError:
            continue
    return found
