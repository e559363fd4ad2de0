"""How near predicted values are to the true ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ML_processing.evaluation.baseline import REGRESSION
from ML_processing.evaluation.content import Evaluation, Part, finding, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import OutOfFold, edges_of, label
from ML_processing.metrics.distances import kolmogorov
from ML_processing.metrics.measured import (
    UNDEFINED,
    Floats,
    Histogram,
    Measured,
    bin_of,
    histogram,
    number,
    quantile,
    quantile_edges,
)
from MLTools.NanoML.report.figures import finish_panel, grid, line, marker, middles, shorten, without_tails
from MLTools.NanoML.report.page import Answer, table, worst_of
from MLTools.NanoML.report.section import Caption, Style

_BINS = 8
_WORSE = 0.01  # the same, for the relative change of an RMSE


@dataclass(frozen=True)
class Residuals:
    """Mean of predicted minus true, root of the mean square, and half the interval of the central 68 %."""

    bias: Measured
    rmse: Measured
    resolution: Measured


@dataclass(frozen=True)
class Accuracy:
    """How near the networks and, if there is one beside them, a BDT come to a target, and by how much the RMSE of the BDT is larger."""

    network: Residuals
    baseline: Residuals | None
    gain_in_rmse: Measured


@section("regression", only="regression", place="first", after="classification", asked_after="classification")
@dataclass(frozen=True)
class Regression(Part):
    """How well networks estimate their targets."""

    task: str
    targets: dict[str, Accuracy]
    baseline: str | None  # what the BDT is; None without one

    @classmethod
    def compute(cls, of: Measurement) -> Regression:
        """Accuracy of every target for the networks and the BDT."""
        tested, bdt = of.part, of.baseline
        truth, weights, found = tested.table.targets(), tested.table.weights, {}
        for i, name in enumerate(tested.training.targets):
            ours, trees, gain = tested.scores[:, i], None, UNDEFINED
            if bdt is not None:
                trees = residuals(truth[:, i], bdt[:, i], weights, tested.seed)
                gain = rmse_difference(truth[:, i], bdt[:, i], ours, weights)
            found[name] = Accuracy(residuals(truth[:, i], ours, weights, tested.seed), trees, gain)
        return cls("regression", found, None if bdt is None else REGRESSION)

    def tables(self, page: Evaluation) -> str:
        """The accuracy of each target."""
        rows = []
        for name, entry in self.targets.items():
            rows.append(accuracy_row(f"{name}, network", entry.network))
            if entry.baseline is not None:
                rows.append(accuracy_row(f"{name}, BDT", entry.baseline))
                rows.append([f"{name}, BDT - network", "", number(entry.gain_in_rmse), ""])
        text = f"Errors are statistical.{f' The BDT is {self.baseline}.' if self.baseline else ''}"
        return table(ACCURACY, rows) + f"<p>{escape(text)}</p>"

    def answer(self, page: Evaluation) -> Answer | None:
        """Whether they are better than a BDT, if there is one."""
        if not self.baseline:
            return None
        texts, states = [], ["good"]
        for name, entry in self.targets.items():
            if entry.baseline is None:
                continue
            ours, theirs = number(entry.network.resolution), number(entry.baseline.resolution)
            texts.append(f"{name}: resolution of the network {ours}, of a BDT {theirs}")
            gain = entry.gain_in_rmse
            if gain.value is None or gain.error is None:
                states.append("open")
            elif gain.value < -2 * gain.error:
                relevant = entry.baseline.rmse.value is None or -gain.value > _WORSE * entry.baseline.rmse.value
                states.append("bad" if relevant else "good")
                texts[-1] += "; its RMSE is worse than that of the BDT, "
                texts[-1] += finding(True, relevant, "2 standard errors", f"{_WORSE:.0%}")
        return Answer("Better than a BDT?", worst_of(*states), "; ".join(texts) + ".")


ACCURACY = ["target", "bias", "RMSE", "resolution (68 %)"]
"""The head of a table with `accuracy_row`."""


def accuracy_row(label: str, of: Residuals) -> list[str]:
    """A line of a table."""
    return [label, number(of.bias), number(of.rmse), number(of.resolution)]


def residual_loss(part: OutOfFold) -> Callable[[NDArray[np.generic]], Measured]:
    """Relative growth of the RMSE with changed values, averaged over the targets."""
    truth, weights = part.table.targets(), part.table.weights

    def loss(scores: NDArray[np.generic]) -> Measured:
        found = []
        for i in range(truth.shape[1]):
            growth = rmse_difference(truth[:, i], scores[:, i], part.scores[:, i], weights)
            own = residuals(truth[:, i], part.scores[:, i], weights, 0, 2).rmse.value
            if growth.value is not None and growth.error is not None and own:
                found.append((growth.value / own, growth.error / own))
        if not found:
            return UNDEFINED
        values, errors = np.array(found).T
        return Measured(float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors)))

    return loss


@dataclass(frozen=True)
class Profile:
    """Bias and resolution in bins of the truth."""

    edges: Floats
    bias: list[float | None]
    bias_error: list[float | None]
    resolution: list[float | None]
    resolution_error: list[float | None]


@dataclass(frozen=True)
class Prediction:
    """Predicted values of a target against the true ones, and their residuals."""

    name: str
    label: str
    edges: Floats
    sums: Floats
    profile: Profile
    residual_edges: Floats
    test: Histogram
    trees: Histogram | None
    training: Histogram
    probability: float | None  # of the Kolmogorov-Smirnov test that events of the training are like the others


@section("predictions", only="regression", after="discriminants")
@dataclass(frozen=True)
class Predictions(Part):
    """Predicted and true values of each target."""

    caption = Caption(
        "Predicted against true values",
        "Each cell shows the weight of its events. They should lie along the dashed line.",
        "A flat band: the network gives the mean whatever the truth is.",
        is_small=True,
    )

    panels: list[Prediction]
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> Predictions:
        """With events that the networks were trained on beside those of the test."""
        tested, bdt, learned = of.part, of.baseline, of.learned_from
        seen = tuple(
            np.concatenate(it)
            for it in zip(*((it.table.targets(), it.scores, it.table.weights) for it in learned), strict=True)
        )
        truth, panels = tested.table.targets(), []
        for i, name in enumerate(tested.training.targets):
            t, p = truth[:, i].astype(np.float64), tested.scores[:, i].astype(np.float64)
            known = np.isfinite(t)
            t, p, w = t[known], p[known], tested.table.weights[known].astype(np.float64)
            edges, residual, on_training = edges_of(t), p - t, (seen[1][:, i] - seen[0][:, i], seen[2])
            width = max(resolution(residual, w) * 5, 1e-12)
            bins: NDArray[Any] = np.linspace(-width, width, 41)
            panels.append(
                Prediction(
                    name,
                    label(tested.table, name),
                    edges,
                    np.histogram2d(t, p, (edges, edges), weights=w)[0],
                    _profile(t, residual, w, tested.seed),
                    bins,
                    histogram(residual, w, bins),
                    None if bdt is None else histogram(bdt[known, i] - t, w, bins),
                    histogram(*on_training, bins),
                    kolmogorov(*on_training, residual, w).probability,
                )
            )
        return cls(panels, len(tested.table))

    def draw(self, style: Style) -> Figure:
        """Predicted against true values, one panel for each target."""
        panels = self.panels
        figure, all_axes = grid(style, len(panels), f"{self.events:,} events", 3, (5.4, 4.6), legend=False)
        colors = plt.get_cmap("viridis").with_extremes(bad="white")
        for axes, panel in zip(all_axes, panels, strict=True):
            edges, sums = panel.edges, panel.sums
            shown = np.where(sums.T > 0, sums.T, np.nan)
            image = axes.pcolormesh(edges, edges, shown, cmap=colors, rasterized=True)
            axes.plot(edges[[0, -1]], edges[[0, -1]], color="black", lw=1.5, ls="--")
            name = shorten(panel.label, 26)
            axes.set_xlabel(f"True {name}")
            axes.set_ylabel(f"Predicted {name}")
            figure.colorbar(image, ax=axes).set_label("Sum of weights")
        return figure


@section("residuals", only="regression", place="", after="predictions")
@dataclass(frozen=True)
class ResidualShapes(Part):
    """The same, as distributions of the residuals, and their bias and resolution against the truth."""

    caption = Caption(
        "Residuals",
        "Left: predicted minus true value on events of the training and on others; a black line is that of a BDT. Right: bias and "
        "resolution (half the interval of the central 68 %) in bins of the truth.",
        "Training far narrower than test, which is overtraining; a bias that is not near 0. At the ends of the range it "
        "always bends towards the mean.",
    )

    of: Predictions

    @classmethod
    def compute(cls, of: Measurement) -> ResidualShapes:
        """Compare prediction and truth in the same events."""
        return cls(of.once(Predictions.compute))

    def draw(self, style: Style) -> Figure:
        """Distribution of the residuals, and their bias and resolution against the truth."""
        panels = self.of.panels
        figure, all_axes = grid(style, 2 * len(panels), f"{self.of.events:,} events", 2, (6.2, 4.2))
        for axes, panel in zip(all_axes[::2], panels, strict=True):
            edges = panel.residual_edges
            axes.stairs(panel.training.values, edges, color=line(0, 3)["color"], lw=2, label="Network, training")
            if panel.trees is not None:
                axes.stairs(panel.trees.values, edges, color="black", lw=1.4, ls="--", label="BDT, test")
            points = (middles(edges), panel.test.values, panel.test.errors)
            axes.errorbar(*points, elinewidth=1, label="Network, test", **marker(0, 3, 5))
            finish_panel(axes, edges, f"Predicted - true {shorten(panel.label, 26)}", "Fraction", 1)
        for axes, panel in zip(all_axes[1::2], panels, strict=True):
            profile = panel.profile
            edges = profile.edges
            if not edges.size:
                continue
            edges = without_tails(edges)
            of_bias = "Bias", profile.bias, profile.bias_error
            of_resolution = "Resolution (68 %)", profile.resolution, profile.resolution_error
            for i, (quantity, *numbers) in enumerate((of_bias, of_resolution), 1):
                points = (middles(edges), *np.array(numbers, float), np.diff(edges) / 2)
                axes.errorbar(*points, elinewidth=1.2, label=quantity, **marker(i, 3, 6))
            axes.axhline(0, color="black", lw=0.8)
            axes.set_xlabel(f"True {shorten(panel.label, 26)}")
            axes.set_ylabel("Bias, resolution")
        pairs: list[tuple[Any, Any]] = [
            pair for axes in all_axes[:2] for pair in zip(*axes.get_legend_handles_labels(), strict=True)
        ]
        handles, labels = ([pair[part] for pair in pairs] for part in (0, 1))
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=12)
        return figure


def _profile(truth: Floats, residual: Floats, weights: Floats, seed: int) -> Profile:
    """Bias and resolution in bins of the truth with about the same number of events each."""
    edges = quantile_edges(truth, _BINS)
    index = bin_of(truth, edges)
    rows = [np.flatnonzero(index == number) for number in range(max(len(edges) - 1, 0))]
    found = [residuals(np.zeros(len(it)), residual[it], weights[it], seed, 50) for it in rows]
    return Profile(
        edges,
        [it.bias.value for it in found],
        [it.bias.error for it in found],
        [it.resolution.value for it in found],
        [it.resolution.error for it in found],
    )


def residuals(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike, seed: int, repeats: int = 100) -> Residuals:
    """Bias, RMSE and resolution with their statistical errors; that of the resolution is from random repetitions.

    Events without a finite truth are left out; weights may have either sign.
    """
    t, p, w = (np.asarray(values, np.float64) for values in (truth, predicted, weight))
    known = np.isfinite(t) & np.isfinite(p)
    r, w = (p - t)[known], w[known]
    total = w.sum()
    if not total > 0:
        return Residuals(UNDEFINED, UNDEFINED, UNDEFINED)
    bias, square = (w * r).sum() / total, (w * r**2).sum() / total
    bias_error, square_error = (
        np.sqrt((w**2 * (x - mean) ** 2).sum()) / total for x, mean in ((r, bias), (r**2, square))
    )
    rmse = np.sqrt(square) if square > 0 else np.nan
    rmse_error = square_error / (2 * rmse) if rmse > 0 else 0.0
    order = np.argsort(r, kind="stable")  # sorted once, not in each repetition
    r, w, random = r[order], w[order], np.random.default_rng(seed)
    drawn = [resolution(r, w * random.poisson(1.0, len(w))) for _ in range(repeats)]
    spread = float(np.nanstd(drawn, ddof=1)) if np.isfinite(drawn).sum() > 1 else np.nan
    return Residuals(
        Measured.of(bias, bias_error), Measured.of(rmse, rmse_error), Measured.of(resolution(r, w), spread)
    )


def resolution(residual: Floats, weight: Floats) -> float:
    """Half the interval that holds the central 68 % of the weight."""
    low, high = quantile(residual, weight, (0.16, 0.84))
    return float(high - low) / 2


def rmse_difference(truth: ArrayLike, first: ArrayLike, other: ArrayLike, weight: ArrayLike) -> Measured:
    """RMSE of `first` minus that of `other` on the same events; the error takes their correlation into account."""
    t, a, b, w = (np.asarray(values, np.float64) for values in (truth, first, other, weight))
    known = np.isfinite(t) & np.isfinite(a) & np.isfinite(b)
    t, a, b, w = t[known], a[known], b[known], w[known]
    total = w.sum()
    if not total > 0:
        return UNDEFINED
    squares = [(values - t) ** 2 for values in (a, b)]
    means = [float((w * square).sum() / total) for square in squares]
    if not min(means) > 0:
        return UNDEFINED
    roots = np.sqrt(means)
    influence = sum(
        sign * (square - mean) / (2 * root)
        for sign, square, mean, root in zip((1, -1), squares, means, roots, strict=True)
    )
    return Measured.of(roots[0] - roots[1], float(np.sqrt((w**2 * influence**2).sum()) / total))
