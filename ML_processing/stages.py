"""The stages of this part, as tasks: train, ratios, evaluate, export."""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ML_processing.evaluation.sections import MODULES
from ML_processing.export.releases import target
from ML_processing.networks import TRAINING, beginning, code_behind, resolved
from ML_processing.requests import (
    MEASURED,
    NO_DATA,
    NO_REPEATS,
    OUTPUTS,
    ClosureJob,
    DataRequest,
    EvaluateJob,
    ExportJob,
    RatioJob,
    RepeatRequest,
    ReportJob,
    TrainJob,
    repeats_of,
)
from MLTools.NanoML.config.analysis import Config, fitted_signal, luminosity_uncertainties, unbinned_channels
from MLTools.NanoML.config.evaluation import Evaluate, Export
from MLTools.NanoML.config.fit import AUTO, EVERYWHERE, Blind, Fit, FitTarget, Histogram
from MLTools.NanoML.config.training import OBJECTIVES, SCORES, Train
from MLTools.NanoML.contracts.closure import CLOSURE, RatioClosure
from MLTools.NanoML.dependencies import FIGURES, code_of
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.extending import added_to
from MLTools.NanoML.model import twin_of
from MLTools.NanoML.terminal.progress import say, say_once
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task
from MLTools.NanoML.workflow.unblinding import places_of

for _package in ("torch", "matplotlib", "mplhep", "onnx", "lightgbm"):
    # reported now, not after the skims; and without importing them, which takes seconds
    if importlib.util.find_spec(_package) is None:
        raise ModuleNotFoundError(f"No module named '{_package}'", name=_package)

_KEPT = "stays as it is, although {}. `nanoml run --force --from train` trains again"


def train_stage(analysis: Analysis) -> Stage:
    """The trainings, each of the networks of all folds; a release that nothing can be exported for is refused before them."""
    config = analysis.config
    assert config.train is not None
    _check_release(config)
    settings, code = _settings(config, *TRAINING)
    begin, tasks, is_own = beginning(settings), [], config.train.files is None
    regions = {name: config.regions[name] for name in settings.regions if is_own}
    for era in config.trainings:
        run = Layout.of(config).training(era)
        target = target_of(config, era)
        job = TrainJob(training_files(config, era), settings, run, era, begin, regions, analysis.style(era), target)
        trained = run / "training.json"
        files = {"outputs": (trained,), "memory": (trained,), "folders": (run,)}
        # of files that are made elsewhere, nobody knows the cuts of regions
        # and the result of a fit depends on all weights
        core = {} if is_own and target is None else {"core": ()}
        tasks.append(Task.of("train", era or "network", _train, job, code, **files, **core))
    return Stage("train", tasks, kept=_KEPT)


def target_of(config: Config, era: str | None) -> FitTarget | None:
    """The fit for whose result the networks of an era, or of all, are trained; None if they are not."""
    fit = config.fit
    if fit is None or config.train is None or config.train.objective == OBJECTIVES[0]:
        return None
    lacking = [name for name in config.processes if name not in config.classes]
    varied = [name for name, it in config.datasets.items() if it.varies]
    for names, what in ((lacking, "in the fit and not in the training"), (varied, "variations by other datasets")):
        if names:
            say_once(what, f"train: the objective knows nothing of {listed(names)}: {what}.")
    # the others do not change the expected result
    settings = replace(fit, signal=fitted_signal(config, fit), smooth=[], groups={}, toys=AUTO)
    histograms = {name: config.histogram[name] for name in fit.channels.values()}
    eras: list[str | None] = [era] if era is not None else [*config.eras] or [None]
    files = {it or "": [str(path) for path in _simulation_of(config, it)] for it in eras}
    luminosity = luminosity_uncertainties(config)
    return FitTarget(
        settings, histograms, luminosity, sorted(config.data_driven), {it: each for it, each in files.items() if each}
    )


def ratios_stage(analysis: Analysis) -> Stage | None:
    """The ratios of densities in each unbinned channel of the fit; None if there is none."""
    config, layout = analysis.config, Layout.of(analysis.config)
    wanted = config.fit.of_events if config.fit is not None else None
    if wanted is None or config.train is None:
        return None
    _check_release(config)
    plain: dict[str, Any] = {key: getattr(Train(), key) for key in Train.about([SCORES])}
    settings, code = _settings(config, "ML_processing.export.ratios")
    settings = replace(settings, epochs=wanted.epochs, **plain)
    if wanted.features is not None:
        settings = replace(settings, features=wanted.features, objects=[])
    tasks = []
    for it in unbinned_channels(config):
        files = [*_simulation_of(config, it.era)]
        eras = {it.era or "": [*map(str, files)]}
        channel = FitTarget(Fit({it.region: "events"}), {"events": Histogram(bins=[1, 0, 1])}, {}, [], eras)
        regions = {it.region: config.regions[it.region]} if it.region in config.regions else {}
        output, closure = layout.ratios(it.name, ".onnx"), layout.ratios(it.name, CLOSURE)
        cmssw = config.export.cmssw if config.export else None
        job = RatioJob(files, settings, channel, wanted.seeds, cmssw, regions, output, closure)
        outputs = output, twin_of(output), closure
        tasks.append(Task.of("ratios", it.name, _ratios, job, code, outputs=outputs, folders=(output.parent,)))
    return Stage("ratios", tasks, 0, of="channels")


