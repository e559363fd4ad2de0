"""Tables of expected and observed events, and the page that shows them with the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.contracts.templates import (
    DATA,
    FilledHistogram,
    HistogramChannel,
    Template,
    Templates,
    added,
    summed,
)
from MLTools.NanoML.report.page import table, with_error
from MLTools.NanoML.report.section import PRIVATE_WORK, Block, Caption, Document, Style

_BACKGROUNDS, _DATA = "all backgrounds", "data"
_HEAD = "events ± stat. ± syst."
_BESIDE = 4  # regions


@dataclass(frozen=True)
class Yield:
    """The events of a process in a channel, with statistical and systematic error."""

    process: str
    events: float
    statistical: float
    systematic: float

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
            return "blind" if np.isnan(self.events) else f"{self.events:,.0f}"
        return with_error(self.events, self.statistical, self.systematic)


def yields_of(channel: HistogramChannel, signal: Optional[str]) -> list[Yield]:
    """Those of each process, of all backgrounds together, and of data if there are any."""
    processes = channel.processes
    backgrounds = [name for name in processes if name not in (DATA, signal)]
    shown = [name for name in processes if name != DATA]
    found = [Yield.of(name, processes[name]) for name in sorted(shown, key=lambda name: name == signal)]
    if len(backgrounds) > 1:
        found.insert(len(backgrounds), Yield.of(_BACKGROUNDS, summed([processes[name] for name in backgrounds])))
    if DATA in processes:
        found.append(Yield(_DATA, float(processes[DATA].nominal.sum()), 0.0, 0.0))
    return found


@dataclass(frozen=True)
class YieldTable:
    """Events by process, in rows, and region, each of all eras and of each era."""

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Yield]]  # by process and column

    @classmethod
    def of(cls, templates: Templates) -> YieldTable:
        """The events of each region, as in the first histogram that is filled there; of the signal under each hypothesis."""
        regions: dict[tuple[str, Optional[str]], list[HistogramChannel]] = {}
        for histogram in templates.histograms:
            filled = [it for it in histogram.channels if it.processes]
            for region in dict.fromkeys(it.region for it in filled):
                regions.setdefault((region, histogram.hypothesis), [it for it in filled if it.region == region])
        rows: dict[str, dict[str, Yield]] = {}
        columns: dict[str, None] = {}
        for (_, hypothesis), channels in regions.items():
            for channel in [added(channels), *channels] if len(channels) > 1 else channels:
                column = ", ".join(filter(None, (channel.name, channel.note)))
                columns.setdefault(column)
                for found in yields_of(channel, templates.signal):
                    name = found.process
                    at = f", {hypothesis}" if hypothesis and name == templates.signal else ""
                    rows.setdefault(f"{name}{at}", {})[column] = found
        last = {_BACKGROUNDS: 1, templates.signal: 2, _DATA: 3}
        order = sorted(rows, key=lambda name: last.get(next(iter(rows[name].values())).process, 0))
        return cls(tuple(columns), {name: rows[name] for name in order})

    def cells(self, columns: Sequence[str]) -> Iterator[list[str]]:
        """The texts of each row, the name of the process first."""
        for process, found in self.rows.items():
            yield [process, *(str(found[it]) if it in found else "" for it in columns)]

    @property
    def markdown(self) -> str:
        """As Markdown."""
        head = [_HEAD, *self.columns]
        lines = [head, ["---"] * len(head), *self.cells(self.columns)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    @property
    def latex(self) -> str:
        """As LaTeX that needs no package: a few regions beside each other, then the next ones."""
        tables = []
        for first in range(0, len(self.columns), _BESIDE):
            columns = self.columns[first : first + _BESIDE]
            head, *rows = (" & ".join(map(_latex, line)) + r" \\" for line in ([_HEAD, *columns], *self.cells(columns)))
            begin = rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
            tables.append("\n".join([begin, r"\hline", head, r"\hline", *rows, r"\hline", r"\end{tabular}", ""]))
        return "\n".join(tables)


def _latex(text: str) -> str:
    """A text, whose numbers with errors are set as such."""

    def number(found: re.Match[str]) -> str:
        return "${}$".format(found[0].replace(",", "{,}").replace("±", r"\pm"))

    escaped = re.sub(r"([_%&#${}])", r"\\\1", text)
    return re.sub(r"-?[0-9][0-9.,]*( ± [0-9.,]+)+", number, escaped).replace("±", r"$\pm$")


def write_tables(templates: Templates, directory: Path, drawn: Sequence[str], style: Style = PRIVATE_WORK) -> None:
    """Write the events by process and region: Markdown, LaTeX, and the page with all figures."""
    found = YieldTable.of(templates)
    write_text(directory / "yields.md", found.markdown)
    write_text(directory / "yields.tex", found.latex)
    write_text(directory / "histograms.html", _page(templates, found, drawn).html(style, None))


def _page(templates: Templates, found: YieldTable, drawn: Sequence[str]) -> Document:
    lead = (
        '<p class="dim">Every figure is beside this page as PDF; the histograms are in histograms.root, in the layout of Combine, '
        "and in histograms.h5. Bands and errors are statistical and systematic; uncertainties of cross sections and luminosity "
        "are not included.</p>"
    )
    if any(it.blind is not None and it.blind.any() for each in templates.histograms for it in each.channels):
        lead += (
            f'<p class="dim">Hatched {templates.blind} are blind until <code>nanoml unblind</code>, and so is the number of events of '
            "data in a region with such bins.</p>"
        )
    files = '<p class="dim">The same as <a href="yields.md">Markdown</a> and as <a href="yields.tex">LaTeX</a>.</p>'
    events = table([_HEAD, *found.columns], found.cells(found.columns)) + files
    blocks = [Block("events", "Events by process and region", events)]
    for histogram in templates.histograms:
        figures = [(name, _caption(histogram, name)) for name in drawn if name.startswith(f"{histogram.name}_")]
        note = "" if figures else '<p class="dim">It has several axes and is not drawn.</p>'
        blocks.append(Block(f"histogram_{histogram.name}", histogram.name, note, figures))
    return Document("Histograms", "histograms/histograms.html", lead, (), blocks)


def _caption(histogram: FilledHistogram, name: str) -> Caption:
    where = name[len(histogram.name) + 1 :].replace("_log", ", logarithmic axis")
    if where.endswith("_uncertainties"):
        return Caption(
            f"{histogram.name} in {where[:-14]}", "The largest uncertainties: ratio of up and down to nominal."
        )
    return Caption(f"{histogram.name} in {where}", "", is_small=True)
