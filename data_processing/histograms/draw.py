"""Figures of histograms, as an analysis note has them: stacked simulation, data, ratio, the changes by each uncertainty; tables of events.

One page shows both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Optional

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.contracts.templates import (
    DATA,
    FilledHistogram,
    HistogramChannel,
    Template,
    TemplateAxis,
    Templates,
    added,
    summed,
)
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.figures import Figures, grid, in_style, legend_below, remove_others
from MLTools.NanoML.report.page import table, with_error, without_tex
from MLTools.NanoML.report.section import PRIVATE_WORK, UNKNOWN, Block, Caption, Document, Style
from MLTools.NanoML.report.stack import Bins, Drawn, Observed, Ratio, Stack, show_varied, stack_figure, up_and_down

_MOST_SHOWN = 6  # nuisance parameters in a figure
Floats = NDArray[np.float64]
_BACKGROUNDS, _DATA = "all backgrounds", "data"
_HEAD = "events ± stat. ± syst."
_ROOM, _GAP = 70, 2  # characters beside each other on an A4 page, and those between columns
_ESCAPES = str.maketrans({
    **{it: f"\\{it}" for it in "_%&#${}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$",
})  # fmt: skip


def draw_histograms(style: Style, templates: Templates, directory: Path, only: Sequence[str] = ()) -> list[str]:
    """Draw all histograms of one axis into `directory`, as PNG and PDF with their numbers; return the names of the figures, without suffix.

    With `only`, no others are drawn than those that it chooses (see `Figures`). Those of what is no longer there are removed.

    For each region there is a figure of all eras, with a linear and a logarithmic axis, one of the largest uncertainties, and, if
    there are several eras, one of each.
    """
    drawn, signal = Figures(directory, only), templates.signal
    style = style.with_processes(templates.classes, signal)
    for histogram in templates.histograms:
        for region, channels, figures in _regions(histogram):
            whole, axis = added(channels), histogram.axes[0]
            for name, (channel, logarithmic) in figures.items():
                right = style.conditions(templates.seen([channel] if channel.era else channels))
                content = stacked(style, axis, channel, signal)
                where = style.region(channel.name)
                said = {"luminosity and energy": right, "region": where, "data": channel.note, "bins": axis.note}
                title, has_data = style.axis(axis.quantity, axis.title), content.data is not None
                draw = partial(in_style(stack_figure), style, content, title, right, has_data, logarithmic)
                drawn.add(name, draw, content.numbers(title, said))
            right = style.conditions(templates.seen(channels))
            changes = _largest(whole, signal)
            if changes:
                found = {
                    name: {group: (1 + each).tolist() for group, each in groups.items()}
                    for name, groups in changes.items()
                }
                drawn.add(
                    f"{histogram.name}_{region}_uncertainties",
                    partial(uncertainties, style, axis, style.region(region), changes, signal, right),
                    {"axis": style.axis(axis.quantity, axis.title), "edges": axis.edges, "up, down / nominal": found},
                )
    remove_others(directory, drawn.names)
    return drawn.names


def _regions(
    histogram: FilledHistogram,
) -> Iterator[tuple[str, list[HistogramChannel], dict[str, tuple[HistogramChannel, bool]]]]:
    """Each region of a histogram of one axis, its channels, and what its figures show: a channel, with a logarithmic axis or not."""
    for region in dict.fromkeys(it.region for it in histogram.channels if len(histogram.axes) == 1):
        channels = [it for it in histogram.channels if it.region == region and it.processes]
        if channels:
            whole = added(channels)
            figures = {region: (whole, False), f"{region}_log": (whole, True)}
            figures.update({it.name: (it, False) for it in channels if len(channels) > 1})
            yield region, channels, {f"{histogram.name}_{name}": it for name, it in figures.items()}


def total_error(channel: HistogramChannel, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Statistical, and statistical and systematic error of the sum of some processes, float64 of shape (bins + 2,).

    All variations of one nuisance parameter change all processes together; those of different ones are independent.
    """
    total = summed([channel.processes[name] for name in names])
    squares = total.variances
    for nuisance in total.up:
        changes = (np.abs(varied[nuisance] - total.nominal) for varied in (total.up, total.down))
        squares = squares + np.maximum(*changes) ** 2
    return np.sqrt(total.variances), np.sqrt(squares)


