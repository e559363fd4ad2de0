"""Tables of expected and observed events, and the page that shows them with the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Optional

import numpy as np

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.contracts.templates import DATA, HistogramChannel, Template, Templates, summed
from MLTools.NanoML.report.page import page, rounded, table


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


def yields_of(channel: HistogramChannel, signal: Optional[str]) -> list[Yield]:
    """Those of each process, of all backgrounds together, and of data if there are any."""
    processes = channel.processes
    backgrounds = [name for name in processes if name not in (DATA, signal)]
    shown = [name for name in processes if name != DATA]
    found = [Yield.of(name, processes[name]) for name in sorted(shown, key=lambda name: name == signal)]
    if len(backgrounds) > 1:
        found.insert(len(backgrounds), Yield.of("all backgrounds", summed([processes[name] for name in backgrounds])))
    if DATA in processes:
        found.append(Yield("data", float(processes[DATA].nominal.sum()), 0.0, 0.0))
    return found


def write_tables(templates: Templates, directory: Path, drawn: Sequence[str]) -> None:
    """Write the yields of each channel, as by the first histogram that is filled there: Markdown, LaTeX, and the page with all figures."""
    channels: dict[str, list[Yield]] = {}
    for histogram in templates.histograms:
        for channel in histogram.channels:
            if channel.processes:
                name = ", ".join(filter(None, (channel.name, histogram.hypothesis, channel.note)))
                channels.setdefault(name, yields_of(channel, templates.signal))
    write_text(directory / "yields.md", "\n".join(_markdown(channels)) + "\n")
    write_text(directory / "yields.tex", "\n".join(_latex(channels)) + "\n")
    write_text(directory / "histograms.html", _page(templates, channels, drawn))


def _cells(each: Yield) -> tuple[str, str]:
    if each.process == "data":
        return each.process, "blind" if np.isnan(each.events) else f"{each.events:,.0f}"
    error = each.statistical
    texts = (rounded(value, error) for value in (each.events, each.statistical, each.systematic))
    return each.process, " ± ".join(texts)


def _markdown(channels: dict[str, list[Yield]]) -> Iterator[str]:
    for name, found in channels.items():
        yield from (f"## {name}", "", "| process | events ± stat. ± syst. |", "|---|---|")
        yield from ("| {} | {} |".format(*_cells(each)) for each in found)
        yield ""


def _latex(channels: dict[str, list[Yield]]) -> Iterator[str]:
    def plain(text: str) -> str:
        return text.replace("_", r"\_").replace("%", r"\%")

    for name, found in channels.items():
        yield from (
            f"% {name}",
            r"\begin{tabular}{lr}",
            r"\hline",
            rf"{plain(name)} & events $\pm$ stat. $\pm$ syst. \\",
            r"\hline",
        )
        for each in found:
            process, events = _cells(each)
            number = "$" + events.replace("±", r"\pm").replace(",", "{,}") + "$"
            yield rf"{plain(process)} & {events if events == 'blind' else number} \\"
        yield from (r"\hline", r"\end{tabular}", "")


def _page(templates: Templates, channels: dict[str, list[Yield]], drawn: Sequence[str]) -> str:
    parts = [
        '<p class="dim">Every figure is beside this page as PNG and PDF; the histograms are in histograms.root, in the layout of Combine, '
        "and in histograms.h5. Bands and errors are statistical and systematic; uncertainties of cross sections and luminosity "
        "are not included.</p>"
    ]
    if any(it.blind is not None and it.blind.any() for each in templates.histograms for it in each.channels):
        parts.append(
            f'<p class="dim">Hatched {templates.blind} are blind until <code>nanoml unblind</code>, and so is the number of events of '
            "data in a region with such bins.</p>"
        )
    for name, found in channels.items():
        numbers = table(["process", "events ± stat. ± syst."], map(_cells, found))
        parts.append(f"<h2>{escape(name)}</h2>{numbers}")
    for histogram in templates.histograms:
        mine = [name for name in drawn if name.startswith(f"{histogram.name}_")]
        figures = "".join(map(_figure, mine))
        note = "" if mine else '<p class="dim">It has several axes and is not drawn.</p>'
        parts.append(f'<h2>{escape(histogram.name)}</h2>{note}<div class="figures">{figures}</div>')
    return page("Histograms", parts)


def _figure(name: str) -> str:
    kind = "wide" if name.endswith("_uncertainties") else "small"
    return f'<a href="{name}.pdf"><img class="{kind}" src="{name}.png" alt="{name}"></a>'
