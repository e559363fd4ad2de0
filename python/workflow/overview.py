"""The page of a whole analysis: what it finds, what should worry, which events and files are in it, and where it comes from.

It is made from the files that the parts leave: of those that are not there, it says nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Optional, TypeVar

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.config.analysis import signal_of
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.contracts.templates import DATA, Template, Templates, added
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import Step
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.report.flow import Count, EventFlow, FlowStep
from MLTools.NanoML.report.page import Answer, by_severity, digits, folded, rounded, table, with_error
from MLTools.NanoML.report.section import Block, Caption, Document
from MLTools.NanoML.schema.plain import DAMAGE, build
from MLTools.NanoML.stages import NAMES
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.record import Record

T = TypeVar("T")
_MOST = 20  # files of a dataset that are named
_READ = "all"  # the first step of a cut flow


@dataclass(frozen=True)
class _Limit:
    expected: tuple[float, ...]
    observed: Optional[float]


@dataclass(frozen=True)
class _Significance:
    expected: float
    observed: Optional[float]


@dataclass(frozen=True)
class _Contribution:
    group: str
    error: float


@dataclass(frozen=True)
class _Impact:
    parameter: str
    up: float
    down: float


@dataclass(frozen=True)
class _Fit:
    """What the page needs of results.json; only the summary if there are fits at several values of a parameter."""

    summary: str
    breakdown: tuple[_Contribution, ...] = ()
    impacts: tuple[_Impact, ...] = ()
    limit: Optional[_Limit] = None
    significance: Optional[_Significance] = None
    verdict: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class _Area:
    network: Optional[float]
    network_error: Optional[float]


@dataclass(frozen=True)
class _Metrics:
    """What the page needs of metrics.json."""

    auc: Optional[_Area] = None
    verdict: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class _Described:
    """What the page needs of training.json."""

    created: str
    versions: dict[str, str]
    git: Optional[str] = None


def write_overview(analysis: Analysis, always: bool = True) -> None:
    """Write WORKDIR/index.html; unless `always`, only if there is none, or a page of the analysis is newer."""
    layout = Layout.of(analysis.config)
    (_, index), *others = layout.pages(analysis.config)
    newest = max((path.stat().st_mtime_ns for _, path in others if path.exists()), default=0)
    if always or not index.exists() or newest > index.stat().st_mtime_ns:
        shown = tuple(
            it for it in analysis.style.site.pages if it[1] == index.name or (layout.workdir / it[1]).exists()
        )
        style = replace(analysis.style, site=replace(analysis.style.site, pages=shown))
        write_text(index, _Overview(analysis).document().html(style, None))


@dataclass(frozen=True)
class _Overview:
    """What files say of an analysis."""

    analysis: Analysis

    @cached_property
    def workdir(self) -> Path:
        return Layout.of(self.analysis.config).workdir

    def document(self) -> Document:
        """The page."""
        numbers = "".join(f"<li><b>{escape(it)}</b>{escape(what)}</li>" for it, what in self.numbers())
        lead = f'<ul class="key">{numbers}</ul>' if numbers else '<p class="result">Nothing has been made yet.</p>'
        worries = by_severity(it for it in self.answers() if it.state in ("bad", "look"))
        if not worries:
            lead += '<p class="dim">Nothing is known that should worry.</p>'
        blocks = [*self.flow(), *self.trainings(), *self.drawn(), *self.fitted(), *self.files(), *self.provenance()]
        return Document("Analysis", "index.html", lead, worries, blocks)

    def place(self, path: Path) -> str:
        """A path in the work directory, as links have it."""
        return path.relative_to(self.workdir).as_posix()

    @cached_property
    def metrics(self) -> Mapping[Optional[str], _Metrics]:
        """The numbers of each training that is evaluated."""
        config, layout = self.analysis.config, Layout.of(self.analysis.config)
        known = {
            era: _read(_Metrics, layout.training(era) / "metrics.json") for era in config.trainings if config.train
        }
        return {era: it for era, it in known.items() if it is not None}

    @cached_property
    def fits(self) -> Mapping[str, _Fit]:
        """The results of each fit by their directories; the first is of all."""
        fit = Layout.of(self.analysis.config).fit
        known = {
            self.place(path.parent): _read(_Fit, path)
            for path in (fit / "results.json", *sorted(fit.glob("*/results.json")))
        }
        return {place: it for place, it in known.items() if it is not None} if self.analysis.config.fit else {}

    @cached_property
    def templates(self) -> Optional[Templates]:
        """The histograms."""
        path = Layout.of(self.analysis.config).histograms(".h5")
        try:
            return Templates.read(path) if self.analysis.config.histogram and path.exists() else None
        except NanoMLError:
            return None

    @cached_property
    def accounting(self) -> Mapping[str, Accounting]:
        """The files and events of each dataset that is converted, or at least skimmed."""
        found = {}
        for name in self.analysis.config.datasets:
            converted = _read(Record, self.workdir / RECORDS / "convert" / f"{name}.json")
            skimmed = (_read(Record, it) for it in sorted((self.workdir / RECORDS / "skim" / name).rglob("*.json")))
            summaries = [it["books"] for it in converted.summary["datasets"]] if converted else []
            summaries = summaries or [it.summary for it in skimmed if it is not None]
            files = [file for it in summaries for file in Accounting.from_json(it).files]
            if files:
                found[name] = Accounting(files)
        return found

    @cached_property
    def regions(self) -> Mapping[str, Mapping[str, Optional[Count]]]:
        """The events of each process in each region, as in the first histogram that is filled there."""
        found: dict[str, dict[str, Optional[Count]]] = {}
        for histogram in self.templates.histograms if self.templates else ():
            for region in dict.fromkeys(it.region for it in histogram.channels if it.processes):
                if region not in found:
                    whole = added([it for it in histogram.channels if it.region == region and it.processes])
                    found[region] = {_process(name): _count(name, it) for name, it in whole.processes.items()}
                    if histogram.hypothesis is not None and self.templates is not None:
                        found[region].pop(self.templates.signal or "", None)  # one of many
        return found

    def numbers(self) -> Iterator[tuple[str, str]]:
        """The result, how well classes are told apart, and the expected events, each with what it is."""
        for found in [*self.fits.values()][:1]:
            if found.limit is not None:
                seen, (_, low, median, high, _) = found.limit.observed, found.limit.expected
                kind = "expected" if seen is None else "observed"
                what = f"{kind} limit on the signal strength at 95 % CL"
                if found.significance is not None:
                    value = found.significance.expected if seen is None else found.significance.observed
                    what += f"; {kind} significance {value or 0:.2f}"
                yield rounded(median if seen is None else seen, high - low), what
            else:
                yield "Fit", found.summary
        for era, it in self.metrics.items():
            if it.auc is not None and it.auc.network is not None:
                yield (
                    with_error(it.auc.network, it.auc.network_error or 0),
                    f"AUC of the networks{f' of {era}' if era else ''}",
                )
        signal, fit = signal_of(self.analysis.config), self.analysis.config.fit
        for region in [it for it in self.regions if fit is None or it in fit.channels][:1]:
            mine = {name: it for name, it in self.regions[region].items() if it is not None and name != "data"}
            others = sum((it for name, it in mine.items() if name != signal), Count(0.0))
            expected = mine.get(signal or "")
            text = f"{expected} + {others}" if expected else str(others)
            yield text, f"expected events in {region}{', signal + background' if expected else ''}"

    def answers(self) -> Iterator[Answer]:
        """What reports and fits answer, and which files are missing, with links to where it is shown."""
        layout = Layout.of(self.analysis.config)
        for era, it in self.metrics.items():
            yield from (
                _at(self.place(layout.report(era)), each, f"Training {era}: " if era else "") for each in it.verdict
            )
        worst: dict[str, tuple[Answer, int]] = {}
        for place, fit in self.fits.items():
            for each in fit.verdict:
                before, count = worst.get(each.question, (_at(f"{place}/report.html", each), 0))
                more = _at(f"{place}/report.html", each)
                worst[each.question] = by_severity([before, more])[0], count + (each.state in ("bad", "look"))
        for answer, count in worst.values():
            yield replace(answer, text=f"{answer.text} So it is in {count} of the fits.") if count > 1 else answer
        for line in missing.lines(missing.read(self.workdir)):
            yield Answer("Is every file read?", "look", f"{line}.", "#files")

    def flow(self) -> Iterator[Block]:
        """The events of each process in files, after cuts, and in regions."""
        config, cuts = self.analysis.config, dict[str, dict[str, Optional[Count]]]()
        simulated = [name for name in self.accounting if not config.datasets[name].is_data]
        scales = {name: self._scale(name) for name in simulated}
        is_expected = bool(simulated) and None not in scales.values()
        for name, accounting in self.accounting.items():
            process = "data" if config.datasets[name].is_data else config.process_of(name) or name
            scale = (scales.get(name) or 0.0) if is_expected and name in scales else None
            for step in accounting.cutflow or [Step(_READ, accounting.entries, accounting.sum_of_weights)]:
                counts = cuts.setdefault("read" if step.cut == _READ else step.cut, {})
                if name in self.analysis.blinded.hidden and step.cut != _READ:
                    counts[process] = None
                    continue
                events = step.events if scale is None else step.weights * scale
                error = 0.0 if scale is None or not step.events else abs(events) / math.sqrt(step.events)
                before = counts.get(process, Count(0.0))
                counts[process] = None if before is None else before + Count(events, error)
        steps = [FlowStep(name, counts) for name, counts in cuts.items()]
        steps += [FlowStep(name, counts, True) for name, counts in self.regions.items() if is_expected or not simulated]
        processes = dict.fromkeys(name for step in steps for name in step.counts)
        if steps:
            flow = EventFlow(tuple(processes), signal_of(config), tuple(steps), is_expected)
            text = (
                "Cuts count generator weights alone; in regions all weights count, and events may be in several."
                if self.regions
                else ""
            )
            yield Block("flow", "The flow of events", f'{flow.picture()}{flow.table()}<p class="dim">{text}</p>')

    def _scale(self, dataset: str) -> Optional[float]:
        config, total = self.analysis.config, self.accounting[dataset].sum_of_weights
        cross_section, luminosity = config.cross_section_of(dataset), config.luminosity_of(dataset)
        return 1000 * cross_section * luminosity / total if cross_section is not None and luminosity and total else None

    def trainings(self) -> Iterator[Block]:
        """The ROC curve, or another figure, of each training."""
        layout = Layout.of(self.analysis.config)
        for era in self.metrics:
            title = f"Training of {era}" if era else "Training"
            yield self._linked(f"training{era or ''}", title, layout.report(era), ["roc", "predictions", "loss"])

    def drawn(self) -> Iterator[Block]:
        """The first histogram of a fitted region, or else of any."""
        config, page = self.analysis.config, Layout.of(self.analysis.config).histograms(".html")
        fitted = [f"{name}_{region}" for region, name in config.fit.channels.items()] if config.fit else []
        others = [
            f"{it.name}_{region}"
            for it in (self.templates.histograms if self.templates else ())
            for region in self.regions
        ]
        if self.templates is not None and page.exists():
            yield self._linked("histograms", "Histograms", page, [*fitted, *others])

    def fitted(self) -> Iterator[Block]:
        """The limit."""
        if self.fits:
            page = Layout.of(self.analysis.config).fit / "report.html"
            block, found = self._linked("fit", "Fit", page, ["limits", "limit", "scan"]), next(iter(self.fits.values()))
            text = f"{found.summary[:1].upper()}{found.summary[1:]}."
            if found.breakdown:
                parts = sorted(found.breakdown, key=lambda it: -it.error)
                text += f" Error of the signal strength, by size: {listed([f'{it.group} {digits(it.error, 2)}' for it in parts])}."
            if found.impacts:
                listed_impacts = [f"{it.parameter} ({max(abs(it.up), abs(it.down)):.2g})" for it in found.impacts[:3]]
                text += f" Largest impacts: {', '.join(listed_impacts)}."
            yield replace(block, tables=f"<p>{escape(text)}</p>{block.tables}")

    def _linked(self, anchor: str, title: str, page: Path, figures: Sequence[str]) -> Block:
        """A section with a link to a page, and the first of some figures that is there beside it."""
        found = [it for it in figures if page.with_name(f"{it}.png").exists()][:1]
        shown = [(self.place(page.with_name(it)), Caption(f"{title}: {it}", "", is_small=True)) for it in found]
        link = f'<p><a href="{self.place(page)}">All figures and numbers: {escape(title)}</a></p>'
        return Block(anchor, title, link if page.exists() else "", shown, is_figure=True)

    def files(self) -> Iterator[Block]:
        """The files of each dataset that were read, and those that are missing."""
        config, gone, rows, names = self.analysis.config, missing.read(self.workdir), [], ""
        for name, it in self.accounting.items():
            read, dataset = list(dict.fromkeys(file.file for file in it.files)), config.datasets[name]
            selected = "blind" if name in self.analysis.blinded.hidden else f"{it.selected:,}"
            process = "data" if dataset.is_data else config.process_of(name) or "none"
            lost = str(len(gone.get(name, ()))) if name in gone else "none"
            rows.append([name, process, dataset.era or "", f"{len(read):,}", lost, f"{it.entries:,}", selected])
            names += f"<p>{escape(name)}: {escape(listed(read, _MOST))}</p>"
        for name, files in gone.items():
            names += "".join(f"<p>{escape(name)}, missing: {escape(it.file)} ({escape(it.reason)})</p>" for it in files)
        if rows or names:
            head = ["dataset", "process", "era", "files", "missing", "events read", "events selected"]
            yield Block("files", "Files", table(head, rows) + folded("Which files these are", names))

    def provenance(self) -> Iterator[Block]:
        """What was done when, by which command and version."""
        layout, name, rows = Layout.of(self.analysis.config), Path(self.analysis.config.document.name).name, []
        for stage in NAMES:
            made = list((self.workdir / RECORDS / stage).rglob("*.json"))
            last = _read(Record, max(made, key=lambda path: path.stat().st_mtime_ns)) if made else None
            if last is not None:
                when = last.finished.replace("T", " ")
                rows.append(
                    [stage, f"`nanoml {stage} {name}`", f"{len(made):,}", when, last.host, f"NanoML {last.version}"]
                )
        texts = []
        for era in self.metrics:
            it = _read(_Described, layout.training(era) / "training.json")
            if it is not None:
                versions = ", ".join(f"{key} {value}" for key, value in it.versions.items())
                texts.append(
                    f"Trained{f' ({era})' if era else ''} with {versions}; code: {it.git or 'not in a git repository'}."
                )
        if rows:
            head = ["stage", "command", "tasks", "last finished", "on", "by"]
            text = "".join(f"<p>{escape(it)}</p>" for it in [f"`nanoml run {name}` makes all of it.", *texts])
            yield Block("provenance", "Where this comes from", text + table(head, rows))


def _read(kind: type[T], path: Path) -> Optional[T]:
    """The object that a JSON file holds; None if there is none, or it is damaged: then the page does without."""
    try:
        return build(kind, json.loads(path.read_text(encoding="utf-8")))
    except DAMAGE:
        return None


def _at(place: str, answer: Answer, before: str = "") -> Answer:
    return replace(answer, question=before + answer.question, link=f"{place}{answer.link}")


def _process(name: str) -> str:
    return "data" if name == DATA else name


def _count(name: str, found: Template) -> Optional[Count]:
    """The events of a process; None if a bin is blind."""
    events = float(found.nominal.sum())
    return (
        None if math.isnan(events) else Count(events, 0.0 if name == DATA else math.sqrt(float(found.variances.sum())))
    )
