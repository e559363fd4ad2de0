"""States between two: each is written as an analysis of its own, on the same sample of events, and run."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from MLTools.NanoML.atomic import aside_of, make_directory, write_text
from MLTools.NanoML.config.analysis import luminosity_uncertainties, signal_of
from MLTools.NanoML.config.data import FROM_WHERE
from MLTools.NanoML.config.load import load
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.parallel import begin_worker, locked, worker_pool
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.document import Key
from MLTools.NanoML.schema.plain import plain, read
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.why.measure import GROUPS, HISTOGRAM, SCORE_BINS, Measured, measure
from MLTools.NanoML.why.state import READER, Change, State
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import execute, run_stage
from MLTools.NanoML.workflow.runner import Stage, plan, run
from MLTools.NanoML.workflow.task import Task

_PARTS, _PRIME = 1009, 7919  # of events, by hash
_LEARNT, _EXPECTED = ("convert", "shuffle", "train", "export"), ("normalise", "score", "fill", "histogram")


@dataclass(frozen=True)
class Sample:
    """Files with events of a dataset, the factor that makes up for others in these files, and whether there are more files."""

    files: tuple[str, ...]
    factor: float = 1.0
    is_part: bool = False


def sampled(files: Sequence[str], most: int, directory: Path) -> Sample:
    """About `most` events of some files, always the same ones: whole files by their names, and within them by a hash of each event."""
    chosen, total = list[str](), 0
    for file in sorted(files, key=lambda it: hashlib.sha256(os.path.basename(it).encode()).hexdigest()):
        if total < most:
            with RootFile(file) as opened:
                total += opened.entries
            chosen.append(file)
    chosen.sort(key=list(files).index)
    if total <= 1.1 * most:
        return Sample(tuple(chosen), 1.0, len(chosen) < len(files))
    stage, skims = import_part("data_processing.skim.stage"), import_part("data_processing.skim.plan")
    cut = f"(event * {_PRIME}) % {_PARTS} < {max(1, round(_PARTS * most / total))}"
    folder = directory / hashlib.sha256("\0".join(chosen).encode()).hexdigest()[:12]
    tasks = stage.skim_tasks(chosen, folder, skims.SkimJob("", folder, keep=["*"], cut=cut))
    run_stage(Stage("skim", tasks, 0), chosen, directory, False)
    all_weights = kept = 0.0
    for task in tasks:
        with RootFile(task.outputs[0]) as opened:
            record = Provenance.of(opened)
        assert record is not None
        flow = record.accounting.cutflow
        all_weights, kept = all_weights + flow[0].weights, kept + flow[-1].weights
    return Sample(tuple(str(task.outputs[0]) for task in tasks), all_weights / kept, True)


@dataclass(frozen=True)
class Between:
    """All states between two, in a directory: each has some of the changes from one to the other."""

    old: State
    new: State
    changes: Sequence[Change]
    samples: Mapping[tuple[str, bool], Sample]  # of each dataset, without and with the change of its files
    directory: Path

    def place(self, made: Collection[int]) -> Path:
        """The YAML file of the state with some changes."""
        name = "-".join(str(it + 1) for it in sorted(made)) or "old"
        files = {*self.old.files, *self.new.files}
        above = max((it.split("/").count("..") for it in files), default=0)
        return Path(
            self.directory, "new" if len(made) == len(self.changes) else name, *["above"] * above, "analysis.yaml"
        )

    def write(self, made: Collection[int]) -> Path:
        """Write the state with some changes."""
        path, switched = self.place(made), [self.changes[it] for it in sorted(made)]
        others = {file for each in switched for file in each.files}
        for name in {**self.new.files, **self.old.files}:
            state = self.new if name in others or name not in self.old.files else self.old
            _copy(state.files[name], Path(os.path.normpath(path.parent / name)))
        settings: dict[str, Any] = copy.deepcopy(dict(self.old.settings))
        for each in switched:
            for keys in each.settings:
                _switch(settings, self.new.settings, keys)
        for name in ("style", "batch", "evaluate", "tune"):
            settings.pop(name, None)
        config, with_files = self._owner(made).config, {it.dataset for it in switched}
        for name, dataset in settings["datasets"].items():
            sample = self.samples[name, name in with_files or name not in self.old.events]
            kept = {key: it for key, it in dataset.items() if key not in FROM_WHERE}
            if sample.factor != 1 and not dataset.get("data"):
                kept["weight"] = f"({kept['weight']}) * {sample.factor!r}" if "weight" in kept else repr(sample.factor)
            settings["datasets"][name] = {**kept, "files": list(sample.files)}
        axes = {"event % 20": [GROUPS, -0.5, GROUPS - 0.5]}
        if config.train is not None:
            settings["export"] = {**settings.get("export", {}), "name": Layout.of(config).name}
            if config.classes and config.train.per_object is None:
                axes[str(signal_of(config))] = [SCORE_BINS, 0, 1]
        added = {"of": list(axes), "bins": [*axes.values()]}
        settings["histogram"] = {**settings.get("histogram", {}), HISTOGRAM: added}
        write_text(path, yaml.safe_dump({**settings, "workdir": "work"}, sort_keys=False))
        return path

    def run(self, made: frozenset[int], done: Collection[frozenset[int]]) -> Measured:
        """Run the state with some changes in a process of its own: two states may have modules of the same name.

        What it shares with the nearest of those that are `done` is taken from there.
        """
        path, (models, is_learnt) = self.write(made), self._networks(made)
        work = path.parent / "work"
        if done and not work.exists():
            near, aside = min(done, key=lambda it: len(it ^ made)), aside_of(work)
            shutil.copytree(self.place(near).parent / "work", aside, ignore=shutil.ignore_patterns("lock"))
            aside.rename(work)
        with worker_pool(1, READER, begin_worker) as pool:
            return pool.submit(_run, path, models, is_learnt).result()

    def _networks(self, made: frozenset[int]) -> tuple[list[Path], bool]:
        """The files of the networks of a state, and whether they are to be trained: on the sample, if they are not there already."""
        if self.is_trained:
            return self._owner(made).models, False
        end = frozenset(range(len(self.changes))) if self._has_others(made) else frozenset[int]()
        return sorted((self.place(end).parent / "work").glob("model*.*")) if made != end else [], made == end

    def _has_others(self, made: Collection[int]) -> bool:
        return any(self.changes[it].kind == "network" for it in made)

    def _owner(self, made: Collection[int]) -> State:
        """The state whose networks are taken."""
        is_only = not self.old.models and not self._has_others(range(len(self.changes)))
        return self.new if self._has_others(made) or (is_only and self.new.models) else self.old

    @property
    def is_trained(self) -> bool:
        """Whether the networks are there, so that none is trained on the sample."""
        ends = (self._owner(()), self._owner(range(len(self.changes))))
        return self.old.config.train is None or all(it.models for it in ends)


def _run(path: Path, models: Sequence[Path], is_learnt: bool) -> Measured:
    with open(path.with_name("run.log"), "w", encoding="utf-8") as log:
        for stream in (1, 2):  # what the stages say
            os.dup2(log.fileno(), stream)
    config = load(path)
    layout = Layout.of(config)
    for model in models:
        _copy(model, layout.workdir / model.name)
    execute(config, ("skim", *(_LEARNT if is_learnt else ()), *_EXPECTED), False, lambda _: None)
    fits: list[Any] = []
    if config.fit is not None:
        fits = [it.work.args[0] for it in import_part("statistical_analysis.stages").fit_stage(Analysis(config)).tasks]
    output, source = layout.workdir / "measured.json", layout.histograms(".h5")
    settings = {"fit": plain(config.fit), "luminosity": plain(luminosity_uncertainties(config))}
    code = code_of(measure.__module__, *(["statistical_analysis.fit"] if fits else []))
    work = functools.partial(measure, source, output, fits, [*(config.fit.channels if config.fit else ())])
    task = Task("measure", "all", (str(source),), (output,), settings, code, work)
    with locked(layout.workdir):
        run(plan([Stage("measure", [task])], layout.workdir, base=config.base), layout.workdir, config.base)
    return read(Measured, output, "Run the same command again")


def _copy(source: Path, target: Path) -> None:
    """Copy a file, unless its content is there."""
    if not target.is_file() or target.read_bytes() != source.read_bytes():
        make_directory(target.parent)
        shutil.copyfile(source, target)


def _switch(settings: dict[Any, Any], other: Mapping[Any, Any], keys: Sequence[Key]) -> None:
    """Give a setting the value that it has in other settings, or none."""
    for key in keys[:-1]:
        settings, other = settings.setdefault(key, {}), other.get(key) or {}
    if keys[-1] in other:
        settings[keys[-1]] = copy.deepcopy(other[keys[-1]])
    else:
        settings.pop(keys[-1], None)
