"""Checks a fit with pseudo-experiments: numbers, a figure, and an answer on its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import norm

from MLTools.NanoML.atomic import make_directory
from MLTools.NanoML.extensions.toys.experiments import Experiments, experiment
from MLTools.NanoML.report.figures import finish_panel, in_style, name_rows, save, small
from MLTools.NanoML.report.page import Answer, percentage, state_of
from MLTools.NanoML.report.section import COLORS, PRIVATE_WORK, Style
from MLTools.NanoML.schema.plain import plain, read_or_none
from statistical_analysis.draw import conditions_of
from statistical_analysis.fit import FitJob, points_of, read_fit, read_workspace
from statistical_analysis.report.plots import ONE_SIGMA, UP
from statistical_analysis.results import STATISTICAL

_MOST_TESTED = 40  # parameters
_COVERED = 0.6827


def check(
    source: Path,
    directory: Path,
    strength: float,
    count: int,
    seed: int,
    job: FitJob | None = None,
    style: Style = PRIVATE_WORK,
) -> list[str]:
    """Check the fit of a workspace with pseudo-experiments: write numbers and a figure; return what they say.

    The figure says and looks like those of the `job` whose workspace it is, in its `style`.
    """
    content, right, points = read_workspace(source), "", None
    if job is not None:
        fitted = [it["name"] for it in content["channels"]]
        job, templates, unbinned = read_fit(job)
        right, points = conditions_of(job, style, templates, fitted), points_of(job, unbinned)
    found = experiment(content, strength, count, seed, points)
    draw_experiments(style, found, right, make_directory(directory) / "toys")
    found.write(directory / "toys.json")
    return found.lines()


@in_style
def draw_experiments(style: Style, found: Experiments, conditions: str, stem: Path) -> None:
    """Left, pulls of the signal strength with the normal distribution; right, mean and width of those of all others."""
    _, *others = found.pulls
    shown = [it for it in others if it.kind != STATISTICAL][:_MOST_TESTED]
    text = ", ".join(filter(None, (conditions, f"{found.count} pseudo-experiments", f"$\\mu$ = {found.strength:g}")))
    figure = small(style, (12, max(6.0, 0.3 * len(shown) + 2.4)), text)
    axes, beside = figure.subplots(1, 2, width_ratios=[1.15, 1])
    errors = np.array([it or np.nan for it in found.errors])
    pulls = (np.array(found.fitted) - found.strength) / errors
    edges = np.linspace(-4, 4, 33)
    heights, *_ = axes.hist(np.clip(found.roots, -3.99, 3.99), edges, color=COLORS[0], label="By the likelihood ratio")
    finite, by_error = pulls[np.isfinite(pulls)], r"By the error, $(\hat{\mu} - \mu) / \Delta\mu$"
    also, *_ = axes.hist(np.clip(finite, -3.99, 3.99), edges, histtype="step", color="black", lw=1.6, label=by_error)
    fine = np.linspace(-4, 4, 400)
    normal = found.count * (edges[1] - edges[0]) * norm.pdf(fine)
    axes.plot(fine, normal, color=UP, lw=2.5, label="Normal distribution")
    axes.set_ylim(0, 1.7 * max(float(np.max([heights, also])), float(normal.max()), 1.0))
    finish_panel(axes, edges, r"Pull of $\mu$", "Pseudo-experiments")
    axes.legend(loc="upper right")
    text = f"mean {np.mean(found.roots):+.2f}, width {np.std(found.roots):.2f}\nlimit coverage {found.covered / found.count:.1%}"
    axes.text(0.04, 0.96, text.replace("%", " %"), transform=axes.transAxes, va="top", fontsize=14)
    place = name_rows(beside, [it.parameter for it in shown])
    beside.axvspan(-1, 1, color=ONE_SIGMA, alpha=0.45, lw=0)
    beside.axvline(0, color="black", lw=0.8, ls=":")
    means, widths = [it.mean for it in shown], [it.width for it in shown]
    beside.errorbar(means, place, xerr=widths, fmt="o", color="black", ms=5, lw=1.6)
    beside.set_xlim(-2.5, 2.5)
    beside.set_xlabel("Mean and width of the pulls")
    save(figure, stem, plain(found))


def coverage(directory: Path) -> Answer:
    """An answer by the pseudo-experiments in the directory of a fit; those of an earlier fit do not count."""
    question = "Do intervals cover?"
    toys, model = directory / "toys" / "toys.json", directory / "workspace.json"
    is_new = toys.exists() and toys.stat().st_mtime >= model.stat().st_mtime
    found = read_or_none(Experiments, toys) if is_new else None
    if found is None:
        return Answer(question, "open", "`nanoml toys`, and then `nanoml draw`, tell.")
    share = float(np.mean(np.abs(found.roots) < 1))
    error = (_COVERED * (1 - _COVERED) / found.count) ** 0.5
    text = (
        f"Intervals of one standard deviation cover in {percentage(share, error)} of {found.count} pseudo-experiments. These are drawn "
        "from the densities, and so do not know what networks got wrong."
    )
    return Answer(question, state_of(abs(share - _COVERED) / error, (2.0, 4.0)), text)
