"""The page of a whole analysis: what it finds, what should worry, which events and files are in it, and where it comes from.

It is made from the files that the parts leave: of those that are not there, it says nothing. The flow of events through files,
cuts and regions is a table and a picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.config.analysis import hypotheses, signal_of
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.contracts.templates import DATA, Template, Templates, added
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.nanoaod.accounting import Accounting, aligned
from MLTools.NanoML.nanoaod.fileaccounting import Step
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.report.page import Answer, Digest, by_severity, figure, folded, rounded, table
from MLTools.NanoML.report.section import Block, Caption, Document, Style
from MLTools.NanoML.schema.plain import DAMAGE, read_or_none
from MLTools.NanoML.stages import NAMES
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Record

_LEFT, _RIGHT, _BAR, _GAP, _TEXT = 230, 30, 9, 12, 14  # lengths in the picture
_WIDTH = 900
_LONGEST = 32  # name of a cut that fits beside its bars
_MOST = 20  # files of a dataset that are named
_READ = "all"  # the first step of a cut flow
_PLACE = "index.html"
_WORRIES = ("bad", "look")  # the states of answers that are repeated here


@dataclass(frozen=True)
class Count:
    """Events, and their statistical error; that of data is none."""

    events: float
    error: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.events + other.events, math.hypot(self.error, other.error))

    def __str__(self) -> str:
        return "partly blind" if math.isnan(self.events) else rounded(self.events, self.error)


@dataclass(frozen=True)
class FlowStep:
    """The events of each process after a cut, or in a region; None where they are blind, nothing where they are not known."""

    name: str
    counts: Mapping[str, Optional[Count]]
    is_region: bool = False


@dataclass(frozen=True)
class EventFlow:
    """The events of each process in files, after each cut, and in regions."""

    processes: tuple[str, ...]
    signal: Optional[str]
    steps: tuple[FlowStep, ...]
    is_expected: bool  # by cross sections and luminosity; else events are counted as they are in files

    @property
    def unit(self) -> str:
        """The unit of the numbers."""
        return "expected events" if self.is_expected else "events in files"

    def table(self) -> str:
        """All numbers, as HTML."""
        rows = []
        for step in self.steps:
            known = (step.counts.get(name, "") for name in self.processes)
            name = f"in {step.name}" if step.is_region else step.name
            rows.append([name, *("blind" if it is None else str(it) for it in known)])
        return table([self.unit, *self.processes], rows)

    def picture(self, style: Style) -> str:
        """A bar for each process at each step, on a logarithmic axis: SVG."""
        known = [it.events for step in self.steps for it in step.counts.values() if it is not None and it.events > 0]
        if not known:
            return ""
        low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)) + 1e-9)
        scale = (_WIDTH - _LEFT - _RIGHT) / max(high - low, 1)
        row = _BAR * len(self.processes) + _GAP
        bottom = 2 * _TEXT + row * len(self.steps)
        content = [*self._legend(style), *_axis(low, high, scale, bottom)]
        for number, step in enumerate(self.steps):
            content += self._bars(style, step, 2 * _TEXT + row * number, low, scale)
        texts = "; ".join(self._in_words())
        return (
            f'<figure class="wide"><div class="scroll" tabindex="0"><svg viewBox="0 0 {_WIDTH} {bottom + 2 * _TEXT}" width="{_WIDTH}" '
            f'role="img" aria-label="{escape(self.unit)} by process, on a logarithmic axis. {escape(texts)}" font-size="{_TEXT - 1}" '
            f'fill="currentColor">{"".join(content)}</svg></div></figure>'
        )

    def _in_words(self) -> Iterator[str]:
        for name in self.processes:
            counts = [(step.name, step.counts[name]) for step in self.steps if step.counts.get(name) is not None]
            if counts:
                yield f"{name}: " + ", ".join(f"{it} {step}" for step, it in counts)

    def _legend(self, style: Style) -> Iterator[str]:
        at = _LEFT
        for name in self.processes:
            yield f'<rect x="{at}" y="2" width="12" height="12" fill="{_color(style, name)}"/>'
            yield f'<text x="{at + 17}" y="13">{escape(name)}</text>'
            at += 40 + 8 * len(name)

    def _bars(self, style: Style, step: FlowStep, top: int, low: int, scale: float) -> Iterator[str]:
        name = step.name if len(step.name) <= _LONGEST else f"{step.name[: _LONGEST - 2]}…"
        middle, weight = top + _BAR * len(self.processes) / 2 + _TEXT / 3, "600" if step.is_region else "400"
        yield f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end" font-weight="{weight}">{escape(name)}</text>'
        for number, process in enumerate(self.processes):
            found, y = step.counts.get(process), top + _BAR * number
            if found is not None and found.events > 0:
                length = max((math.log10(found.events) - low) * scale, 1)
                yield f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 1}" fill="{_color(style, process)}"/>'
            elif process in step.counts and (found is None or math.isnan(found.events)):
                yield f'<text x="{_LEFT + 4}" y="{y + _BAR - 1}" font-size="{_BAR}">{found or "blind"}</text>'


def _color(style: Style, process: str) -> str:
    """The colour of a process; data are black, or white in the dark."""
    return "currentColor" if process == "data" else style.color(process)


def _axis(low: int, high: int, scale: float, bottom: int) -> Iterator[str]:
    for decade in range(low, high + 1):
        x, sign = _LEFT + (decade - low) * scale, "\u2212" if decade < 0 else ""
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{1.5 * _TEXT}" y2="{bottom}" stroke="currentColor" stroke-opacity=".2"/>'
        power = f'10<tspan dy="-5" font-size="{_TEXT - 4}">{sign}{abs(decade)}</tspan>'
        yield f'<text x="{x:.1f}" y="{bottom + _TEXT + 3}" text-anchor="middle">{power}</text>'


@dataclass(frozen=True)
class _Reported:
    """The parts of metrics.json and of results.json that the page needs."""

    digest: Digest = field(default=Digest())
    verdict: tuple[Answer, ...] = ()


def write_overview(analysis: Analysis) -> None:
    """Write WORKDIR/index.html, which links to the pages that there are."""
    workdir, style = Layout.of(analysis.config).workdir, analysis.style()
    shown = tuple(it for it in style.site.pages if it[1] == _PLACE or (workdir / it[1]).exists())
    style = replace(style, site=replace(style.site, pages=shown))
    write_text(workdir / _PLACE, _Overview(analysis).document().html(style, None))


def accounting_of(analysis: Analysis) -> Mapping[str, Accounting]:
    """The files and events of each dataset that is converted, or at least skimmed."""
    found, records = dict[str, Accounting](), Layout.of(analysis.config).workdir / RECORDS
    for name in analysis.config.datasets:
        converted = read_or_none(Record, records / "convert" / f"{name}.json")
        skimmed = (read_or_none(Record, it) for it in sorted((records / "skim" / name).rglob("*.json")))
        try:
            summaries = [it["books"] for it in converted.summary["datasets"]] if converted else []
            summaries = summaries or [it.summary for it in skimmed if it is not None]
            found[name] = Accounting([file for it in summaries for file in Accounting.from_json(it).files])
        except DAMAGE:  # an older NanoML wrote it
            continue
    return {name: it for name, it in found.items() if it.files}


@dataclass(frozen=True)
class _Overview:
    """The state of an analysis, as its files have it."""

    analysis: Analysis

    @cached_property
    def workdir(self) -> Path:
        return Layout.of(self.analysis.config).workdir

    def document(self) -> Document:
        """The page."""
        numbers = "".join(f"<li><b>{escape(it)}</b>{escape(what)}</li>" for it, what in self.numbers())
        lead = f'<ul class="key">{numbers}</ul>' if numbers else '<p class="result">Nothing has been made yet.</p>'
        worries = by_severity(it for it in self.answers() if it.state in _WORRIES)
        if not worries:
            lead += '<p class="dim">Nothing is known that should worry.</p>'
        blocks = [*self.flowing(), *self.trainings(), *self.drawn(), *self.fitted(), *self.files(), *self.provenance()]
        picture = self.picture()
        return Document("Analysis", _PLACE, lead + picture, worries, blocks, is_first=bool(picture))

    def picture(self) -> str:
        """The figure of the result: the limits, the first signal region after the fit, or the scores; empty if there is none yet."""
        layout, config = Layout.of(self.analysis.config), self.analysis.config
        fits = ["limits", *(f"postfit_{it}*" for it in (config.fit.channels if config.fit else ())), "limit", "scan"]
        runs = [layout.training(era) for era in config.trainings] if config.train else []
        for directory, names in [(layout.fit, fits), *((run, ["scores", "predictions"]) for run in runs)]:
            for path in (it for name in names for it in sorted(directory.glob(f"{name}.png"))):
                what = re.sub("_+", " ", path.stem)
                return figure(self.place(path.with_suffix("")), None, f"{what[:1].upper()}{what[1:]}", "narrow")
        return ""

    def place(self, path: Path) -> str:
        """A path in the work directory, as links have it."""
        return path.relative_to(self.workdir).as_posix()

    @cached_property
    def metrics(self) -> Mapping[Optional[str], _Reported]:
        """The numbers of each training that is evaluated."""
        config, layout = self.analysis.config, Layout.of(self.analysis.config)
        return _reported({era: layout.training(era) / "metrics.json" for era in config.trainings if config.train})

    @cached_property
    def fits(self) -> Mapping[str, _Reported]:
        """The results of each fit by their directories; the first is of all."""
        config, fit = self.analysis.config, Layout.of(self.analysis.config).fit
        places = (fit, *(fit / it.ending for it in hypotheses(config))) if config.fit else ()
        return _reported({self.place(it): it / "results.json" for it in places})

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
        """The files and events of each dataset."""
        return accounting_of(self.analysis)

    @cached_property
    def regions(self) -> Mapping[str, Mapping[str, Optional[Count]]]:
        """The events of each process in each region, as in the first histogram that is filled there."""
        found: dict[str, dict[str, Optional[Count]]] = {}
        for histogram in self.templates.histograms if self.templates else ():
            for region in dict.fromkeys(it.region for it in histogram.channels if it.processes):
                if region not in found:
                    whole = added([it for it in histogram.channels if it.region == region and it.processes])
                    found[region] = {name: _count(it, 1) for name, it in whole.processes.items() if name != DATA}
                    if DATA in whole.processes:
                        found[region]["data"] = _count(whole.processes[DATA], 0)
                    elif whole.blinding:
                        found[region]["data"] = None
                    if histogram.hypothesis is not None and self.templates is not None:
                        found[region].pop(self.templates.signal or "", None)  # one of many
        return found

    def numbers(self) -> Iterator[tuple[str, str]]:
        """The result, how well classes are told apart, and the expected events, each with what it is."""
        for it in [*self.fits.values()][:1]:
            yield it.digest.number, it.digest.what
        yield from [it.digest.second for it in self.fits.values() if it.digest.second[0]][:1]
        for era, it in self.metrics.items():
            if it.digest.number:
                yield it.digest.number, f"{it.digest.what}{f' ({era})' if era else ''}"
        fit, steps = self.analysis.config.fit, self.flow.steps
        regions = [it for it in steps if it.is_region and (fit is None or it.name in fit.channels)]
        for step in (regions or steps[-1:])[:1] if self.flow.is_expected else ():
            mine = {name: it for name, it in step.counts.items() if it is not None and name != "data"}
            signal = mine.pop(self.flow.signal or "", None)
            others = str(sum(mine.values(), Count(0.0)))
            where = f"{'in' if step.is_region else 'after'} {step.name}{', signal + background' if signal else ''}"
            yield f"{signal} + {others}" if signal else others, f"expected events {where}"

    def answers(self) -> Iterator[Answer]:
        """The answers of fits and reports, and the files that are missing, with links to where it is shown."""
        of_fits = [_at(f"{place}/report.html", each) for place, it in self.fits.items() for each in it.verdict]
        for question in dict.fromkeys(it.question for it in of_fits):
            same = by_severity(it for it in of_fits if it.question == question)
            count = sum(it.state in _WORRIES for it in same)
            yield replace(same[0], text=f"{same[0].text} So it is in {count} of the fits.") if count > 1 else same[0]
        for era, it in self.metrics.items():
            place, before = self.place(Layout.of(self.analysis.config).report(era)), f"Training {era}: " if era else ""
            yield from (replace(_at(place, each), question=before + each.question) for each in it.verdict)
        for line in missing.lines(missing.read(self.workdir)):
            yield Answer("Is every file read?", "look", f"{line}.", "#files")

    @cached_property
    def flow(self) -> EventFlow:
        """The events of each process in files, after cuts, and in regions."""
        config, cuts = self.analysis.config, dict[str, dict[str, Optional[Count]]]()
        simulated = [name for name in self.accounting if not config.datasets[name].is_data]
        scales = {name: self._scale(name) for name in simulated}
        is_expected = None not in scales.values() and bool(simulated or self.regions)
        read = self.accounting.items()
        flows = {name: it.cutflow or [Step(_READ, it.entries, it.sum_of_weights)] for name, it in read}
        for name, flow in aligned(flows).items():
            process = "data" if config.datasets[name].is_data else config.process_of(name) or name
            scale = (scales.get(name) or 0.0) if is_expected and name in scales else None
            for step in flow:
                counts = cuts.setdefault("read" if step.cut == _READ else step.cut, {})
                if name in self.analysis.blinded.hidden and step.cut != _READ:
                    counts[process] = None
                    continue
                events = step.events if scale is None else step.weights * scale
                error = 0.0 if scale is None or not step.events else abs(events) / math.sqrt(step.events)
                before = counts.get(process, Count(0.0))
                counts[process] = None if before is None else before + Count(events, error)
        steps = [FlowStep(name, counts) for name, counts in cuts.items()]
        steps += [FlowStep(name, counts, True) for name, counts in self.regions.items() if is_expected]
        processes = dict.fromkeys(name for step in steps for name in step.counts)
        return EventFlow(tuple(processes), signal_of(config), tuple(steps), is_expected)

    def flowing(self) -> Iterator[Block]:
        """The flow of events as a picture and as a table."""
        text = "Cuts count generator weights alone; in regions all weights count, and events may be in several."
        below = f'<p class="dim">{text}</p>' if self.regions else ""
        if self.flow.steps:
            picture = self.flow.picture(self.analysis.style())
            yield Block("flow", "The flow of events", f"{picture}{self.flow.table()}{below}")

    def _scale(self, dataset: str) -> Optional[float]:
        config, total = self.analysis.config, self.accounting[dataset].sum_of_weights
        cross_section, luminosity = config.cross_section_of(dataset), config.luminosity_of(dataset)
        return 1000 * cross_section * luminosity / total if cross_section is not None and luminosity and total else None

    def trainings(self) -> Iterator[Block]:
        """The ROC curve, or another figure, of each training."""
        layout = Layout.of(self.analysis.config)
        for era, it in self.metrics.items():
            title, shown = f"Training of {era}" if era else "Training", ["roc", "predictions", "loss"]
            yield self._linked(f"training{era or ''}", title, layout.report(era), shown, it.digest.text)

    def drawn(self) -> Iterator[Block]:
        """The first histogram of a fitted region, or else of any."""
        config, page = self.analysis.config, Layout.of(self.analysis.config).histograms(".html")
        fitted = [f"{name}_{region}" for region, name in config.fit.channels.items()] if config.fit else []
        histograms = self.templates.histograms if self.templates else ()
        others = [f"{it.name}_{region}" for it in histograms for region in self.regions]
        if self.templates is not None and page.exists():
            yield self._linked("histograms", "Histograms", page, [*fitted, *others])

    def fitted(self) -> Iterator[Block]:
        """The limit."""
        page = Layout.of(self.analysis.config).fit / "report.html"
        for it in [*self.fits.values()][:1]:
            yield self._linked("fit", "Fit", page, ["limits", "limit", "scan"], it.digest.text)

    def _linked(self, anchor: str, title: str, page: Path, figures: Sequence[str], text: str = "") -> Block:
        """A section with a link to a page, and the first of some figures that is there, with the text beside it."""
        found = [it for it in figures if page.with_name(f"{it}.png").exists()][:1]
        shown = [(self.place(page.with_name(it)), Caption(f"{title}: {it}", text, is_small=True)) for it in found]
        link = f'<p><a href="{self.place(page)}">All figures and numbers: {escape(title)}</a></p>' * page.exists()
        content = link if shown or not text else f"<p>{escape(text)}</p>{link}"
        return Block(anchor, title, content, shown, is_figure=True)

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
        """The history: when each stage was done, by which command and version."""
        name, rows = Path(self.analysis.config.document.name).name, []
        for stage in NAMES:
            made = list((self.workdir / RECORDS / stage).rglob("*.json"))
            last = read_or_none(Record, max(made, key=lambda path: path.stat().st_mtime_ns)) if made else None
            if last is not None:
                times, when = f"{len(made):,}", last.finished.replace("T", " ")
                rows.append([stage, f"`nanoml {stage} {name}`", times, when, last.host, f"NanoML {last.version}"])
        if rows:
            head = ["stage", "command", "tasks", "last finished", "on", "by"]
            text = f"<p>{escape(f'`nanoml run {name}` makes all of it.')}</p>"
            yield Block("provenance", "Where this comes from", text + table(head, rows))


def _reported(paths: Mapping[Any, Path]) -> dict[Any, _Reported]:
    """What is there of these files, by the same keys."""
    found = {key: read_or_none(_Reported, path) for key, path in paths.items()}
    return {key: it for key, it in found.items() if it is not None}


def _at(place: str, answer: Answer) -> Answer:
    return replace(answer, link=f"{place}{answer.link}")


def _count(found: Template, error: float) -> Count:
    """The events of a process, with `error` times its statistical error; not a number if a bin is blind."""
    return Count(float(found.nominal.sum()), error * math.sqrt(float(found.variances.sum())))
