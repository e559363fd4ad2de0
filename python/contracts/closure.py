"""The closure of ratios of densities: whether events that are reweighted by them look like those that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.schema.plain import plain, read

SCHEMA = 1
CLOSURE = "_closure.json"
"""How the names of its files end, which begin with the channel."""
RATIO = "log ratio"
"""The quantity of a test in bins of the ratio itself."""
_SHOWN = 12  # tests in a figure
# a smaller probability among all tests, and a larger pull of a bin, are more than chance; a larger relative difference matters
_LIKELY, _PULL, _MATTERS = 0.01, 3.0, 0.05


@dataclass(frozen=True)
class ClosureTest:
    """Reweighted events against true ones, in bins of a quantity: the shares of both, and the statistical errors of the differences.

    The events are those of a class, by the ratio of its density to that of the mixture of all; or those of a class under a variation, by
    the ratio to nominal ones. The test is of all bins, with their correlations.
    """

    process: str
    variation: Optional[str]
    quantity: str
    edges: tuple[float, ...]
    true: tuple[float, ...]
    reweighted: tuple[float, ...]
    errors: tuple[float, ...]
    chi2: float
    ndf: int
    probability: float

    @property
    def pulls(self) -> list[float]:
        """The difference in each bin over its error."""
        bins = zip(self.reweighted, self.true, self.errors)
        return [(found - true) / error if error > 0 else 0.0 for found, true, error in bins]

    @property
    def difference(self) -> float:
        """The largest relative difference in a bin that is more than chance."""
        bins = zip(self.reweighted, self.true, self.pulls)
        return max((abs(found / true - 1) for found, true, pull in bins if true > 0 and abs(pull) > _PULL), default=0.0)


class ClosureFigure(NamedTuple):
    """A figure with tests: the name of its file, without suffix, its title, and how to read it."""

    name: str
    title: str
    reading: str
    tests: Sequence[ClosureTest]


@dataclass(frozen=True)
class RatioClosure:
    """The closure of the ratios of a channel.

    Attributes
    ----------
    events
        The effective number of events of each class.
    factors
        By what the outputs of the model are multiplied, by their names, so that reweighted events are as many as true ones.
    seeds, spread
        How many networks of each fold there are, and by how much each output changes from one to another: relative, the root of the mean
        square over events of its class. That of their mean is smaller by the root of their number. Empty with one seed.
    """

    region: str
    era: Optional[str]
    events: Mapping[str, float]
    factors: Mapping[str, float]
    seeds: int
    spread: Mapping[str, float]
    tests: tuple[ClosureTest, ...]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, {"schema": SCHEMA, **plain(self)})

    @classmethod
    def read(cls, path: Path) -> RatioClosure:
        """Read it; a NanoMLError if there is none, or it is damaged."""
        return read(cls, path, "Run `nanoml ratios` again.", SCHEMA)

    @property
    def differing(self) -> list[ClosureTest]:
        """The tests with differences that are more than chance, whatever the correlations of all tests, and matter; the largest first."""
        real = (it for it in self.tests if it.probability * len(self.tests) < _LIKELY and it.difference > _MATTERS)
        return sorted(real, key=lambda it: -it.difference)

    @property
    def text(self) -> str:
        """The outcome, in words."""
        found, count = self.differing, len(self.tests)
        if not found:
            return f"all differences in {count} tests may be chance, or are below {100 * _MATTERS:.0f} %."
        most = found[0]
        what = f"{most.process} under {most.variation}" if most.variation else most.process
        return (
            f"{len(found)} of {count} tests differ by more than chance and {100 * _MATTERS:.0f} %, most {what} in {most.quantity}: "
            f"{100 * most.difference:.0f} % in a bin, the largest pull {max(most.pulls, key=abs):+.1f}."
        )

    def figures(self, channel: str) -> Iterator[ClosureFigure]:
        """Its figures: all classes, and the variations that differ most, if there are any."""
        classes = [it for it in self.tests if it.variation is None]
        varied = sorted((it for it in self.tests if it.variation), key=lambda it: (-it.difference, it.probability))
        reading = "{} over true ones, in bins with about as many true events each. Errors are those of the difference: both share events."
        text = reading.format("Events of all classes, reweighted to one by the ratio of its density to theirs,")
        yield ClosureFigure(f"{channel}_classes", "Closure of the ratios of classes", text, classes)
        if varied:
            title = f"Closure of the ratios of variations, the largest of {len(varied)} differences"
            text = reading.format(
                "Events of a class, reweighted by the ratio of its varied density to the nominal one,"
            )
            yield ClosureFigure(f"{channel}_variations", title, text, varied[:_SHOWN])
