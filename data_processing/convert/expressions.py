"""Expressions of event-level columns that the configuration gives: cuts of regions, weights, and classes that are estimated from data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.hdf5 import ConvertedRegion, ConvertedWeight, DataDrivenPart
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting, event_weights
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, SELECTED, Step, WeightSums, weight_column
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.lists import Arrays, Picker
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.roles import HOW

_READ_AT_ONCE = 1_000_000  # events


@dataclass(frozen=True)
class Expression:
    """An expression of event-level columns, in the language of skim.cut."""

    text: str
    where: str = field(metadata=HOW)  # its place in the configuration, for messages


IS_SELECTED = Expression(SELECTED, "")
"""The cut of a skim with shifts: without it, there are events that pass under shifts alone."""


class BoundExpression:
    """An expression with the branches of a file."""

    def __init__(self, expression: Expression, file: RootFile) -> None:
        self._where, self.text = expression.where, expression.text
        with self._explained():
            self._formula = Formula(expression.text).bind(file.branches, file.path)
        self.branches = self._formula.branches

    def passes(self, arrays: Arrays, length: int) -> NDArray[np.bool_]:
        """For which of `length` events it is true, given all `branches` of them."""
        with self._explained():
            return self._formula.mask(arrays, length)

    def values(self, arrays: Arrays, length: int) -> NDArray[np.float64]:
        """Its value for each of `length` events, given all `branches` of them."""
        with self._explained():
            return self._formula.values(arrays, length)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except NanoMLError as problem:
            raise ConfigError(f"{self._where}: {problem}") from None


@dataclass(frozen=True)
class Region:
    """A region of the analysis."""

    name: str
    cut: Expression

    def describe(self) -> ConvertedRegion:
        """Its description in the metadata."""
        return ConvertedRegion(self.name, self.cut.text)


def nominal_cuts(file: RootFile, record: Provenance | None) -> list[BoundExpression]:
    """The cut that leaves the events of a file that pass nominally, or under the shift in which it is read; none if all do.

    Raises NanoMLError if the file has lost the branch that tells.
    """
    others = sum(each.only_shifted for each in record.accounting.files) if record else 0
    if others and SELECTED not in file.branches:
        raise NanoMLError(
            f"{file.path}: {others:,} of its events pass under shifts alone, but the branch `{SELECTED}`, by which they are known, was "
            "dropped. Make the file again, and keep selected*."
        )
    return [BoundExpression(IS_SELECTED, file)] if others or SELECTED in file.renamed else []


def passing(cuts: Sequence[BoundExpression], arrays: Arrays, length: int) -> tuple[dict[str, object], int]:
    """The events of a block of `length` that pass all cuts, and how many they are."""
    passed = np.ones(length, bool)
    for cut in cuts:
        passed &= cut.passes(arrays, length)
    pick, kept = Picker(np.flatnonzero(passed)), int(passed.sum())
    return {name: pick(array) for name, array in arrays.items()} if kept < length else dict(arrays), kept


def branches_of(values: Iterable[BoundExpression]) -> list[str]:
    """The branches that cuts and other expressions read."""
    return list(dict.fromkeys(name for each in values for name in each.branches))


@dataclass(frozen=True)
class GivenWeight:
    """A weight that the selection gave to the events of a dataset, with the sums over all files of the dataset."""

    sums: WeightSums

    @property
    def variations(self) -> dict[str, str]:
        """Its variations, and the columns of the events' weights under them; in ROOT files, those of its values."""
        return {variation: column for variation, column in self.sums.columns.items() if variation != NOMINAL}

    @property
    def branches(self) -> list[str]:
        """The branches with its values."""
        return self.sums.branches

    def describe(self) -> ConvertedWeight:
        """Its description in the metadata."""
        return ConvertedWeight(self.sums.weight, self.variations, self.sums.keeps_yield, self.sums.combine)

    def factors(self, arrays: Arrays) -> dict[str, NDArray[np.float64]]:
        """Its values for each event, nominal and under each variation; normalised, if it keeps the yield."""
        found = {key: np.asarray(arrays[column], np.float64) for key, column in self.sums.columns.items()}
        if not self.sums.keeps_yield:
            return found
        bins = np.asarray(arrays[self.branches[-1]]) if self.sums.is_binned else np.zeros(len(found[NOMINAL]), np.int64)
        places, inverse = np.unique(bins, return_inverse=True)
        for variation, values in found.items():
            ratio = self.sums.ratio(variation)
            found[variation] = values * np.array([ratio[place] for place in places.tolist()])[inverse]
        return found