def _groups(channel: HistogramChannel, signal: Optional[str]) -> Iterator[tuple[str, list[str]]]:
    """Background and signal, as far as there are any, each with its processes."""
    for name, is_signal in (("Background", False), ("Signal", True)):
        found = [it for it in channel.processes if it != DATA and (it == signal) == is_signal]
        if found:
            yield name, found


def _bins(style: Style, axis: TemplateAxis) -> Bins:
    return Bins(np.array(axis.edges), style.unit(axis.quantity, axis.title))


def stacked(style: Style, axis: TemplateAxis, channel: HistogramChannel, signal: Optional[str]) -> Stack:
    """Backgrounds on each other, the signal as a line, and data as points."""
    found, data = channel.processes, channel.processes.get(DATA)
    names = style.from_bottom({name: float(found[name].nominal.sum()) for name in found if name not in (DATA, signal)})
    error = total_error(channel, names)[1][1:-1] if names else np.zeros(len(axis.edges) - 1)
    drawn = {it: Drawn(style.name(it), found[it].nominal[1:-1], style.color(it)) for it in found}
    line, counts = drawn.get(signal or ""), None if data is None else Observed.of(data.nominal[1:-1])
    return Stack(_bins(style, axis), [drawn[it] for it in names], error, "Stat. and syst.", line, counts)


_Changes = dict[str, dict[str, Floats]]
"""By nuisance parameter and group of processes, the relative change up and down, float64 of shape (2, bins)."""


def _largest(channel: HistogramChannel, signal: Optional[str]) -> _Changes:
    """The largest uncertainties of background and signal."""
    groups = dict(_groups(channel, signal))
    names = dict.fromkeys(name for each in channel.processes.values() for name in each.up)
    changes = {name: {group: _change(channel, each, name) for group, each in groups.items()} for name in names}
    largest = sorted(names, key=lambda name: -max(np.abs(each).max() for each in changes[name].values()))[:_MOST_SHOWN]
    return {name: changes[name] for name in largest}


@in_style
def uncertainties(
    style: Style, axis: TemplateAxis, name: str, changes: _Changes, signal: Optional[str], right: str
) -> Figure:
    """The largest uncertainties: background and signal up and down, in ratio to nominal."""
    header, bins = ", ".join(filter(None, (name, axis.note, right))), _bins(style, axis)
    figure, all_axes = grid(style, len(changes), header, 3, (4.2, 3.4))
    colors = (UNKNOWN, style.color(signal))
    for axes, (nuisance, groups) in zip(all_axes, changes.items()):
        ratios: list[Ratio] = []
        for (group, each), color in zip(groups.items(), colors):
            ratios += up_and_down(group, 1 + each[0], 1 + each[1], color)
        show_varied(axes, bins, style.axis(axis.quantity, axis.title), ratios)
        axes.set_title(nuisance, loc="left")
    legend_below(figure, all_axes[0])
    return figure


def _change(channel: HistogramChannel, names: Sequence[str], nuisance: str) -> Floats:
    """Relative change of the sum of some processes, up and down, float64 of shape (2, bins)."""
    total = summed([channel.processes[name] for name in names])
    nominal, found = total.nominal[1:-1], []
    for varied in (total.up, total.down):
        change = varied[nuisance][1:-1] - nominal if nuisance in varied else np.zeros_like(nominal)
        found.append(np.divide(change, nominal, out=np.zeros_like(nominal), where=nominal > 0))
    return np.array(found)


@dataclass(frozen=True)
class Yield:
    """The events of a process in a channel, with statistical and systematic error."""

    process: str
    events: float
    statistical: float
    systematic: float
    blinding: str = ""  # in place of the number

    @classmethod
    def of(cls, process: str, template: Template) -> Yield:
        """From a template, underflow and overflow included."""
        nominal = float(template.nominal.sum())
        changes = [
            max(abs(float(varied[name].sum()) - nominal) for varied in (template.up, template.down))
            for name in template.up
        ]
        error = float(np.sqrt(template.variances.sum()))
        return cls(process, nominal, error, float(np.sqrt(np.sum(np.square(changes)))))

    def __str__(self) -> str:
        if self.process == _DATA:
            return self.blinding or f"{self.events:,.0f}"
        return with_error(self.events, self.statistical, self.systematic)


