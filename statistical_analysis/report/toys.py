"""The figure of pseudo-experiments: pulls of the signal strength and of the other parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import norm

from MLTools.NanoML.report.figures import COLORS, SIGNAL, in_style, save, small
from statistical_analysis.report.plots import ONE_SIGMA
from statistical_analysis.results import STATISTICAL
from statistical_analysis.toys.experiments import Experiments

_MOST = 40  # parameters


@in_style
def draw_experiments(found: Experiments, stem: Path) -> None:
    """Left, pulls of the signal strength with the normal distribution; right, mean and width of those of all others."""
    _, *others = found.pulls
    shown = [it for it in others if it.kind != STATISTICAL][:_MOST]
    figure = small(
        (12, max(6.0, 0.3 * len(shown) + 2.4)), f"{found.count} pseudo-experiments, $\\mu$ = {found.strength:g}"
    )
    axes, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    errors = np.array([it or np.nan for it in found.errors])
    pulls = (np.array(found.fitted) - found.strength) / errors
    edges = np.linspace(-4, 4, 33)
    heights, *_ = axes.hist(np.clip(found.roots, -3.99, 3.99), edges, color=COLORS[0], label="By the likelihood ratio")
    finite, by_error = pulls[np.isfinite(pulls)], r"By the error, $(\hat{\mu} - \mu) / \Delta\mu$"
    also, *_ = axes.hist(np.clip(finite, -3.99, 3.99), edges, histtype="step", color="black", lw=1.6, label=by_error)
    fine = np.linspace(-4, 4, 400)
    normal = found.count * (edges[1] - edges[0]) * norm.pdf(fine)
    axes.plot(fine, normal, color=SIGNAL, lw=2.5, label="Normal distribution")
    axes.set_xlabel(r"Pull of $\mu$")
    axes.set_ylabel("Pseudo-experiments")
    axes.set_ylim(0, 1.7 * max(float(np.max([heights, also])), float(normal.max()), 1.0))
    axes.set_xlim(-4, 4)
    axes.legend(loc="upper right")
    text = f"mean {np.mean(found.roots):+.2f}, width {np.std(found.roots):.2f}\nlimit covers in {found.covered / found.count:.1%}"
    axes.text(0.04, 0.96, text.replace("%", " %"), transform=axes.transAxes, va="top", fontsize=14)
    place = np.arange(len(shown), dtype=float)[::-1]
    right.axvspan(-1, 1, color=ONE_SIGMA, alpha=0.45, lw=0)
    right.axvline(0, color="black", lw=0.8, ls=":")
    means, widths = [it.mean for it in shown], [it.width for it in shown]
    right.errorbar(means, place, xerr=widths, fmt="o", color="black", ms=5, lw=1.6)
    right.set_yticks(place, [it.parameter for it in shown])
    right.tick_params(axis="y", which="both", length=0)
    right.set_ylim(-0.7, max(len(shown), 1) - 0.3)
    right.set_xlim(-2.5, 2.5)
    right.set_xlabel("Mean and width of the pulls")
    save(figure, stem)
