"""From one state to another by one change at a time, in both orders: how far each change moved each quantity; and the page about it.

States between the two are written as analyses of their own, on the same sample of events, and run.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Optional

import yaml

from MLTools.NanoML.atomic import aside_of, make_directory, write_json, write_text
from MLTools.NanoML.config.analysis import luminosity_uncertainties, signal_of
from MLTools.NanoML.config.data import FROM_WHERE
from MLTools.NanoML.config.load import load
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import listed
from MLTools.NanoML.extensions.why.measure import (
    AUC,
    GROUPS,
    HISTOGRAM,
    LIMIT,
    SCORE_BINS,
    SPREAD,
    Measured,
    Shift,
    measure,
    shift,
)
from MLTools.NanoML.extensions.why.state import READER, Change, State, notes, same_events
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.parallel import begin_worker, locked, worker_pool
from MLTools.NanoML.report.page import digits, rounded, table, with_error
from MLTools.NanoML.report.section import Block, Document
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.document import Key
from MLTools.NanoML.schema.plain import plain, read
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.terminal.page import Page, TableColumn
from MLTools.NanoML.terminal.progress import progress
from MLTools.NanoML.workflow.analysis import Analysis, Stage, plan, run
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import execute, run_stage
from MLTools.NanoML.workflow.task import Task

_NOISE = 1e-6  # what rounding leaves
_MOST, _EACH = 4, 2  # quantities on the terminal, and of a table
_READING = "Changes are made one after the other, {}, each time with the whole analysis on the same events, not on data. A part is {}"
_ONE = "from the first to the last", "± its statistical error. The parts add up to NEW - OLD."
_BOTH = (
    "from the first to the last and from the last to the first",
    "the mean of both orders, ± its statistical error, ± half of the difference between the orders: where this is as large as the part, "
    "the part depends on the order alone. The parts add up to NEW - OLD.",
)
_BETTER = " Better are parts of a limit or an error below zero, and of an AUC above zero."
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


@dataclass(frozen=True)
class Part:
    """The moves by some changes, by one alone where that is possible: shifts by quantity, None where there is none between the states."""

    changes: tuple[str, ...]
    about: tuple[str, ...]
    shifts: dict[str, Optional[Shift]]
    together: str = ""  # why these changes cannot be made one by one


@dataclass(frozen=True)
class Answer:
    """The moves of a result: the quantities of both states, NEW - OLD, the parts, which add up to that, and what else is to be said."""

    old: dict[str, float]
    new: dict[str, float]
    total: dict[str, Optional[Shift]]
    parts: tuple[Part, ...]
    is_both: bool  # whether parts are means of both orders
    notes: tuple[str, ...]


def orders(count: int, is_both: bool) -> Iterator[list[frozenset[int]]]:
    """The states on the way, as the changes that they have: first to last, and last to first."""
    yield [frozenset(range(it)) for it in range(count + 1)]
    if is_both:
        yield [frozenset(range(count - it, count)) for it in range(count + 1)]


def answer(between: Between, events: int, is_both: bool) -> Answer:
    """Run all states, first both ends; a state that cannot be run joins the changes before and after it."""
    count = len(between.changes)
    both, between = list(orders(count, is_both)), replace(between, samples=_samples(between, events))
    ends = [both[0][0], both[0][-1]]
    wanted = dict.fromkeys([*ends, *(it for order in both for it in order)])
    done, failed = dict[frozenset[int], Measured](), dict[frozenset[int], str]()
    with progress("why", len(wanted), "states") as bar:
        for made in wanted:
            try:
                done[made] = between.run(made, done)
            except Exception as problem:  # whatever code of one state raises with settings of the other
                if made in ends:
                    raise
                failed[made] = f"{problem}".partition("\n")[0]
            bar.advance()
    names = dict.fromkeys(name for it in ends for name in done[it].values)
    parts, begin, reasons = list[Part](), 0, list[str]()
    for end in range(1, count + 1):
        # the states between two changes: with all those before, and with all those after
        states = [order[end if first else count - end] for first, order in zip((True, False), both)]
        reasons += [failed[it] for it in states if it in failed]
        if any(it in failed for it in states):
            continue
        steps = [(both[0][begin], both[0][end]), *((order[count - end], order[count - begin]) for order in both[1:])]
        mine, pairs = between.changes[begin:end], [(done[one], done[other]) for one, other in steps]
        shifts = {name: shift(pairs, name) for name in names}
        parts.append(Part(tuple(it.name for it in mine), tuple(it.about for it in mine), shifts, "; ".join(reasons)))
        begin, reasons = end, []
    pair = (done[ends[0]], done[ends[1]])
    total = {name: shift([pair], name) for name in names}
    return Answer(pair[0].values, pair[1].values, total, tuple(parts), is_both, tuple(_notes(between)))


def _samples(between: Between, events: int) -> dict[tuple[str, bool], Sample]:
    """The samples of both states; one if they have the same files. Data are read whole where classes are estimated from them."""
    found: dict[tuple[str, bool], Sample] = {}
    for is_new, state in enumerate((between.old, between.new)):
        for name, files in state.events.items():
            is_same = is_new and name in between.old.events and same_events(between.old.events[name], files)
            if is_same:
                found[name, True] = found[name, False]
            elif state.config.datasets[name].is_data and state.config.data_driven:
                found[name, bool(is_new)] = Sample(tuple(files))
            else:
                found[name, bool(is_new)] = sampled(files, events, between.directory / "samples")
    return found


def _notes(between: Between) -> Iterator[str]:
    yield from notes(between.old, between.new)
    parts = [name for (name, _), it in between.samples.items() if it.is_part]
    if parts:
        yield f"a sample of {listed(dict.fromkeys(parts))} is read, which stands for all events"
    if not between.is_trained:
        yield "networks are trained on the sample, since they are not there for both states as they are now"


def _cell(shift: Optional[Shift], is_both: bool = False) -> str:
    """A shift with its error, or of both orders with both errors: "+0.31 ± 0.12 ± 0.01"."""
    if shift is None:
        return "-"
    if max(abs(shift.value), shift.error, shift.order) < _NOISE:
        return "0"
    errors = (shift.error, shift.order)[: 1 + is_both]
    text = with_error(shift.value, *errors) if max(errors) >= _NOISE else rounded(shift.value)
    return text if shift.value < 0 else f"+{text}"


def _blocks(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Titles and quantities: limits, AUC, and the events of each region."""
    limits = [it for it in answer.total if it.startswith(LIMIT)]
    spreads = [
        it for it in answer.total if it.startswith(SPREAD) and answer.total.get(it.replace(SPREAD, LIMIT)) is None
    ]
    areas = [it for it in answer.total if it.startswith(AUC)]
    if limits or spreads or areas:
        yield "Limit and AUC", [*limits, *spreads, *areas]
    counts = [it for it in answer.total if not it.startswith((LIMIT, SPREAD, AUC))]
    for region in dict.fromkeys(it.rpartition(" in ")[2] for it in counts):
        yield f"Events in {region}", [it for it in counts if it.endswith(f" in {region}")]


