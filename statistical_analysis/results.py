"""The results of a fit: the content of results.json."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.contracts.blinding import Unblinding
from MLTools.NanoML.contracts.templates import Hypothesis, Origin
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.page import Answer, Digest, rounded
from MLTools.NanoML.report.section import PRIVATE_WORK, Style
from MLTools.NanoML.schema.plain import DAMAGE, build, content_of, plain
from MLTools.NanoML.schema.roles import READS, WRITES

ANSWERS = "answers on fits without bins"
"""A registry: functions that give an `Answer` on the page of a fit without bins, by the directory of the fit."""
SCHEMA, CREATOR = 3, f"NanoML {__version__}"
LEVEL = 0.95
"""The confidence level of limits."""
CONSTRAINED, FREE, STATISTICAL = "constrained", "free", "statistical"
"""The kinds of parameters: with a prefit uncertainty, without, and those of the size of simulation in each bin."""


@dataclass(frozen=True)
class Parameter:
    """A parameter in the best fit.

    Attributes
    ----------
    error
        The postfit uncertainty. A free parameter at the end of its range has none, but for a strength at the lower end: how far above it
        twice the logarithm of the profile likelihood is lower by one, unless that is out of reach.
    pull
        Shift from the prefit value, in units of the prefit uncertainty; None if it is free.
    constraint
        Postfit over prefit uncertainty; None if it is free.
    is_at_bound
        Whether it is at the end of its range.
    has_no_sign
        Whether the pull is as good with the other sign, since up and down are alike.
    """

    name: str
    kind: str
    value: float
    error: Optional[float]
    pull: Optional[float] = None
    constraint: Optional[float] = None
    is_at_bound: bool = False
    has_no_sign: bool = False

    @property
    def uncertainty(self) -> str:
        """The error in words: "± 0.41"; "+0.31" if there is one upwards alone."""
        sign = "+" if self.kind == FREE and self.is_at_bound else "± "
        return "" if self.error is None else f"{sign}{rounded(self.error, self.error)}"

    @property
    def measured(self) -> str:
        """The value with its error, in words."""
        return f"{rounded(self.value, self.error or 0.0)} {self.uncertainty}".rstrip()


@dataclass(frozen=True)
class Impact:
    """How much the signal strength changes if a parameter is fixed one standard deviation up or down, and all others are fitted.

    The standard deviation is the postfit or the prefit one.
    """

    parameter: str
    postfit_up: float
    postfit_down: float
    prefit_up: float
    prefit_down: float

    @property
    def size(self) -> float:
        """The larger of both postfit ones."""
        return max(abs(self.postfit_up), abs(self.postfit_down))


@dataclass(frozen=True)
class Limit:
    """The upper limit on the signal strength by CLs; `expected` without a signal at -2, -1, 0, 1, 2 sigma.

    Errors are those by the number of pseudo-experiments; None if the limit is asymptotic.
    """

    level: float
    expected: tuple[float, ...]
    observed: Optional[float]
    expected_errors: Optional[tuple[float, ...]] = None
    observed_error: Optional[float] = None


@dataclass(frozen=True)
class Significance:
    """The significance of discovery in standard deviations; `expected` is for a signal strength of one.

    Errors are those by the number of pseudo-experiments; None if the number is asymptotic.
    """

    expected: float
    observed: Optional[float]
    expected_error: Optional[float] = None
    observed_error: Optional[float] = None


@dataclass(frozen=True)
class Scan:
    """Twice the negative logarithm of the profile likelihood ratio at some signal strengths.

    `statistical` is the same with all parameters fixed at their best fit that have a prefit uncertainty.
    """

    strength: tuple[float, ...]
    likelihood: tuple[float, ...]
    statistical: tuple[float, ...]


@dataclass(frozen=True)
class Contribution:
    """The contribution of a group of parameters to the error of the signal strength, which add in quadrature."""

    group: str
    error: float


OF_DATA, OF_SIMULATION = "statistics of data", "statistics of simulation"
"""The first contributions: with all parameters fixed that have a prefit uncertainty; and those of single bins."""


@dataclass(frozen=True)
class GoodnessOfFit:
    """The likelihood ratio to the saturated model: it follows a chi-square distribution if the model is right."""

    statistic: float
    degrees: int
    probability: float


@dataclass(frozen=True)
class Yields:
    """The expected events of a sample in each bin, and their errors."""

    sample: str
    events: tuple[float, ...]
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Channel:
    """The prefit and postfit events of a channel, by sample; the last "sample" is the sum of all, `TOTAL`.

    `observed` are data; None as long as the analysis is blind. `note` says which of them are not seen, and not expected either.
    """

    name: str
    prefit: tuple[Yields, ...]
    postfit: tuple[Yields, ...]
    observed: Optional[tuple[float, ...]]
    note: str = ""


TOTAL = "total"


@dataclass(frozen=True)
class FittedProcess:
    """A process of a fit, where it is from, and the parameters that change it."""

    name: str
    origin: Origin
    uncertainties: tuple[str, ...]


WITHOUT = "without bins"  # the way of a fit with unbinned channels
OF_DENSITIES, OF_EVENTS = "in 10 bins of the share of signal", "in 10 bins of the share of signal, of simulated events"
"""The same bins, filled by the densities and with the simulated events themselves."""


@dataclass(frozen=True)
class Comparison:
    """The expected error of the signal strength, and the expected limit if it is in reach, in another way: "in 10 bins"."""

    way: str
    error: float
    limit: Optional[float]


@dataclass(frozen=True)
class StrengthResults:
    """The results on a signal strength; in each fit for it, the strengths of other signals are fitted, too.

    Attributes
    ----------
    signals
        The processes that it multiplies.
    breakdown
        The parts of its error, by group of parameters; none at the end of its range.
    limit, highest
        The limit on it; None if it is above the highest strength that a fit can find.
    background_events
        Those expected where the signal is, as of `toys.intervals.background_events`: with few, asymptotic formulae are wrong.
    toys
        Pseudo-experiments of each hypothesis for limit and significance; 0 if these are asymptotic.
    """

    signals: tuple[str, ...]
    strength: Parameter
    impacts: tuple[Impact, ...]
    breakdown: tuple[Contribution, ...]
    scan: Scan
    highest: float
    limit: Optional[Limit]
    significance: Significance
    background_events: float
    toys: int

    @property
    def farthest(self) -> float:
        """The highest signal strength among best fit, limits and likelihood scan."""
        limits = (*self.limit.expected, self.limit.observed or 0.0) if self.limit else (0.0,)
        return max(1.0, self.strength.value, *limits, *self.scan.strength)


@dataclass(frozen=True)
class Contour:
    """Points of a line on which the profile likelihood of two signal strengths has one value, on rays from the best fit."""

    strengths: tuple[str, ...]  # the names of both
    level: float  # the confidence level of the region inside
    first: tuple[float, ...]
    second: tuple[float, ...]
    is_cut: tuple[bool, ...]  # whether a strength is at the end of its range: the line would go on beyond it


@dataclass(frozen=True)
class Results(StrengthResults):
    """All that is known of a fit, first of the strength that is named first; of expected data alone if it is blind.

    Attributes
    ----------
    summary
        The result in words, one line.
    unblinded
        Who unblinded the analysis, and when; None if it is blind.
    correlations
        The matrix of correlation coefficients of `parameters`.
    others
        What is known of the other strengths.
    contours
        Those of each two strengths.
    hypothesis
        The hypothesis of the signal, as "mass = 600"; None if there is one alone.
    processes
        The processes of the fit; none if a workspace was fitted.
    expected
        The expected result without data, in words.
    log
        Who unblinded what, and when, with what was expected then.
    comparisons
        The expected results without bins and with them, if channels have none.
    negative
        The share of negative densities of unbinned channels in the events that are expected at the best fit.
    verdict, digest
        Answers to questions about it, and its line on the page of the analysis.
    """

    creator: str
    summary: str
    unblinded: Optional[str]
    parameters: tuple[Parameter, ...]
    correlations: tuple[tuple[float, ...], ...]
    goodness: Optional[GoodnessOfFit]
    channels: tuple[Channel, ...]
    others: tuple[StrengthResults, ...] = ()
    contours: tuple[Contour, ...] = ()
    hypothesis: Optional[str] = None
    processes: tuple[FittedProcess, ...] = ()
    expected: str = ""
    log: tuple[Unblinding, ...] = ()
    comparisons: tuple[Comparison, ...] = field(default=(), metadata={"sparse": True, "older": ()})
    negative: float = field(default=0.0, metadata={"sparse": True, "older": 0.0})
    verdict: tuple[Answer, ...] = ()
    digest: Digest = field(default=Digest())

    @property
    def by_strength(self) -> tuple[Results, ...]:
        """The same results as seen from each strength."""
        return (self, *(replace(self, **vars(it)) for it in self.others))

    @property
    def of(self) -> str:
        """The end of a title: which strength is seen, if there are several."""
        return f" ({self.strength.name})" if self.others else ""

    def write(self, path: Path) -> None:
        """Write a JSON file."""
        write_json(path, {"schema": SCHEMA, **plain(self)})


@dataclass(frozen=True)
class NoFit:
    """The content of results.json if the signal of a hypothesis has no events where background is expected, so that there is no fit."""

    creator: str
    summary: str
    unblinded: Optional[str]
    signals: tuple[str, ...]
    hypothesis: str

    def write(self, path: Path) -> None:
        """Write a JSON file."""
        write_json(path, {"schema": SCHEMA, **plain(self)})


@dataclass(frozen=True)
class FittedPoint:
    """A value of the parameter, the results of its fit, and the cross section [pb] of the signal there, if that is known."""

    hypothesis: Hypothesis
    results: Path = field(metadata=READS)
    cross_section: float | None


@dataclass(frozen=True)
class LimitsJob:
    """The fits whose limits are collected, in rising order, the histograms, where results go, regions, unblindings, and the style."""

    points: Sequence[FittedPoint]
    source: Path = field(metadata=READS)
    directory: Path = field(metadata=WRITES)
    regions: Sequence[str]
    log: Sequence[Unblinding] = ()
    style: Style = PRIVATE_WORK


def ending(of: str) -> str:
    """The end of a title as that of an anchor or a file: " (mu_WZ)" is "_mu_WZ"."""
    return re.sub(r"\W+", "_", of).rstrip("_")


def read_results(path: Path) -> Results | NoFit:
    """Read the file; a NanoMLError says what is wrong with it."""
    try:
        content = content_of(path)
        if content["schema"] != SCHEMA:
            raise NanoMLError(
                f"{path}: schema {content['schema']}, this NanoML reads {SCHEMA}. Run `nanoml fit` again."
            )
        return build(Results, content) if "strength" in content else build(NoFit, content)
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. `nanoml fit` makes it.") from None
    except DAMAGE:
        raise NanoMLError(f"{path}: is not a result of a fit, or is damaged. Run `nanoml fit` again.") from None
