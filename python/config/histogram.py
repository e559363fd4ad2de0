"""The sections `histogram`, quantities in bins, and `blind`; and what can be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.contracts.bins import LEAST_EVENTS, MOST_BINS
from MLTools.NanoML.schema.settings import REGION, setting

if TYPE_CHECKING:
    pass

AUTO = "auto"
"""Bins that are chosen by what is expected in them."""
EVERYWHERE = "all"
"""What the events of all regions are called, if the analysis has no regions."""
NONE = "none"
"""What `blind` says if nothing is."""
MOST_AXES = 3


@dataclass(frozen=True)
class Histogram:
    """A histogram of events, for each region, class and variation."""

    of: list[str] = setting(
        list,
        "What is filled: a column, an output of the model, or an expression of these in the language of skim.cut, one for each of up to "
        "three axes. A list, such as Jet_pt, has an entry for each object. By default the column or output that has the histogram's name.",
        examples=["ZCand_mass", "WLep_pt / MET_pt"],
    )
    bins: Any = setting(
        AUTO,
        "Number of bins, and lower and upper end, as in [40, 60, 120]; or all edges; with several axes a list of these. "
        "auto, for outputs between 0 and 1, chooses bins with enough background events in each.",
        examples=["[40, 60, 120]", "{edges: [0, 0.5, 0.8, 1]}", "auto"],
    )
    regions: list[str] = setting(
        list, "The regions; by default all.", uniqueItems=True, items=REGION, examples=[["SR", "CR_ZZ"]]
    )
    overflow: Optional[str] = setting(
        None,
        "add: what is below the first or above the last edge of an axis counts in the first or last bin. By default figures and fits do "
        "without it.",
        enum=("add",),
    )
    least_events: float = setting(
        LEAST_EVENTS, "With auto: the least effective number of background events in a bin.", exclusiveMinimum=0
    )
    most_bins: int = setting(MOST_BINS, "With auto: the largest number of bins.", minimum=1)

    @property
    def is_auto(self) -> bool:
        """Whether the bins are chosen."""
        return bool(self.bins == AUTO)

    def edges(self) -> list[list[float]]:
        """The edges of each axis; ValueError with what is wrong with `bins`, which are not auto."""
        several = isinstance(self.bins, list) and any(isinstance(each, (list, dict)) for each in self.bins)
        return [_edges(each) for each in (self.bins if several else [self.bins])]


@dataclass(frozen=True)
class Blind:
    """Data that nobody sees until `nanoml unblind`; or none, in one word."""

    regions: list[str] = setting(
        list,
        "The signal regions, whose data stay blind; by default all regions, and all events of an analysis without regions.",
        uniqueItems=True,
        items=REGION,
        examples=[["SR"]],
    )
    signal_over_root_background: Optional[float] = setting(
        0.5,
        "In other regions, data stay blind in bins in which the expected signal is larger than this times the square root of the expected "
        "background; null for none.",
        exclusiveMinimum=0,
    )


def _edges(bins: Any) -> list[float]:
    if isinstance(bins, dict) and set(bins) == {"edges"}:
        found = _numbers(bins["edges"])
        if len(found) < 2 or any(low >= high for low, high in zip(found, found[1:])):
            raise ValueError("edges: takes two or more numbers that rise, as in [0, 0.5, 0.8, 1]")
        return found
    if isinstance(bins, list) and len(bins) == 3:
        count, low, high = _numbers(bins)
        if count < 1 or count != int(count) or low >= high:
            raise ValueError("takes a whole number of bins, and a lower end below the upper one, as in [40, 60, 120]")
        width = (high - low) / count
        return [*(low + number * width for number in range(int(count))), high]
    raise ValueError('takes [NUMBER, LOW, HIGH], "edges: [...]" or auto')


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list) or any(isinstance(it, bool) or not isinstance(it, (int, float)) for it in values):
        raise ValueError("takes numbers alone")
    return [float(value) for value in values]


def axes_of(name: str, histogram: Histogram) -> list[str]:
    """What is filled on each axis."""
    return histogram.of or [name]