def _rows(answer: Answer, names: Sequence[str]) -> Iterator[list[str]]:
    """OLD, each part, what they add up to, and NEW."""
    yield ["OLD", *(_number(answer.old.get(it)) for it in names)]
    for number, part in enumerate(answer.parts, 1):
        yield [f"{number}  {' and '.join(part.changes)}", *(_cell(part.shifts[it], answer.is_both) for it in names)]
    yield ["NEW - OLD", *(_cell(answer.total[it]) for it in names)]
    yield ["NEW", *(_number(answer.new.get(it)) for it in names)]


def _number(value: Optional[float]) -> str:
    return "-" if value is None else digits(value, 4)


def _about(part: Part) -> str:
    """How the changes of a part differ, and why they are one."""
    texts = [f"{name}: {about}" for name, about in zip(part.changes, part.about)]
    return "; ".join(texts) + (f" (not one by one: {part.together})" if part.together else "")


def _reading(answer: Answer) -> str:
    """How the parts are to be read."""
    is_judged = any(it.startswith((LIMIT, SPREAD, AUC)) for it in answer.total)
    return _READING.format(*(_BOTH if answer.is_both else _ONE)) + _BETTER * is_judged


def write(answer: Answer, states: Sequence[State], directory: Path) -> None:
    """Write why.html and why.json."""
    old, new = (str(it.config.document.name) for it in states)
    rows = ([str(number), _about(it)] for number, it in enumerate(answer.parts, 1))
    blocks = [Block("changes", "Changes", table(["", "what"], rows))]
    for number, (title, names) in enumerate(_blocks(answer)):
        blocks.append(Block(f"block_{number}", title, table(["", *names], _rows(answer, names))))
    lead = f'<p>From {escape(old)} (OLD) to {escape(new)} (NEW).</p><p class="dim">{_reading(answer)}</p>'
    here = os.path.relpath(directory / "why.html", Layout.of(states[0].config).workdir)
    said = [f"{it[0].upper()}{it[1:]}." for it in answer.notes]
    document = Document("What moved the result", here, lead, (), blocks, said)
    write_text(directory / "why.html", document.html(Analysis(states[0].config).style(), None))
    write_json(directory / "why.json", {"from": old, "to": new, **plain(answer)})


def show(answer: Answer) -> None:
    """Print the changes, and how far each moved the limit, the AUC, and the events in one region."""
    page = Page()
    for number, part in enumerate(answer.parts, 1):
        page.line(f"{number}  {_about(part)}", indent=3)
    names = [it for _, found in _blocks(answer) for it in found[:_EACH]][:_MOST]
    page.table("Shifts", ["change", *(TableColumn(it, "number") for it in names)], _rows(answer, names))
    page.line()
    page.line(_reading(answer))
    for text in answer.notes:
        page.line(f"NOTE: {text}.")
