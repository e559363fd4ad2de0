"""Cuts and weights, and the cut flow that counts events and adds up weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, Step, WeightSums, weight_column
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Factor, GivenWeight, Weight, one_each, sums_by_bin
from MLTools.NanoML.rootio.lists import Array, Mask, Numbers
from MLTools.NanoML.rootio.versions import did_you_mean

_MOST_BINS = 10_000  # in which a weight keeps the yield
_MOST_NAMES = 8  # variations in a message
_Mask = NDArray[np.bool_]
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """Jets of which some pass, and the generator weight of each event."""

    name: str
    weights: _Numbers
    jets: ak.Array | Flat
    passed: Mask


class ReachedError(BaseException):
    """A selection came to where it was to end: the arguments of that cut, if it is one. Nothing that catches errors catches this."""


class Cutflow:
    """Applies cuts and weights one after the other, counts the events that are left, and adds up their weights.

    Parameters
    ----------
    weights
        Generator weight of each event of the chunk, shape (events,).
    declared
        The weights that may be given, by name.
    weighs
        Whether `weigh` computes anything: for data, all weights are 1.
    counts
        Whether `count_efficiency` does anything: only where efficiencies are measured.

    Examples
    --------
    >>> cutflow, pt = Cutflow(np.ones(3)), np.array([10.0, 20.0, 30.0])
    >>> pt = cutflow.cut("pt", pt > 15, pt)
    >>> [(step.cut, step.events) for step in cutflow.steps]
    [('all', 3), ('pt', 2)]
    """

    beside = 0  # under so many shifts may columns have a number for each event, in two dimensions
    until = -1  # after so many cuts, the next one ends the selection

    def __init__(
        self,
        weights: NDArray[np.float64],
        declared: Mapping[str, Weight] | None = None,
        weighs: bool = True,
        counts: bool = False,
    ) -> None:
        self._all = self._weights = np.asarray(weights, dtype=np.float64)
        self.declared, self.weighs, self.counts = declared or {}, weighs, counts
        self._product = self._all  # of all weights, for the events that are left
        self._given: dict[str, GivenWeight] = {}
        self.rows: NDArray[np.int64] = np.arange(len(self._all))  # positions of the events that are left
        self.steps: list[Step] = []
        self.candidates: list[Candidates] = []  # what efficiencies are to be measured of
        self._masks: list[_Mask] = []
        self._dropped: tuple[Cutflow, _Mask] | None = None
        self._count("all")

    def _count(self, name: str) -> None:
        if any(step.cut == name for step in self.steps):
            first = "the line before the first cut, with all events, has this name"
            why = first if name == "all" else "there is a cut of this name already"
            raise NanoMLError(f'cut "{name}": {why}. Give each cut a name of its own.')
        self.steps.append(Step(name, len(self._weights), float(self._weights.sum())))

    @property
    def progress(self) -> tuple[int, int]:
        """How many cuts and weights there were."""
        return len(self._masks), len(self._given)

    @property
    def columns(self) -> dict[str, Array]:
        """The columns of the weights that were given, for the events that are left."""
        return {name: values for given in self._given.values() for name, values in given.left.items()}

    def weigh(
        self, name: str, values: Factor | Numbers | Callable[[], Factor | Numbers], bins: Numbers | None = None
    ) -> None:
        """Give the events that are left one more weight.

        Where this stands among the cuts matters for a weight that must keep the yield: its sums with and without it are those of
        the events that are left here.

        Parameters
        ----------
        name
            Name of the weight, which `weights` of the selection declares.
        values
            A `Factor` with one number for each event that is left, or an array without variations; or a function that returns
            one. It is not called for data, so it may read what data do not have: `lambda: ...`. Data have the weight 1.
        bins
            For a weight that keeps the yield in bins: the bin of each event, integers, as the number of its jets.

        Raises
        ------
        NanoMLError
            The weight is not declared, was given before, is not one finite number for each event, or has other variations than
            declared.
        """
        if name not in self.declared:
            raise NanoMLError(
                f'weight "{name}": is not declared.{did_you_mean(name, self.declared)} Add it to `weights` of the selection.'
            )
        if name in self._given:
            raise NanoMLError(f'weight "{name}": is given twice. Multiply the two, or give one of them another name.')
        weight, one = self.declared[name], np.ones(len(self._product))
        factor = Factor(one, dict.fromkeys(weight.variations, one))
        if self.weighs:
            found = values() if callable(values) else values
            factor = found if isinstance(found, Factor) else Factor(found)
        if set(factor.variations) != set(weight.variations):
            has, declared = (listed(names, _MOST_NAMES) or "none" for names in (factor.variations, weight.variations))
            raise NanoMLError(f'weight "{name}": has the variations {has}, but `weights` declares {declared}.')
        made: dict[str, _Numbers] = {}
        columns: dict[str, Array] = {}
        for variation, column in weight.columns(name):
            what = f'weight "{name}" ({variation})'
            made[variation] = one_each(what, factor[variation], len(self._product))
            columns[column] = made[variation].astype(np.float32)
        if (bins is not None) != bool(weight.bins):
            raise NanoMLError(f'weight "{name}": `weigh` gets bins if, and only if, `weights` says what they are.')
        places: NDArray[np.int64] = np.zeros(len(self._product), np.int64)
        if bins is not None:
            places = np.asarray(bins).astype(np.int64)
            if places.shape != self._product.shape:
                raise NanoMLError(f'weight "{name}": {len(places)} bins for {len(self._product)} events that are left.')
            if len(places) and int(places.max()) - int(places.min()) > _MOST_BINS:
                raise NanoMLError(
                    f'weight "{name}": its bins go from {places.min()} to {places.max()}: give the number of a bin, as that of jets.'
                )
            columns[f"{weight_column(name)}_bin"] = places.astype(np.int32)
        self._given[name] = GivenWeight(weight, len(self._masks), self._product, made, places, columns)
        self._product = self._product * made[NOMINAL]

    def count_efficiency(self, name: str, jets: ak.Array | Flat, passed: Mask) -> None:
        """Name the jets of which `nanoml efficiencies` measures how many pass, such as b-tagged ones; other runs ignore it.

        Call it where the weight belongs that needs the efficiency: before a cut on the jets that pass.

        Parameters
        ----------
        name
            Name of the efficiency.
        jets
            The jets of the events that are left, with pt, eta and hadronFlavour: `events.Jet[...]`, or of `events.flat("Jet")`.
        passed
            Whether each passes, booleans.
        """
        if not self.counts:
            return
        if any(each.name == name for each in self.candidates):
            raise NanoMLError(f'efficiency "{name}": is counted twice. Give each one a name of its own.')
        if len(jets) != len(self._weights):
            raise NanoMLError(f'efficiency "{name}": jets of {len(jets)} events, but {len(self._weights)} are left.')
        self.candidates.append(Candidates(name, self._weights, jets, passed))

    def weight_sums(self, chosen: _Mask | None = None, unvaried: bool = False) -> list[WeightSums]:
        """The sums of the weights that were given; of some events of the chunk only, if a mask of shape (events,) says so.

        If `unvaried`, those of the nominal values alone.
        """
        found = []
        for name, given in self._given.items():
            keys = [NOMINAL] if unvaried else list(given.values)
            cut, declared = self.steps[given.cuts].cut, given.weight
            if chosen is None and self._dropped is None:
                without, sums = given.sum_of(""), {key: given.sum_of(key) for key in keys}
            else:
                every = mask = np.ones(len(self._all), bool) if chosen is None else chosen
                for passed in self._masks[: given.cuts]:
                    mask = mask[passed]
                parts = [(given, mask)]
                if self._dropped is not None and given.cuts == 1:
                    more, dropped = self._dropped
                    cut = self.steps[0].cut
                    parts += [(it, every[dropped]) for other, it in more._given.items() if other == name]
                bins = np.concatenate([it.bins[some] for it, some in parts])
                before = np.concatenate([it.before[some] for it, some in parts])
                values = {key: np.concatenate([it.values[key][some] for it, some in parts]) for key in keys}
                without = sums_by_bin(bins, before)
                sums = {key: sums_by_bin(bins, before * values[key]) for key in keys}
            found.append(
                WeightSums(name, cut, declared.keeps_yield, bool(declared.bins), without, sums, declared.combine)
            )
        return found

    def largest_weights(self) -> dict[tuple[str, str], tuple[float, int]]:
        """The largest value of each weight, nominal and under each variation, and the position of its event in the chunk."""
        found = {}
        for name, given in self._given.items():
            rows: NDArray[np.int64] = np.arange(len(self._all))
            for passed in self._masks[: given.cuts]:
                rows = rows[passed]
            for variation, values in given.values.items():
                if len(rows):
                    place = int(np.argmax(np.abs(values)))
                    found[name, variation] = float(values[place]), int(rows[place])
        return found

    @property
    def weighs_after_first_cut(self) -> bool:
        """Whether a weight was given between the first cut and the second."""
        return any(given.cuts == 1 for given in self._given.values())

    def count_dropped(self, dropped: Cutflow, mask: _Mask) -> None:
        """Count the weights between the first cut and the second as given before the first.

        `dropped` is the cut flow, with these weights, of the events that the first cut dropped: those of a mask of the chunk.
        """
        self._dropped = dropped, mask

    def restarted(self, cuts: int, rows: NDArray[np.int64]) -> Cutflow:
        """A new one for the events at positions in the chunk, which have passed the first cuts."""
        made = Cutflow(self._all[rows], self.declared, self.weighs)
        for step in self.steps[1 : cuts + 1]:
            made.cut(step.cut, np.ones(len(rows), bool))
        return made

    def go_on_from(self, other: Cutflow) -> None:
        """Become as another one is now."""
        self._all, self._weights, self._product, self.rows = other._all, other._weights, other._product, other.rows
        self.steps, self._masks = list(other.steps), list(other._masks)
        self._given = {name: copy.copy(given) for name, given in other._given.items()}

    def copied(self) -> Cutflow:
        """Another one that is as this one is now."""
        made = Cutflow(np.zeros(0), self.declared, self.weighs)
        made.go_on_from(self)
        return made

    def repeated(self, places: NDArray[np.int64]) -> Cutflow:
        """The cut flow of the events that are left, at places among them, each as often as it is named."""
        made = self.copied()
        made._weights, made._product = self._weights[places], self._product[places]
        made.rows = np.arange(len(places))
        made.steps[-1] = replace(self.steps[-1], events=len(places))
        for given in made._given.values():
            given.left = {name: values[places] for name, values in given.left.items()}
        return made

    def part(self, of: Cutflow, chosen: slice | _Mask, passed: _Mask | None = None) -> Cutflow:
        """The cut flow of some events of those that were left when this one was as far as `of`, which is theirs until then.

        If `passed` says which events pass the next cut, instead of more of them here, it is that of all of them.
        """
        made, places = of.copied(), [chosen]
        for step, mask in zip(self.steps[len(of.steps) :], self._masks[len(of._masks) :]):
            if passed is not None:
                kept, chosen, passed = passed, passed[mask], None
            elif isinstance(chosen, slice):
                kept = mask[chosen]
                chosen = slice(*(int(np.count_nonzero(mask[:end])) for end in (chosen.start, chosen.stop)))
            else:
                kept, chosen = mask[chosen], chosen[mask]
            made._weights = made._weights[kept]
            made._masks.append(kept)
            made.steps.append(Step(step.cut, len(made._weights), float(made._weights.sum())))
            places.append(chosen)
        for name, given in itertools.islice(self._given.items(), len(of._given), None):
            made._given[name] = given.at(places[given.cuts - len(of._masks)])
        return made

    def followed_by(self, other: Cutflow) -> Cutflow:
        """The cut flow that is this one, and then another one, of the events that are left here.

        Raises NanoMLError if the other one has not kept all of these events until then.
        """
        for number, mask in enumerate(other._masks[: len(self._masks)]):
            if not mask.all():
                raise NanoMLError(
                    f'cut "{other.steps[number + 1].cut}": drops events that it has kept before, though nothing that it reads is '
                    "shifted. Let a cut depend on nothing but the event: not on other events, and not on random numbers."
                )
        return other.part(self, slice(0, len(self.rows)))

    @property
    def depth(self) -> NDArray[np.int64]:
        """How many cuts each event of the chunk has passed, one after the other."""
        found: NDArray[np.int64] = np.zeros(len(self._all), np.int64)
        rows: NDArray[np.int64] = np.arange(len(self._all))
        for passed in self._masks:
            rows = rows[passed]
            found[rows] += 1
        return found

    def steps_of(self, chosen: NDArray[np.bool_]) -> list[Step]:
        """The steps as they would be with only some events of the chunk, given by a mask of shape (events,)."""
        weights, found = self._all, []
        for number, step in enumerate(self.steps):
            if number:
                passed = self._masks[number - 1]
                chosen, weights = chosen[passed], weights[passed]
            found.append(Step(step.cut, int(chosen.sum()), float(weights[chosen].sum())))
        return found

    def cut(self, name: str, mask: Mask, *narrowed: Any) -> Any:
        """Keep the events for which `mask` is true.

        Parameters
        ----------
        name
            Name of the cut in the cut flow.
        mask
            One boolean for each event that is still there.
        *narrowed
            Events, collections and other arrays with one entry for each event that is still there.

        Returns
        -------
        `narrowed` with only the events that pass: a tuple, or a single array if there is one.

        Raises
        ------
        NanoMLError
            The mask is not one boolean per event, or an array to be narrowed has another length.
        """
        for position, thing in enumerate(narrowed, 1):
            if isinstance(thing, tuple):
                raise NanoMLError(
                    f'cut "{name}": argument {position} after the mask is all that an earlier cut returned. Take it apart there: '
                    "events, muons = cutflow.cut(name, mask, events, muons)."
                )
        passed = self._checked(name, mask)
        for position, thing in enumerate(narrowed, 1):
            if len(thing) != len(passed):
                raise NanoMLError(
                    f'cut "{name}": argument {position} after the mask has {len(thing)} entries, the mask {len(passed)}: '
                    "narrow it in every cut, or compute it after the cut."
                )
        if len(self._masks) == self.until:
            raise ReachedError(name, passed, narrowed)
        self._weights, self._product, self.rows = self._weights[passed], self._product[passed], self.rows[passed]
        for given in self._given.values():
            given.left = {column: values[passed] for column, values in given.left.items()}
        self._masks.append(passed.copy())  # it may be changed later
        self._count(name)
        kept = tuple(thing[passed] for thing in narrowed)
        return kept[0] if len(kept) == 1 else kept

    def _checked(self, name: str, mask: Mask) -> NDArray[np.bool_]:
        passed = mask
        try:
            if type(mask) is not np.ndarray:
                passed = ak.to_numpy(mask if isinstance(mask, (np.ndarray, ak.Array)) else ak.Array(mask))
        except (ValueError, TypeError):
            raise NanoMLError(
                f'cut "{name}": the mask has a list for each event. Give one boolean per event, as in ak.any(mask, axis=1).'
            ) from None
        if type(passed) is not np.ndarray and np.ma.isMaskedArray(passed):
            if np.ma.getmaskarray(passed).any():
                raise NanoMLError(f'cut "{name}": the mask has missing values (None). Use ak.fill_none(mask, False).')
            passed = passed.data
        if passed.ndim != 1 or passed.dtype != np.bool_:
            raise NanoMLError(
                f'cut "{name}": the mask is {passed.ndim}-dimensional of {passed.dtype}, not one boolean per event. '
                "Give one boolean per event, as in ak.any(mask, axis=1), or by a comparison."
            )
        if len(passed) != len(self._weights):
            raise NanoMLError(
                f'cut "{name}": the mask has {len(passed)} entries, but {len(self._weights)} events are left: '
                "was it computed before an earlier cut?"
            )
        return passed