@dataclass(frozen=True)
class ExpressionWeight:
    """A weight that the configuration gives by expressions of columns: of a dataset's events, or the transfer weight of a class."""

    name: str  # empty if it has no variations
    values: Mapping[str, BoundExpression]  # nominal and under each variation

    @property
    def variations(self) -> dict[str, str]:
        """Its variations, and the columns of the events' weights under them."""
        return {variation: weight_column(self.name, variation) for variation in self.values if variation != NOMINAL}

    @property
    def branches(self) -> list[str]:
        """The branches from which it is computed."""
        return branches_of(self.values.values())

    def describe(self) -> ConvertedWeight:
        """Its description in the metadata."""
        return ConvertedWeight(self.name, self.variations)

    def factors(self, arrays: Arrays) -> dict[str, NDArray[np.float64]]:
        """Its values for each event, nominal and under each variation."""
        return {key: value.values(arrays, len(arrays["run"])) for key, value in self.values.items()}


@dataclass(frozen=True)
class EventWeights:
    """All weights of a dataset's events: the generator's, those beside it, and the number of events that a weight stands for."""

    scale: float | None  # number of events expected per generator weight, if that is known
    is_generated: bool  # whether the events have genWeight, and it counts; otherwise it is 1
    given: Sequence[GivenWeight | ExpressionWeight] = ()  # beside the generator's

    @property
    def varied(self) -> list[ConvertedWeight]:
        """The descriptions of those that have variations, or that the selection gave."""
        found = [each.describe() for each in self.given if isinstance(each, GivenWeight) or each.variations]
        names = [each.name for each in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"data_driven.{twice}: its transfer weight has variations, and the selection has a weight {twice}: their columns would "
                "have the same names. Rename one of the two."
            )
        return found

    @property
    def columns(self) -> list[str]:
        """The columns of the weights of events under each variation."""
        return [column for each in self.given for column in each.variations.values()]

    @property
    def branches(self) -> list[str]:
        """The branches from which they are computed."""
        names = [name for each in self.given for name in each.branches]
        return list(dict.fromkeys(["genWeight", *names] if self.is_generated else names))

    def generated(self, arrays: Arrays, length: int) -> NDArray[np.float32]:
        """The generator weight of each event, as HDF5 files have it."""
        if not self.is_generated:
            return np.ones(length, np.float32)
        return np.asarray(ak.to_numpy(arrays["genWeight"])).astype(np.float32, copy=False)

    def corrections(self, arrays: Arrays, length: int) -> dict[str, NDArray[np.float64]]:
        """The product of all that are beside the generator's, for each event: nominal, and by column under each variation."""
        factors = [each.factors(arrays) for each in self.given]
        found = {NOMINAL: math.prod((each[NOMINAL] for each in factors), start=np.ones(length))}
        for number, each in enumerate(self.given):
            nominal = (values[NOMINAL] for other, values in enumerate(factors) if other != number)
            others: NDArray[np.float64] = math.prod(nominal, start=np.ones(length))
            found.update((column, others * factors[number][key]) for key, column in each.variations.items())
        return found


@dataclass(frozen=True)
class Transfer:
    """The transfer weight of a class that is estimated from data."""

    class_: str
    values: Mapping[str, Expression]  # nominal and under each variation

    @property
    def of_others(self) -> Transfer:
        """The same weight for events of other classes: 1."""
        return self._each(lambda _: "1")

    @property
    def subtracted(self) -> Transfer:
        """The same weight for events that are subtracted."""
        return self._each(lambda text: f"-({text})")

    @property
    def unvaried(self) -> Transfer:
        """The same weight without variations."""
        return replace(self, values={NOMINAL: self.values[NOMINAL]})

    def _each(self, change: Callable[[str], str]) -> Transfer:
        return replace(self, values={key: replace(it, text=change(it.text)) for key, it in self.values.items()})

    def bound(self, file: RootFile) -> ExpressionWeight:
        """The weight with the branches of a file."""
        # columns are named after it
        name = re.sub(r"\W", "_", self.class_)
        return ExpressionWeight(name, {key: BoundExpression(it, file) for key, it in self.values.items()})