def yields_of(channel: HistogramChannel, signal: Optional[str]) -> list[Yield]:
    """The events of each process, of all backgrounds together, and of data if there are any."""
    processes = channel.processes
    backgrounds = [name for name in processes if name not in (DATA, signal)]
    shown = [name for name in processes if name != DATA]
    found = [Yield.of(name, processes[name]) for name in sorted(shown, key=lambda name: name == signal)]
    if len(backgrounds) > 1:
        found.insert(len(backgrounds), Yield.of(_BACKGROUNDS, summed([processes[name] for name in backgrounds])))
    if DATA in processes or channel.blinding:
        events = float(processes[DATA].nominal.sum()) if DATA in processes else np.nan
        found.append(Yield(_DATA, events, 0.0, 0.0, channel.blinding))
    return found


@dataclass(frozen=True)
class YieldTable:
    """Events by process, in rows, and region, each of all eras and of each era."""

    columns: Mapping[str, HistogramChannel]
    rows: Mapping[str, Mapping[str, Yield]]  # by process and column
    style: Style = PRIVATE_WORK

    @classmethod
    def of(cls, templates: Templates) -> YieldTable:
        """The events of each region, as in the first histogram that is filled there; of the signal under each hypothesis."""
        regions: dict[tuple[str, Optional[str]], list[HistogramChannel]] = {}
        for histogram in templates.histograms:
            filled = [it for it in histogram.channels if it.processes]
            for region in dict.fromkeys(it.region for it in filled):
                regions.setdefault((region, histogram.hypothesis), [it for it in filled if it.region == region])
        rows: dict[str, dict[str, Yield]] = {}
        columns: dict[str, HistogramChannel] = {}
        for (_, hypothesis), channels in regions.items():
            for channel in [added(channels), *channels] if len(channels) > 1 else channels:
                column = ", ".join(filter(None, (channel.name, channel.note)))
                columns.setdefault(column, channel)
                for found in yields_of(channel, templates.signal):
                    name = found.process
                    at = f", {hypothesis}" if hypothesis and name == templates.signal else ""
                    rows.setdefault(f"{name}{at}", {})[column] = found
        last = {_BACKGROUNDS: 1, templates.signal: 2, _DATA: 3}
        order = sorted(rows, key=lambda name: last.get(next(iter(rows[name].values())).process, 0))
        return cls(columns, {name: rows[name] for name in order})

    def tables(self) -> Iterator[list[list[str]]]:
        """The texts of a table of all eras, and of one of each: the names of regions, then of each process its name and its events."""
        eras = sorted({it.era or "" for it in self.columns.values()})
        for era in eras:
            mine = {name: it for name, it in self.columns.items() if (it.era or "") == era}
            regions = (", ".join(filter(None, (self.style.region(it.region), it.note))) for it in mine.values())
            rows = [[f"{_HEAD}{f', {era}' if era else ', all eras' if len(eras) > 1 else ''}", *regions]]
            for name, found in self.rows.items():
                if any(it in found for it in mine):
                    process = next(iter(found.values())).process
                    label = f"{self.style.name(process)}{name[len(process) :]}"
                    rows.append([label, *(str(found[it]) if it in found else "" for it in mine)])
            yield rows

    @property
    def markdown(self) -> str:
        """As Markdown."""
        found = []
        for head, *rows in self.tables():
            escaped = ([it.replace("|", r"\|") for it in row] for row in (head, ["---"] * len(head), *rows))
            found.append("".join(f"| {' | '.join(row)} |\n" for row in escaped))
        return "\n".join(found)

    @property
    def latex(self) -> str:
        """As LaTeX that needs no package: as many regions beside each other as an A4 page has room for, then the next ones."""
        found = []
        for rows in self.tables():
            (title, *names), *columns = zip(*rows)
            names = ["", *names]
            while columns:
                ends = accumulate(max(len(without_tex(it)) + _GAP for it in each) for each in (names, *columns))
                count = max(sum(it <= _ROOM for it in ends) - 1, 1)
                head, *lines = (" & ".join(map(_latex, line)) + r" \\" for line in zip(names, *columns[:count]))
                begin = rf"\begin{{tabular}}{{l{'r' * len(columns[:count])}}}"
                top = rf"\multicolumn{{{1 + len(columns[:count])}}}{{l}}{{{_latex(title)}}} \\"
                end = [r"\hline", r"\end{tabular}", ""]
                found.append("\n".join([begin, top, r"\hline", head, r"\hline", *lines, *end]))
                columns = columns[count:]
        return "\n".join(found)


