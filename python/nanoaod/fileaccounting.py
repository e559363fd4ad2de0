"""The accounting as files record it: which entries of which files were read, and the events and weights that each cut left."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Optional


@dataclass(frozen=True)
class EntryRange:
    """Entries of a file, from `first` to `stop` - 1."""

    file: str
    first: int
    stop: int

    def __str__(self) -> str:
        if self.stop - self.first == 1:
            return f"entry {self.first:,} of {self.file}"
        return f"entries {self.first:,} to {self.stop - 1:,} of {self.file}"


@dataclass
class Step:
    """Events that are left after one cut."""

    cut: str  # its name; the first step is "all"
    events: int  # number of events
    weights: float  # sum of their generator weights (of ones, in data)


_MOST_SHOWN = 20  # variations

NOMINAL = "nominal"
"""Name of the values of a weight that are not varied."""


COMBINATIONS = ("envelope", "hessian", "replicas")
"""How variations of a weight may be one uncertainty, of each yield and each bin: their largest and smallest value; the square root of
the sum of their squared distances from nominal; or their standard deviation."""


def combined(how: str, nominal: Any, members: Any, xp: Any = None) -> tuple[Any, Any]:
    """A yield or a bin up and down by variations that are one uncertainty.

    `how` is one of COMBINATIONS, `nominal` an array of any shape, and `members` has one more axis, the first, for the variations; `xp` is
    the module of these, by default numpy.
    """
    if xp is None:
        import numpy as xp  # records alone are read without it

    if how == "envelope":
        return xp.maximum(nominal, xp.amax(members, 0)), xp.minimum(nominal, xp.amin(members, 0))
    squares = ((members - nominal) ** 2).sum(0)
    if how == "replicas":
        squares = ((members - members.mean(0)) ** 2).sum(0) / max(len(members) - 1, 1)
    # the root has no derivative at 0
    spread = xp.where(squares > 0, xp.where(squares > 0, squares, xp.ones_like(squares)) ** 0.5, xp.zeros_like(squares))
    return nominal + spread, nominal - spread


def weight_column(name: str, variation: str = NOMINAL) -> str:
    """The column with the values of a weight, ending as in nanoAOD-tools: weight_btag, weight_btagUp, weight_btag_hfUp."""
    if variation == NOMINAL:
        return f"weight_{name}"
    source, _, direction = variation.rpartition("_")
    return f"weight_{name}{f'_{source}' if source else ''}{direction.capitalize()}"


SELECTED = "selected"
"""The column that says whether an event is selected: not only under a shift of objects."""

EVENT_WEIGHT = "eventWeight"
"""The branch beside scores with the nominal weight; eventWeight_pileupUp and the like have that under a variation or a shift."""


def under_shift(name: str, shift: str, collection: str = "") -> str:
    """The column with the values of another one under a shift: ZCand_mass_jesUp, as nanoAOD-tools names them.

    Under a shift, a `collection` has other objects, and so a counter of its own: GoodJet_jesUp_pt, nGoodJet_jesUp.
    """
    return f"{collection}_{shift}{name[len(collection) :]}" if collection else f"{name}_{shift}"


OUTLIER = 10.0
"""How many times its mean a weight of one event may be without a word."""


@dataclass(frozen=True)
class Outlier:
    """The event whose value of a weight is the largest, compared with the mean, nominal or under a variation."""

    variation: str
    value: float
    event: str  # run, luminosity block and number


@dataclass
class WeightSums:
    """Sums of the weights of simulated events where a selection gives them one more weight, with and without it."""

    weight: str  # its name
    cut: str  # the last cut before it; "all" if there is none
    keeps_yield: bool  # whether it is to be normalised by these sums
    is_binned: bool  # whether that holds in each bin
    # by bin; without bins there is one, 0. The sum of the products of all weights before it, and that with its values, nominal
    # ("nominal") and under each variation
    without: dict[int, float]
    sums: dict[str, dict[int, float]]
    # how its variations are one uncertainty, one of COMBINATIONS; empty if each pair up and down is one of its own
    combine: str = field(default="", metadata={"sparse": True})
    outlier: Optional[Outlier] = field(default=None, metadata={"sparse": True})  # above OUTLIER times the mean

    @property
    def columns(self) -> dict[str, str]:
        """The columns of its values, nominal and under each variation."""
        return {variation: weight_column(self.weight, variation) for variation in self.sums}

    @property
    def branches(self) -> list[str]:
        """All branches that belong to it."""
        return [*self.columns.values(), *([f"{weight_column(self.weight)}_bin"] if self.is_binned else [])]

    @property
    def means(self) -> dict[str, float]:
        """The mean of the weight, nominal and under each variation; none if the weights before it add up to zero."""
        before = math.fsum(self.without.values())
        return {key: math.fsum(sums.values()) / before for key, sums in self.sums.items()} if before else {}

    def varied_means(self, digits: int) -> str:
        """The means under the variations in words; the range of those of a PDF set, as they are too many."""
        means = {key: f"{mean:.{digits}f}" for key, mean in self.means.items() if key != NOMINAL}
        if len(means) > _MOST_SHOWN:
            ordered = sorted(means.values(), key=float)
            return f"{len(means)} variations from {ordered[0]} to {ordered[-1]}"
        return ", ".join(f"{key} {mean}" for key, mean in means.items())

    @property
    def outlier_ratio(self) -> float:
        """How many times its mean the outlier is; 0 without one."""
        mean = self.means.get(self.outlier.variation) if self.outlier else None
        return abs(self.outlier.value / mean) if self.outlier and mean else 0.0

    @property
    def unvaried(self) -> WeightSums:
        """The same for the nominal values alone."""
        return replace(self, sums={NOMINAL: self.sums[NOMINAL]})

    def ratio(self, variation: str) -> dict[int, float]:
        """The factor of its values by which they keep the yield, by bin; 1 in a bin without weights."""
        return {
            place: self.without[place] / with_it if with_it else 1.0 for place, with_it in self.sums[variation].items()
        }


@dataclass
class ShiftSums:
    """The accounting of a shift of objects."""

    shift: str  # the ending of its columns: "jesUp"
    cutflow: list[Step]
    weights: list[WeightSums]  # nominal values alone


@dataclass(frozen=True)
class Part:
    """The range of entries that was read of a file, if it is not the whole file; in data, weights are numbers of events."""

    first: Optional[int]  # first entry; None if it is not known which entries were read
    file_entries: int  # events in the file
    weights: float  # sum of the generator weights in the range
    file_weights: float  # sum of the generator weights of all events in the file


@dataclass
class FileAccounting:
    """The accounting of one input file, or of a range of its entries.

    The sum of weights is that of all events behind the file, from its Runs tree, which also counts events that were
    skimmed away before. In data, and in simulation without generator weights, it is the number of events. It is that of
    the whole file, whatever range was read.
    """

    file: str  # path or URL
    entries: int  # events that were read
    selected: int  # events that were kept
    sum_of_weights: float
    sum_of_weights_source: str  # where that number comes from
    is_data: bool  # neither generator weights nor other marks of simulation
    cutflow: list[Step] = field(default_factory=list)
    luminosity_sections: dict[str, list[list[int]]] = field(default_factory=dict)  # read, in skims of data
    duplicates: int = 0  # events of data that passed all cuts, but are in an earlier file or dataset, too
    uuid: str = ""  # identifier that ROOT gave the file, which a copy has too; empty if it has none
    part: Optional[Part] = None  # the range of entries that was read; None for the whole file
    # of the weights that its events were given, in their order
    weights: list[WeightSums] = field(default_factory=list, metadata={"sparse": True})
    # under each shift of objects, and how many events were kept that pass under shifts alone
    shifts: list[ShiftSums] = field(default_factory=list, metadata={"sparse": True})
    only_shifted: int = field(default=0, metadata={"sparse": True})
    # branches of triggers that the file lacks, so that they were read as their defaults
    absent: list[str] = field(default_factory=list, metadata={"sparse": True})

    @property
    def written(self) -> int:
        """Events in the file that was made, those that pass under shifts alone among them."""
        return self.selected + self.only_shifted

    def under(self, shift: str) -> FileAccounting:
        """The same under a shift of objects."""
        found = next(each for each in self.shifts if each.shift == shift)
        selected = found.cutflow[-1].events
        others = self.written - selected
        return replace(
            self, selected=selected, cutflow=found.cutflow, weights=found.weights, shifts=[], only_shifted=others
        )

    @property
    def file_entries(self) -> int:
        """Events in the file."""
        return self.entries if self.part is None else self.part.file_entries

    @property
    def read(self) -> Optional[EntryRange]:
        """The entries that were read; None if they are not known."""
        first = 0 if self.part is None else self.part.first
        return None if first is None else EntryRange(self.file, first, first + self.entries)

    @property
    def has_beginning(self) -> bool:
        """Whether the first entry was read: nanoAOD-tools copies Runs only with it."""
        return self.part is None or self.part.first == 0

    @property
    def identity(self) -> tuple[str, int, float]:
        """The same for two ranges of one file, whatever directories it was read from."""
        return self.uuid or self.file, self.file_entries, self.sum_of_weights


@dataclass(frozen=True)
class RecordedAccounting:
    """The accounting of files with the sums over them, as they were written."""

    files: list[FileAccounting]
    entries: int
    selected: int
    duplicates: int = field(metadata={"older": 0})
    sum_of_weights: float
    cutflow: list[Step]