@dataclass(frozen=True)
class Estimate:
    """The role of a dataset's events in a class that is estimated from data."""

    dataset: str  # its name
    region: Region  # in which the events are
    transfer: Transfer  # what each counts, beside its own weights
    is_subtracted: bool
    into: Sequence[Region]  # the regions in which they count, with the cuts that they must pass there

    @property
    def factor(self) -> Transfer:
        """The factor of an event's weight."""
        return self.transfer.subtracted if self.is_subtracted else self.transfer

    def counted(self, regions: Sequence[Region]) -> list[Region]:
        """All regions, each with the cut that decides whether an event counts there."""
        cuts = {region.name: region.cut for region in self.into}
        return [replace(region, cut=cuts.get(region.name, replace(region.cut, text="0"))) for region in regions]

    def describe(self, sum_of_weights: float) -> DataDrivenPart:
        """Its description in the metadata, with the sum of the weights of its events."""
        into = tuple(region.describe() for region in self.into)
        texts = {key: expression.text for key, expression in self.transfer.values.items()}
        weight = texts.pop(NOMINAL)
        return DataDrivenPart(self.dataset, self.region.name, weight, self.is_subtracted, into, sum_of_weights, texts)

    def enter(self, accounting: Accounting, sources: Iterable[RootFile], regions: Sequence[Region]) -> None:
        """Enter the region into the accounting of the files behind some ROOT files, as a last cut.

        `regions` are those of the analysis. Raises ConfigError if an event is in one for which it is the estimate as well:
        data of a signal region must not be trained on.
        """
        targets = {region.name for region in self.into}
        files, start = accounting.files, 0
        ends = np.cumsum([file.written for file in files])
        # events and sums of weights of each file: of all, and of those in the region
        all_events, events = np.zeros((2, len(files)), np.int64)
        all_weights, weights = np.zeros((2, len(files)))
        for source in sources:
            cuts = [*nominal_cuts(source, Provenance.of(source)), BoundExpression(self.region.cut, source)]
            others = {it.name: BoundExpression(it.cut, source) for it in regions if it.name in targets}
            weight = {"genWeight"} & {*source.branches}
            names = list(dict.fromkeys(["run", *branches_of([*cuts, *others.values()]), *weight]))
            for first, stop in source.ranges(names, _READ_AT_ONCE):
                arrays = source.read(names, first, stop)
                owner = ends.searchsorted(np.arange(start + first, start + stop), side="right")
                generated = event_weights(arrays, stop - first)
                inside = np.logical_and.reduce([cut.passes(arrays, stop - first) for cut in cuts])
                for name, other in others.items():
                    if (inside & other.passes(arrays, stop - first)).any():
                        raise ConfigError(
                            f"{self.region.cut.where}: events of {self.dataset} are in {name} as well, for which they would be the "
                            "estimate. Make the two regions exclude each other."
                        )
                all_events += np.bincount(owner, minlength=len(files))
                all_weights += np.bincount(owner, generated, len(files))
                events += np.bincount(owner[inside], minlength=len(files))
                weights += np.bincount(owner[inside], generated[inside], len(files))
            start += source.entries
        for number, file in enumerate(files):
            everything = Step("all", int(all_events[number]), float(all_weights[number]))
            inside_region = Step(f"in {self.region.name}", int(events[number]), float(weights[number]))
            file.cutflow = [*(file.cutflow or [everything]), inside_region]
            file.selected = inside_region.events


def given_weights(
    sums: Iterable[WeightSums], own: Expression | None, transfers: Iterable[Transfer], file: RootFile
) -> list[GivenWeight | ExpressionWeight]:
    """All weights of a dataset's events beside the generator's: the selection's, its own, and transfer weights."""
    found: list[GivenWeight | ExpressionWeight] = [GivenWeight(each) for each in sums]
    found += [ExpressionWeight("", {NOMINAL: BoundExpression(own, file)})] if own else []
    return [*found, *(transfer.bound(file) for transfer in transfers)]
