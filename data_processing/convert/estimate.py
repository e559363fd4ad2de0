"""Classes that are estimated from data in a region: what the events of a dataset are in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_processing.convert.expressions import BoundExpression, Expression, Region
from data_processing.convert.reading import EventCut, FlagCut, branches_of, nominal_flag
from data_processing.convert.weights import ExpressionWeight, GivenWeight
from MLTools.NanoML.contracts.hdf5 import DataDrivenPart
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.nanoaod.accounting import Accounting, event_weights
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, Step, WeightSums
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile

_READ_AT_ONCE = 1_000_000  # events


@dataclass(frozen=True)
class Transfer:
    """The transfer weight of a class that is estimated from data."""

    class_: str
    values: Mapping[str, Expression]  # nominal and under each variation

    @property
    def of_others(self) -> Transfer:
        """What it is for events of other classes: 1."""
        return self._each(lambda _: "1")

    @property
    def subtracted(self) -> Transfer:
        """What it is for events that are subtracted."""
        return self._each(lambda text: f"-({text})")

    def _each(self, change: Callable[[str], str]) -> Transfer:
        return replace(self, values={key: replace(it, text=change(it.text)) for key, it in self.values.items()})

    def bound(self, file: RootFile) -> ExpressionWeight:
        """The weight with the branches of a file."""
        # columns are named after it
        name = re.sub(r"\W", "_", self.class_)
        return ExpressionWeight(name, {key: BoundExpression(it, file) for key, it in self.values.items()})


@dataclass(frozen=True)
class Estimate:
    """What the events of a dataset are in a class that is estimated from data."""

    dataset: str  # its name
    region: Region  # in which the events are
    transfer: Transfer  # what each counts, beside its own weights
    is_subtracted: bool
    into: Sequence[Region]  # the regions in which they count, with the cuts that they must pass there

    @property
    def factor(self) -> Transfer:
        """What the weight of an event is multiplied by."""
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
            cuts: list[EventCut] = [*map(FlagCut, nominal_flag(source, Provenance.of(source)))]
            cuts.append(BoundExpression(self.region.cut, source))
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