def closure_stage(analysis: Analysis) -> Stage | None:
    """The figures of the closure of ratios in each unbinned channel; None if there is none."""
    layout, tasks, code = Layout.of(analysis.config), [], code_of("ML_processing.evaluation.closure_figures", FIGURES)
    for it in unbinned_channels(analysis.config):
        job = ClosureJob(layout.ratios(it.name, CLOSURE), it.name, analysis.style(it.era))
        outputs, folders = (layout.ratios(it.name, "_classes.png"),), (job.closure.parent,)
        tasks.append(Task.of("closure", it.name, _closure, job, code, outputs=outputs, folders=folders))
    return Stage("closure", tasks, 0, of="channels") if tasks else None


def evaluate_stage(analysis: Analysis) -> Stage:
    """The reports of the trainings."""
    config, tasks = analysis.config, []
    assert config.train is not None
    wanted = config.evaluate or Evaluate()
    compare = _files(config, wanted.compare, "evaluate", "compare")
    # files that are made elsewhere may be of any era
    known = config.eras if config.train.files is None else ()
    asked = RepeatRequest(wanted.seeds, tuple(sorted(wanted.learning_curve)), wanted.left_out)
    settings, code = _settings(config, "ML_processing.evaluation.report", *MODULES)
    for era in config.trainings:
        run, files = Layout.of(config).training(era), training_files(config, era)
        data = _compared_data(analysis, wanted, files, era)
        eras = {era: files} if era is not None else {it: own for it in known if (own := _simulation_of(config, it))}
        repeats = asked if asked == NO_REPEATS else replace(asked, target=target_of(config, era))
        job = EvaluateJob(run, files, compare, data, eras, repeats, settings.signal, settings.model, added_to(wanted))
        outputs = (run / "metrics.json", run / MEASURED)
        folders = (run, repeats_of(run)) if repeats != NO_REPEATS else (run,)
        made = {"outputs": outputs, "folders": folders, "cache": (run / OUTPUTS,)}
        tasks.append(Task.of("evaluate", era or "report", _evaluate, job, code, **made))
    return Stage("evaluate", tasks)


def report_stage(analysis: Analysis) -> Stage:
    """The figures and the page of each report."""
    code, tasks = code_of("ML_processing.evaluation.report", *MODULES, FIGURES), []
    for era in analysis.config.trainings:
        run = Layout.of(analysis.config).training(era)
        job, made = ReportJob(run / MEASURED, run / "training.json", analysis.style(era)), (run / "report.html",)
        tasks.append(Task.of("report", era or "report", _report, job, code, outputs=made, folders=(run,)))
    return Stage("report", tasks)


def _compared_data(analysis: Analysis, wanted: Evaluate, files: Sequence[Path], era: str | None) -> DataRequest:
    """The data that the networks of a training score, and the simulation of their eras if that can be told."""
    config, blinded = analysis.config, analysis.blinded
    names = [name for name in config.converted_data if wanted.data_in and config.training_of(name) == era]
    data = tuple(Layout.of(config).hdf5(name) for name in names)
    eras = dict.fromkeys(config.datasets[name].era for name in names)
    assert config.train is not None
    simulation = tuple(files)
    if names and config.train.files is None:
        simulation = tuple(file for each in eras for file in _simulation_of(config, each))
    known = [config.eras[each].luminosity if each is not None else config.luminosity for each in eras]
    luminosity = sum(it for it in known if it is not None) if known and None not in known else None
    # files that are made elsewhere may be of any era
    known_eras = eras if eras and not wanted.compare else {each for _, each in places_of(config)}
    shares = blinded.in_eras(known_eras)
    for number, name in enumerate(wanted.data_in):
        if not shares.get(name, shares.get(EVERYWHERE, 1.0)):
            what = f'data in "{name}" are blind until `nanoml unblind`, since {blinded.because}. Name another region'
            raise config.error("evaluate", "data_in", number, message=f"{what}, or the signal regions as blind.regions")
    hidden = tuple(dict.fromkeys(part.class_ for part in config.parts if part.name in blinded.hidden))
    if not wanted.data_in or not (names or wanted.compare):  # an era may be without data
        return replace(NO_DATA, hidden=hidden)
    opened = tuple(name for name in wanted.data_in if all((name, each) in blinded.opened for each in known_eras))
    limit = config.blind.signal_over_root_background if isinstance(config.blind, Blind) else None
    return DataRequest(tuple(wanted.data_in), shares, data, simulation, luminosity, limit, opened, hidden)


