"""Selections as analyses have them, and random ones: their graph, made with some events, against the engine on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.selection import Cutflow, Events, Flat, Selection
from services.compilation import check_selection

SELECTIONS: dict[str, Callable[[Events, Cutflow], Any]] = {}
"""By name; each takes events and a cut flow, and returns the events that are left."""


def selection(function: Callable[[Events, Cutflow], Any]) -> Callable[[Events, Cutflow], Any]:
    SELECTIONS[function.__name__] = function
    return function


@selection
def best_pair(events: Events, cutflow: Cutflow) -> Any:
    pairs = ak.combinations(events.Muon, 2, fields=["a", "b"])
    pairs = pairs[pairs.a.charge != pairs.b.charge]
    nearest = ak.firsts(pairs[ak.argmin(abs((pairs.a + pairs.b).mass - 91.2), axis=1, keepdims=True)])
    events, nearest = cutflow.cut("pair", ~ak.is_none(nearest.a.pt), events, nearest)
    return cutflow.cut("leading", np.maximum(nearest.a.pt, nearest.b.pt) > 15, events)


@selection
def top_quarks(events: Events, cutflow: Cutflow) -> Any:
    triplets = ak.combinations(events.Jet, 3, fields=["a", "b", "c"])
    mass = (triplets.a + triplets.b + triplets.c).mass
    best = ak.firsts(mass[ak.argmin(abs(mass - 172.5), axis=1, keepdims=True)])
    return cutflow.cut("top", np.round(ak.fill_none(best, -1)) > 60, events)


@selection
def nearest_lepton(events: Events, cutflow: Cutflow) -> Any:
    jets, muons = ak.unzip(ak.cartesian([events.Jet, events.Muon[events.Muon.good]], nested=True))
    distance = jets.deltaR(muons)
    nearest = ak.firsts(muons[ak.argmin(distance, axis=2, keepdims=True)], axis=2)
    near = ak.fill_none(ak.min(distance, axis=2), 99) < 1.5
    return cutflow.cut("near", ak.any(near & (ak.fill_none(nearest.pt, 0) > 15), axis=1), events)


@selection
def transverse_mass(events: Events, cutflow: Cutflow) -> Any:
    pt, zero = events.MET.pt, 0 * events.MET.pt
    met = ak.zip({"pt": pt, "eta": zero, "phi": events.MET.phi, "mass": zero}, with_name="Momentum4D")
    events, muons, met = cutflow.cut("muon", ak.num(events.Muon) >= 1, events, events.Muon, met)
    leading = muons[ak.argmax(muons.pt, axis=1, keepdims=True)][:, 0]
    mass = np.sqrt(2 * leading.pt * met.pt * (1 - np.cos(leading.phi - met.phi)))
    return cutflow.cut("W", (mass > 5) & ((leading + met).pt > 10), events)


@selection
def identification(events: Events, cutflow: Cutflow) -> Any:
    jets = events.Jet[(events.Jet.id & 0b110) != 0]
    padded = ak.pad_none(jets, 2)
    subleading = ak.fill_none(padded.pt[:, 1], 0.0)
    second, charged = ak.firsts(events.Jet[:, 1:].pt), ak.count_nonzero(jets.charge, axis=1) > 0
    others = charged & (ak.fill_none(second, 0.0) > 20)
    return cutflow.cut("subleading", np.where(events.HLT.A, subleading > 10, others), events)


@pytest.mark.parametrize("name", SELECTIONS)
def test_graph_and_engine_agree(name: str) -> None:
    class Analysis(Selection):
        branches = ()
        columns = {}

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            return SELECTIONS[name](events, cutflow), {}

    check_selection(Analysis())


LENGTH, PROGRAMS = 12, 8
MOMENTUM = ("pt", "eta", "phi", "mass")


class Program(Selection):
    """Lines chosen at random from those that the next classes know."""

    branches = ()
    columns = {}

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def pick(self, things: Sequence[Any]) -> Any:
        return things[self.random.integers(len(things))]

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        self.random = np.random.default_rng(self.seed)
        self.events, self.numbers, self.flags = events, [events.MET.pt, events.PV.npvs], [events.HLT.A]
        self.lists = self.of(events)
        for number in range(LENGTH):
            if self.random.random() < 0.15:
                self.cut(f"cut {number}", cutflow)
            else:
                self.pick(self.known())(self.pick(self.lists))
        self.cut("end", cutflow)
        return self.events, {}

    def cut(self, name: str, cutflow: Cutflow) -> None:
        mask = self.pick(self.flags)
        self.events = cutflow.cut(name, mask, self.events)
        self.numbers = [each[mask] for each in self.numbers]
        self.flags = [each[mask] for each in self.flags if each is not mask] + [self.events.HLT.B]
        self.lists = [each[mask] for each in self.lists]

    def known(self) -> list[Callable[[Any], None]]:
        return [getattr(self, name) for name in sorted(dir(self)) if name.startswith("line_")]

    def of(self, events: Events) -> list[Any]:
        raise NotImplementedError

    def line_arithmetic(self, _: Any) -> None:
        function = self.pick([np.add, np.subtract, np.minimum, np.maximum, np.hypot, np.arctan2])
        self.numbers.append(function(self.pick(self.numbers) * 1.0, self.pick(self.numbers)))

    def line_function(self, _: Any) -> None:
        function = self.pick([np.sqrt, np.log1p, np.tanh, np.floor, np.sign, np.arctan, np.cos])
        self.numbers.append(function(abs(self.pick(self.numbers) * 1.0)))

    def line_choice(self, _: Any) -> None:
        self.numbers.append(ak.where(self.pick(self.flags), self.pick(self.numbers), self.pick(self.numbers)))

    def line_flag(self, _: Any) -> None:
        self.flags.append((self.pick(self.numbers) > self.pick([0, 20, 60])) | self.pick(self.flags))


class Lists(Program):
    """With awkward."""

    def of(self, events: Events) -> list[Any]:
        return [events.Jet, events.Muon]

    def field(self, objects: Any) -> Any:
        return objects[self.pick([*MOMENTUM, "charge", "id", "short"])]

    def line_keep(self, objects: Any) -> None:
        self.lists.append(objects[self.pick([objects.good, objects.pt > 20, objects.charge > 0])])

    def line_sort(self, objects: Any) -> None:
        order = ak.argsort(self.field(objects), axis=1, ascending=bool(self.random.integers(2)))
        self.lists.append(objects[order])

    def line_slice(self, objects: Any) -> None:
        self.lists.append(self.pick([objects[:, :2], objects[:, 1:], objects[:, -2:], objects[:, :-1]]))

    def line_reduce(self, objects: Any) -> None:
        values = self.field(objects)
        function = self.pick([ak.sum, ak.min, ak.max, ak.num, ak.prod])
        made = function(values * 1.0, axis=1)
        self.numbers.append(ak.fill_none(made, -1) if function in (ak.min, ak.max) else made)

    def line_any(self, objects: Any) -> None:
        function = self.pick([ak.any, ak.all])
        self.flags.append(function(self.field(objects) > self.pick([-1, 0, 20]), axis=1))

    def line_first(self, objects: Any) -> None:
        self.numbers.append(ak.fill_none(ak.firsts(self.field(objects)), -5))

    def line_best(self, objects: Any) -> None:
        function = self.pick([ak.argmin, ak.argmax])
        best = objects[function(self.field(objects), axis=1, keepdims=True)]
        self.numbers.append(ak.fill_none(ak.firsts(self.field(best)), -5))

    def line_pairs(self, objects: Any) -> None:
        one, other = ak.unzip(ak.combinations(objects, 2))
        pair = one + other
        self.numbers.append(ak.fill_none(ak.min(abs(pair.mass - 50), axis=1), 0))
        self.numbers.append(ak.sum(one.deltaR(other), axis=1))

    def line_overlap(self, objects: Any) -> None:
        one, other = ak.unzip(ak.cartesian([objects, self.pick(self.lists)], axis=1, nested=True))
        self.lists.append(objects[ak.all(one.deltaR(other) > self.pick([0.4, 1.0]), axis=2)])

    def line_join(self, objects: Any) -> None:
        self.lists.append(ak.with_name(ak.concatenate([objects, self.pick(self.lists)], axis=1)[:, :6], "Momentum4D"))

    def line_mask(self, objects: Any) -> None:
        masked = objects.mask[objects.good]
        self.numbers.append(ak.sum(ak.drop_none(masked.pt, axis=1), axis=1))

    def line_pad(self, objects: Any) -> None:
        padded = ak.pad_none(self.field(objects), 2, clip=True)
        self.numbers.append(ak.fill_none(padded[:, 1], 3))

    def line_of_event(self, objects: Any) -> None:
        self.numbers.append(ak.sum(objects.pt * self.pick(self.numbers), axis=1))

    def line_zip(self, objects: Any) -> None:
        fields = {name: objects[name] for name in (*MOMENTUM, "charge", "id", "short", "good")}
        self.lists.append(ak.zip({**fields, "pt": objects.pt * 1.5}, with_name="Momentum4D"))

    def line_of_each(self, objects: Any) -> None:
        chosen = ak.where(objects.good, self.field(objects), self.field(objects) + 1)
        self.numbers.append(ak.sum(ak.unflatten(ak.flatten(chosen) * 2, ak.num(objects)), axis=1))

    def line_numbered(self, objects: Any) -> None:
        self.lists.append(objects[ak.local_index(objects.pt, axis=1) % 2 == self.pick([0, 1])])

    def line_sorted(self, objects: Any) -> None:
        self.flags.append(ak.is_none(ak.firsts(objects.pt)))
        values = ak.sort(self.field(objects), axis=1, ascending=bool(self.random.integers(2)))
        self.numbers.append(ak.fill_none(ak.pad_none(values, 1)[:, 0], 1))

    def line_angles(self, objects: Any) -> None:
        one, other = ak.unzip(ak.combinations(objects, 2))
        self.numbers.append(ak.sum(abs(one.deltaphi(other)), axis=1))


class Columns(Program):
    """With `Flat`."""

    def of(self, events: Events) -> list[Any]:
        return [events.flat("Jet"), events.flat("Muon")]

    def field(self, objects: Any) -> Any:
        return objects[self.pick([*MOMENTUM, "charge", "id"])]

    def line_keep(self, objects: Any) -> None:
        self.lists.append(objects.keep(self.pick([objects.good, objects.pt > 20, objects.charge > 0])))

    def line_counts(self, objects: Any) -> None:
        self.numbers.append(objects.counts)
        self.flags.append(objects.counts >= 1)

    def line_place(self, objects: Any) -> None:
        self.lists.append(objects.keep(objects.place < 2))

    def line_of_event(self, objects: Any) -> None:
        self.lists.append(objects.keep(objects.pt > self.pick(self.numbers)[objects.event]))

    def line_columns(self, objects: Any) -> None:
        made = objects.with_columns(pt=objects.pt * 1.5, charge=self.pick([1, objects.charge]))
        self.lists.append(made)

    def line_pairs(self, objects: Any) -> None:
        one, other = objects.keep(objects.place < 3).pairs()
        mass = (one.p4 + other.p4).mass
        one = one.keep((mass > 20) & (one.charge + other.charge != 2))
        self.lists.append(one)

    def line_join(self, objects: Any) -> None:
        joined = Flat.joined(objects.with_columns(good=True), self.pick(self.lists))
        self.lists.append(joined.keep(joined.place < 5))

    def line_chosen(self, objects: Any) -> None:
        self.lists.append(Flat.chosen(objects.good, objects, objects.with_columns(eta=-objects.eta, id=1)))

    def line_best(self, objects: Any) -> None:
        """The best of all and one more, so that there is one in each event."""
        some = self.events.flat("Muon").keep(self.events.flat("Muon").place < 1)
        enough = some.counts + objects.counts >= 1
        all_ = Flat.joined(objects, some)[enough]
        one, two = all_.at(all_.smallest(self.field(all_))), all_.at(all_.largest(all_.pt))
        swap = two.eta > one.eta
        first, second = Flat.chosen(swap, two, one), Flat.chosen(swap, one, two)
        (first.p4 + second.p4).mass, first.p4.deltaR(second.p4), first.eta[all_.event] - all_.eta


@pytest.mark.exhaustive("each line that a selection may have, compiled")
@pytest.mark.parametrize("seed", range(PROGRAMS))
@pytest.mark.parametrize("kind", [Lists, Columns])
def test_graph_and_engine_agree_on_random_lines(kind: type[Program], seed: int) -> None:
    check_selection(kind(seed), seed)