def _latex(text: str) -> str:
    """A text with its formulae, whose numbers with errors are set as such."""

    def number(found: re.Match[str]) -> str:
        return "${}$".format(found[0].replace(",", "{,}").replace("±", r"\pm"))

    parts = re.split(r"(\$[^$]+\$)", text)
    for at in range(0, len(parts), 2):
        escaped = parts[at].translate(_ESCAPES)
        parts[at] = re.sub(r"-?[0-9][0-9.,]*( ± [0-9.,]+)+", number, escaped).replace("±", r"$\pm$")
    return "".join(parts)


def write_tables(templates: Templates, directory: Path, drawn: Sequence[str], style: Style = PRIVATE_WORK) -> None:
    """Write the events by process and region: Markdown, LaTeX, and the page with all figures."""
    found = replace(YieldTable.of(templates), style=style)
    write_text(directory / "yields.md", found.markdown)
    write_text(directory / "yields.tex", found.latex)
    write_text(directory / "histograms.html", _page(templates, found, drawn, style).html(style, None))


def _page(templates: Templates, found: YieldTable, drawn: Sequence[str], style: Style) -> Document:
    lead = (
        '<p class="dim">Every figure is beside this page as PDF; the histograms are in histograms.root, in the layout of Combine, '
        "and in histograms.h5. Bands and errors are statistical and systematic; uncertainties of cross sections and luminosity "
        "are not included.</p>"
    )
    channels = [it for each in templates.histograms for it in each.channels if it.processes]
    hidden = {it.name: it for it in channels if it.blind is None}
    if len(hidden) < len({it.name for it in channels}):
        lead += f'<p class="dim">No data are shown in {escape(listed(hidden))}.</p>' if hidden else ""
    if any(it.blind is not None and it.blind.any() for it in channels):
        lead += (
            f'<p class="dim">Hatched {templates.blind} are blind until <code>nanoml unblind</code>, and so is the number of events of '
            "data in a region with such bins. Other histograms of the region hide as much, since their sum would tell it.</p>"
        )
    files = '<p class="dim">The same as <a href="yields.md">Markdown</a> and as <a href="yields.tex">LaTeX</a>.</p>'
    shown = ([[without_tex(it) for it in row] for row in rows] for rows in found.tables())
    events = "".join(table(head, rows) for head, *rows in shown) + files
    blocks = [Block("events", "Events by process and region", events)]
    for histogram in templates.histograms:
        figures = [it for it in _captions(histogram, templates.signal, style) if it[0] in drawn]
        note = "" if figures else '<p class="dim">It has several axes and is not drawn.</p>'
        blocks.append(Block(f"histogram_{histogram.name}", histogram.name, note, figures))
    return Document("Histograms", "histograms/histograms.html", lead, (), blocks)


def _captions(histogram: FilledHistogram, signal: Optional[str], style: Style) -> Iterator[tuple[str, Caption]]:
    """The names of the figures of a histogram, what they show, and what is not in them."""
    for region, _, figures in _regions(histogram):
        axis = histogram.axes[0]
        for name, (channel, logarithmic) in figures.items():
            groups = _groups(channel, signal)
            outside = ((of, summed([channel.processes[it] for it in each]).outside) for of, each in groups)
            remarks = (channel.note, axis.note, *(f"{of}: {text}" for of, text in outside if text))
            said = (*(f"{it[0].upper()}{it[1:]}." for it in remarks if it), _bins(style, axis).said)
            title = f"{histogram.name} in {channel.name}{', logarithmic axis' * logarithmic}"
            yield name, Caption(title, " ".join(filter(None, said)), is_small=True)
        reading = "The largest uncertainties: ratio of up and down to nominal."
        yield f"{histogram.name}_{region}_uncertainties", Caption(f"{histogram.name} in {region}", reading)