def _simulation_of(config: Config, era: str | None) -> tuple[Path, ...]:
    """The files that are trained on: those of an era; without eras all."""
    return tuple(Layout.of(config).hdf5(name) for name in config.trained_in(era))


def export_stage(analysis: Analysis) -> Stage:
    """The networks of each training as one ONNX file; all have the same name, so that scores have one name in all eras."""
    config = analysis.config
    _check_release(config)
    layout = Layout.of(config)
    export = Export(config.export.cmssw if config.export else None, layout.name)
    settings, code = _settings(config, "ML_processing.export.export")
    tasks = []
    for era in config.trainings:
        run, model = layout.training(era), layout.model(era)
        job = ExportJob(run, training_files(config, era), model, export, settings.model)
        outputs = model, twin_of(model)
        tasks.append(Task.of("export", era or "model", _export, job, code, outputs=outputs, folders=(run,)))
    return Stage("export", tasks, summary=_export_summary)


def _settings(config: Config, *roots: str) -> tuple[Train, str]:
    """The section `train`, with a model that means the same in every directory; the code behind it and behind `roots`."""
    assert config.train is not None
    settings = resolved(config.train, config.base)
    try:
        return settings, code_behind(settings.model, *roots)
    except ConfigError as problem:
        raise config.error("train", "model", message=str(problem).removeprefix("train.model: ")) from None


def _check_release(config: Config) -> None:
    """Refuse a release that nothing can be exported for now, not after the training."""
    try:
        target(config.export.cmssw if config.export else None)
    except ConfigError as problem:
        text = str(problem).removeprefix("export.cmssw: ").removesuffix(".")
        raise config.error("export", "cmssw", message=text) from None


def training_files(config: Config, era: str | None) -> list[Path]:
    """The files of one of `Config.trainings`."""
    assert config.train is not None
    if config.train.files is None:
        if config.convert is not None and config.convert.shuffle is not None:
            return [Layout.of(config).hdf5_all(era)]
        return [*_simulation_of(config, era)]
    return _files(config, config.train.files, "train", "files")


def _files(config: Config, patterns: Sequence[str], *keys: str) -> list[Path]:
    """The files that patterns of the configuration name."""
    found: list[Path] = []
    for number, pattern in enumerate(patterns):
        matches = sorted(glob.glob(str(config.path(pattern)), recursive=True))
        if not matches:
            raise config.error(*keys, number, message=f"{pattern}: no such file in {config.base}")
        found += [Path(match) for match in matches]
    if len(set(found)) < len(found):
        raise NanoMLError(f"{config.where(*keys)}: names a file twice, so its events would count twice.")
    return found


# the following import torch, which takes seconds: only when something is to be done


def _train(job: TrainJob) -> Mapping[str, object]:
    from ML_processing.training.following import ending
    from ML_processing.training.train import train

    if job.era is not None:
        say(f"train: the networks of {job.era}")
    with ending(job.config, job.run):
        train(job.files, replace(job.config, target=job.target), job.run, job.style)
    return {}


def _ratios(job: RatioJob) -> Mapping[str, object]:
    from ML_processing.export.ratios import learn_ratios

    closure = learn_ratios(job.files, job.config, job.channel, job.seeds, job.cmssw, job.output)
    closure.write(job.closure)
    return {"differing": len(closure.differing)}


def _closure(job: ClosureJob, only: Sequence[str] = ()) -> Mapping[str, object]:
    from ML_processing.evaluation.closure_figures import draw_closure

    return {"figures": draw_closure(RatioClosure.read(job.closure), job.closure.parent, job.channel, job.style, only)}


def _evaluate(job: EvaluateJob) -> Mapping[str, object]:
    from ML_processing.evaluation.report import evaluate
    from ML_processing.training.following import add

    evaluate(job.run, job.files, job.run, job.compare, job.data, job.eras, job.repeats, job.model, job.added)
    add(job.run, [job.run / "metrics.json"])
    return {}


def _report(job: ReportJob, only: Sequence[str] = ()) -> Mapping[str, object]:
    from ML_processing.evaluation.report import draw_report
    from ML_processing.training.following import add

    run = job.training.parent
    figures = draw_report(run, run, job.style, only)
    add(run, [run / "report.html", *sorted(run.glob("*.png"))])
    return {"figures": figures}


def _export(job: ExportJob) -> Mapping[str, object]:
    from ML_processing.export.export import export
    from ML_processing.training.following import add

    described = export(job.run, job.output, job.config, model=job.model)
    add(job.run, [job.output, twin_of(job.output)])
    return described


def _export_summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    written = next(iter(done.values())).get("target")
    if not written:
        return []
    release = written.get("cmssw") or "any release from CMSSW_12_4 on"
    return [f"opset {written.get('opset')}, IR {written.get('ir')}, for {release}"]
