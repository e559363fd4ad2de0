"""Pseudo-experiments whose truth is known: bias, pulls, and how often the limit covers a signal that is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.progress import Bar, progress
from statistical_analysis.asymptotic import cls
from statistical_analysis.likelihood import Floats, Likelihood
from statistical_analysis.results import CREATOR, LEVEL, STATISTICAL
from statistical_analysis.toys.batch import ManyMaxima
from statistical_analysis.toys.intervals import COUNT, FEWEST, background_events, cls_of, q_tilde, throw
from statistical_analysis.unbinned import Points


@dataclass(frozen=True)
class Pulls:
    """Mean and width of (fitted - true) / error of a parameter in pseudo-experiments."""

    parameter: str
    kind: str
    mean: float
    width: float


@dataclass(frozen=True)
class Experiments:
    """The results of fits to pseudo-experiments whose truth is known.

    Attributes
    ----------
    strength
        The true signal strength. All other parameters are as they are expected to be before the fit.
    fitted, errors
        Best fit and its error in each pseudo-experiment; the error is None where the likelihood has no curvature, as without any event.
    roots
        The pull of the signal strength by the likelihood ratio: the root of the test statistic of the true strength, with the sign of
        (fitted - true). It is normally distributed with far fewer events than (fitted - true) / error, since errors grow with the fitted
        strength where there are few.
    pulls
        Those by the error, of all parameters; the first is the signal strength.
    covered
        In how many of them the upper limit is above the true signal strength.
    is_by_toys
        Whether limits are from toys, since few events are expected, or asymptotic.
    """

    creator: str
    strength: float
    seed: int
    fitted: tuple[float, ...]
    errors: tuple[Optional[float], ...]
    roots: tuple[float, ...]
    pulls: tuple[Pulls, ...]
    covered: int
    is_by_toys: bool

    @property
    def count(self) -> int:
        """How many pseudo-experiments there are."""
        return len(self.fitted)

    def write(self, path: Path) -> None:
        """Write a JSON file."""
        write_json(path, plain(self))

    def lines(self) -> list[str]:
        """The results in words."""
        spread, (poi, *others) = np.std(self.fitted), self.pulls
        error = self.count**-0.5
        constrained = [it for it in others if it.kind != STATISTICAL]
        share = self.covered / self.count
        both = (("likelihood ratio", np.mean(self.roots), np.std(self.roots)), ("error", poi.mean, poi.width))
        found = [
            f"{self.count} pseudo-experiments with a signal strength of {self.strength:g}:",
            f"best fit {np.mean(self.fitted):.3g} ± {spread * error:.2g}",
            *(
                f"pulls by the {what} {mean:+.2f} ± {error:.2f} on average, {width:.2f} ± {error / 2**0.5:.2f} wide"
                for what, mean, width in both
            ),
            f"{LEVEL:.0%} limits{' by toys' if self.is_by_toys else ''} cover in {share:.1%} "
            f"(± {(share * (1 - share)) ** 0.5 * error:.1%})".replace("%", " %"),
        ]
        if constrained:
            worst = max(constrained, key=lambda it: max(abs(it.mean), abs(it.width - 1)))
            found.append(
                f"the other parameter furthest off is {worst.parameter}: {worst.mean:+.2f}, {worst.width:.2f} wide"
            )
        lost = sum(it is None for it in self.errors)
        return [*found, f"{lost} have no error, and no pull"] if lost else found


def experiment(
    workspace: Mapping[str, object], strength: float, count: int, seed: int, points: Points | None = None
) -> Experiments:
    """Throw and fit pseudo-experiments of a model; its data are not used.

    Parameters
    ----------
    workspace
        A workspace of pyhf, with the signal strength as parameter of interest.
    strength
        The true signal strength.
    points
        As of `likelihood.Likelihood`.
    """
    likelihood = Likelihood(workspace, points=points)
    truth, random, poi = likelihood.with_strength(strength), np.random.default_rng(seed), likelihood.poi
    low, high = likelihood.bounds[likelihood.poi]
    if not (low <= strength <= high and likelihood.is_possible(truth)):
        raise NanoMLError(
            f"A signal strength of {strength:g} is not possible: it is out of its range, or bins would have less than no events."
        )
    toys = throw(likelihood, truth, count, random)
    with progress("toys", None, "fits") as bar:
        many = ManyMaxima(likelihood)
        free = many(toys, truth, bar=bar)
        fixed = many(toys, truth, {poi: strength}, bar=bar)
        found = q_tilde(fixed, many(toys, truth, lowest=0.0, bar=bar), strength, poi)
        is_by_toys = background_events(likelihood, strength or 1.0) < FEWEST
        levels = _by_toys(many, found, strength, bar) if is_by_toys else _asymptotic(many, found, toys, strength, bar)
    errors = np.array([_errors(likelihood, *each) for each in zip(toys, free.at, strict=True)])
    distances = (free.at - truth) / errors
    roots = np.copysign(np.sqrt(np.maximum(fixed.twice_nll - free.twice_nll, 0.0)), free.at[:, poi] - strength)
    chosen = [poi, *(int(it) for it in np.flatnonzero(~likelihood.is_fixed) if it != poi)]
    columns = ((likelihood.names[it], likelihood.kinds[it], distances[:, it]) for it in chosen)
    pulls = tuple(Pulls(name, kind, float(np.nanmean(x)), float(np.nanstd(x))) for name, kind, x in columns)
    return Experiments(
        CREATOR,
        strength,
        seed,
        tuple(free.at[:, poi].tolist()),
        tuple(float(it) if np.isfinite(it) else None for it in errors[:, poi]),
        tuple(roots.tolist()),
        pulls,
        int(np.sum(levels >= 1 - LEVEL)),
        is_by_toys,
    )


def _errors(likelihood: Likelihood, data: Floats, at: Floats) -> Floats:
    """Errors of all parameters; not a number where there are none."""
    try:
        errors: Floats = np.sqrt(np.diag(likelihood.covariance(data, at)))
    except NanoMLError:
        return np.full(len(at), np.nan)
    return np.where(errors > 0, errors, np.nan)


def _asymptotic(many: ManyMaxima, found: Floats, toys: Floats, strength: float, bar: Bar) -> Floats:
    """CLs of the true strength in each pseudo-experiment, from its test statistic, by asymptotic formulae."""
    likelihood, poi, truth = many.likelihood, many.likelihood.poi, many.likelihood.with_strength(strength)
    without = likelihood.with_strength(0.0)[None]
    if likelihood.distributions is None:  # else a data set of each would have all events of the reference
        without = many(toys, truth, {poi: 0.0}, bar=bar).at
    asimov = np.array([likelihood.expected(at) for at in without])
    at_zero, at_truth = (many(asimov, truth, {poi: it}, bar=bar).twice_nll for it in (0.0, strength))
    return cls(found, np.sqrt(np.maximum(at_truth - at_zero, 0)))


def _by_toys(many: ManyMaxima, found: Floats, strength: float, bar: Bar) -> Floats:
    """The same by more pseudo-experiments, all with the true parameters."""
    likelihood, poi, random = many.likelihood, many.likelihood.poi, np.random.default_rng(COUNT)
    truth = likelihood.with_strength(strength)
    with_signal, without = (
        q_tilde(many(each, truth, {poi: strength}, bar=bar), many(each, truth, lowest=0.0, bar=bar), strength, poi)
        for each in (throw(likelihood, at, COUNT, random) for at in (truth, likelihood.with_strength(0.0)))
    )
    return np.array([cls_of(with_signal, without, it) for it in found])
