"""Lines of selections that can be compiled: of `jets`, `muons`, `met`, `events`, pairs `a`, `b` of jets, and `flat` muons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.extensions.compiled.tracing.mathematics import UFUNCS
from MLTools.NanoML.selection import Events, away_from

REDUCTIONS = [
    *(
        f"ak.{name}(jets.{field}, axis={axis})"
        for name in ("sum", "prod", "min", "max", "any", "all", "count", "argmin", "argmax", "mean")
        for field, axis in (("pt", 1), ("score", -1), ("charge", 1), ("good", 1), ("id", 1))
        if (name, field) not in (("sum", "score"), ("prod", "score"), ("mean", "score"), ("prod", "id"))
    ),
    *(f"ak.{name}(jets.pt, axis=1, keepdims=True)" for name in ("sum", "min", "any", "argmax")),
    *(f"ak.{name}(jets.score, axis=1, mask_identity=False)" for name in ("min", "max")),
    *(f"ak.{name}(jets.{field}, axis=1)" for name in ("std", "var") for field in ("pt", "charge", "good", "id")),
    *(f"ak.{name}(jets.score, axis=1)" for name in ("std", "count_nonzero")),
    *("ak.std(jets.pt[jets.good], axis=1, ddof=1, keepdims=True)", "np.var(ak.mask(jets.pt, jets.pt > 20), axis=1)"),
    *("ak.fill_none(ak.mean(jets.short, axis=1, mask_identity=True), -1)", "ak.count_nonzero(jets.id, axis=1)"),
    "ak.prod(muons.pt, axis=1)",
    *(f"ak.fill_none(ak.{name}(jets.short, axis=1), 7)" for name in ("min", "argmax")),
    *(f"ak.{name}(jets.pt[:, :, np.newaxis] - muons.pt[:, np.newaxis], axis=2)" for name in ("sum", "min", "argmin")),
    *("ak.num(jets)", "ak.num(jets.pt, axis=1)", "ak.local_index(jets.pt, axis=1)"),
    *("ak.local_index(jets.pt[jets.good])", "ak.argsort(jets.pt, axis=1)"),
    *("ak.argsort(jets.pt, axis=1, ascending=False)", "ak.sort(jets.pt, axis=1)", "ak.argsort(jets.score, axis=1)"),
    *("ak.sort(jets.score, axis=1, ascending=False)", "ak.sort(jets.charge, axis=-1, ascending=False)"),
    *("ak.sort(jets.pt[jets.good], ascending=False)", "ak.min([met.pt, met.phi], axis=0)"),
    "ak.max([events.PV.npvs, met.phi, met.pt], axis=0)",
    "ak.max([ak.fill_none(ak.firsts(jets.score), np.nan), ak.fill_none(ak.firsts(muons.score), np.nan)], axis=0)",
    "ak.min([ak.fill_none(ak.firsts(jets.score), np.nan), ak.fill_none(ak.firsts(muons.score), np.nan)], axis=0)",
    *("ak.sum([events.HLT.A, events.HLT.B, met.pt > 1], axis=0)", "ak.any([events.HLT.A, events.HLT.B], axis=0)"),
    *("ak.all([events.HLT.A, events.HLT.B], axis=0)", "ak.prod([met.pt, met.phi], axis=0)"),
]

NESTED = "ak.cartesian([jets, muons[muons.good]], nested=True)['1']"
"""For each jet all good muons."""

DISTANCE = f"jets[:, :, np.newaxis].deltaR({NESTED})"
"""From each jet to all good muons."""

OF_NESTED = [
    f"ak.firsts({NESTED}[ak.argmin({DISTANCE}, axis=2, keepdims=True)], axis=2).pt",
    *(f"ak.firsts({DISTANCE}, axis=2)", f"ak.sort({DISTANCE}, axis=2)"),
    f"{DISTANCE}[ak.argmax({NESTED}.score, axis=2, keepdims=True)]",
    f"ak.argmin({DISTANCE} / {NESTED}.score, axis=2)",
    *(f"ak.sum({NESTED}.pt, axis=2)[:, 1:] - ak.num({NESTED}, axis=2)[:, 1:]", f"ak.count({NESTED}.pt, axis=2)[:, 1:]"),
    f"ak.pad_none({NESTED}.pt, 1, axis=2)[:, :, 0]",
    f"ak.concatenate([{NESTED}.pt, jets.pt[:, :, np.newaxis]], axis=2)",
]

FORMS = [
    *("ak.concatenate([jets.pt, muons.pt], axis=1)", "ak.concatenate([jets.charge, muons.pt, jets.good], axis=1)"),
    "ak.concatenate([jets, muons[muons.good]], axis=1).eta",
    "ak.concatenate([jets.pt[jets.good], ak.zeros_like(muons.pt)], axis=1)",
    *("ak.concatenate([jets.good, ak.ones_like(muons.good)], axis=1)", "ak.combinations(jets.pt, 2)['0']"),
    *("ak.unzip(ak.combinations(jets.pt, 3))[2]", "ak.combinations(muons[muons.good], 2, fields=['a', 'b']).b.pt"),
    *("ak.combinations(jets.pt[:, :1], 2)['0']", "ak.max(ak.combinations(muons.pt, 3)['1'], axis=1)"),
    *("ak.argcombinations(jets, 2)['1']", "ak.unzip(ak.cartesian([jets.pt, muons.eta]))"),
    "ak.cartesian({'a': jets, 'b': muons[muons.good]}, axis=1).b.phi",
    "ak.cartesian([jets.pt, muons.eta], nested=True)['1']",
    *("ak.unzip(ak.argcartesian([jets.pt[jets.good], muons.eta]))", "ak.zip({'pt': jets.pt, 'w': met.pt}).w"),
    *("ak.zip({'pt': jets.pt, 'one': 1})['one']", "ak.unzip(ak.zip([jets.pt, jets.eta]))"),
    *("ak.where(jets.good, jets.pt, jets.eta)", "ak.where(jets.good, jets.charge, -1.5)"),
    *("ak.where(events.HLT.A, met.pt, 0)", "np.where(events.HLT.A, events.HLT.B, True)"),
    *("ak.where(jets.good, jets.mask[jets.pt > 20].pt, jets.eta)", "ak.where(events.HLT.A, jets.pt, jets.eta)"),
    *("ak.firsts(jets.pt)", "ak.firsts(jets).eta", "ak.firsts(jets.pt[jets.good])"),
    *("ak.singletons(ak.firsts(jets.pt))", "ak.is_none(ak.firsts(jets.pt))"),
    *("ak.is_none(jets.mask[jets.good].pt, axis=1)", "ak.fill_none(ak.firsts(jets.pt), -1)"),
    *("ak.fill_none(ak.firsts(jets).eta, 0)", "ak.drop_none(jets.mask[jets.good].pt, axis=1)"),
    *("ak.pad_none(jets.pt, 2)", "ak.fill_none(ak.pad_none(jets.pt, 6), 0)"),
    *("ak.fill_none(ak.pad_none(jets.pt[jets.good], 2, clip=True), 0)[:, 1]", "ak.mask(jets.pt, jets.good)"),
    *("ak.mask(jets.pt, jets.good, valid_when=False)", "ak.mask(met.pt, events.HLT.A)"),
    *("ak.sum(ak.mask(jets.pt, jets.good), axis=1)", "jets[ak.argmax(jets.pt, axis=1, keepdims=True)].eta"),
    *("jets.phi[ak.argmin(jets.score, axis=1, keepdims=True)]", "jets[ak.argsort(jets.eta)].pt"),
    "jets[ak.argsort(jets.pt, ascending=False)][:, :2].charge",
    *("jets[ak.argsort(jets.pt[jets.good], ascending=False)].pt", "jets.pt[ak.local_index(jets.pt) % 2 == 0]"),
    *("jets.pt[ak.local_index(jets.pt[jets.good])]", "jets[jets.good][:, 1:].pt", "jets[jets.good][:, -2:].pt"),
    *("jets.pt[:, :-1]", "jets.pt[:, 1:3]", "jets.pt[..., :1]", "ak.pad_none(jets.pt, 1)[:, -1]"),
    *("ak.with_field(jets, jets.pt * 2, 'double').double", "ak.with_name(jets, 'Momentum4D').pt"),
    *("ak.flatten(jets.pt)", "ak.unflatten(ak.flatten(jets.pt) * 2, ak.num(jets))", "ak.ravel(jets.pt)"),
    *("ak.values_astype(jets.pt, np.float32)", "ak.values_astype(jets.pt, int)"),
    *("ak.values_astype(jets.good, 'int64') * 2", "ak.values_astype(jets.short, np.uint8)"),
    *("ak.values_astype(jets, np.float64).charge", "ak.zeros_like(jets.pt)", "ak.ones_like(jets.charge) + 1"),
    *("ak.full_like(jets.pt, 3.5)", "ak.isclose(jets.pt, 20, rtol=0.1)", "ak.to_packed(jets.pt)", "ak.copy(jets.pt)"),
    "ak.to_numpy(met.pt) * 2",
]

OTHERS = [
    *("events.once(lambda events: events.MET.pt * 2, ['MET_pt'])", "np.clip(met.pt, 0.5, 1)"),
    *("np.clip(met.phi, None, 2)", "np.round(jets.pt)", "ak.round(jets.eta, 2)"),
    *("np.around(met.phi - 1.5, decimals=1)", "np.round(jets.score, 1)", "np.round(jets.short, -1)"),
    *("np.round(jets.charge, 2)", "away_from(jets[jets.good], muons, flat.keep(flat.good), distance=0.8)"),
    *("away_from(ak.zip({'eta': jets.score, 'phi': jets.phi}), muons[muons.good])", "away_from(muons)"),
    *("np.isin(events.PV.npvs, [1, 5, 40, 41, 42])", "np.digitize(ak.to_numpy(met.pt), [1, 2])"),
    *("np.digitize(np.log(ak.to_numpy(met.pt) - 1), [-2, 0])", "np.digitize(ak.to_numpy(met.pt), [1, 2], right=True)"),
    *("np.sum(jets.pt, axis=1)", "np.any(jets.good, axis=-1)", "np.concatenate([jets.pt, muons.pt], axis=1)"),
    *("np.zeros_like(met.pt)", "np.isclose(met.pt, 1, atol=0.5)", "np.asarray(met.pt) > 1"),
    *("np.maximum(np.asarray(met.pt), np.asarray(met.phi))", "np.asarray(met.pt).astype(np.float32)"),
    *("jets.short + 32700", "jets.short * jets.short", "jets.id + jets.id", "jets.id - 200", "-jets.id", "~jets.id"),
    *("jets.id & 0b101", "(jets.id >> 2) & 3", "jets.id | 0b1010", "6 ^ jets.short", "jets.short >> 3"),
    *("jets.charge << 3", "jets.charge % 3", "jets.short // 7", "jets.short % ak.values_astype(jets.pt > 20, int)"),
    *("jets.charge ** 2", "jets.pt ** 2", "jets.pt ** 0.5", "jets.pt ** -1", "2.0 ** jets.charge"),
    *("jets.good & ~jets.good | (jets.pt > 20) ^ jets.good", "jets.good + jets.good", "jets.good * jets.pt"),
    *("abs(jets.eta) < 1", "met.pt - jets.pt", "1 / jets.charge", "jets.pt[jets.good] + jets.eta[jets.good]"),
    "ak.pad_none(jets.pt, 1)[:, :1] + ak.pad_none(muons.pt, 1)[:, :1]",
    "jets.short // ak.values_astype(jets.pt > 20, int)",
]

COORDINATES = (
    "pt phi eta mass px py pz E energy p p2 pt2 mass2 theta costheta rapidity Et Mt beta gamma x y z t tau rho m et mt"
)
METHODS = ("deltaphi", "deltaeta", "deltaR", "deltaR2", "dot")
VECTORS = [
    *(f"jets.{name}" for name in (*COORDINATES.split(), "pseudorapidity")),
    *(f"(a + b).{name}" for name in ("pt", "phi", "eta", "mass", "energy", "rapidity", "theta")),
    *(f"a.{name}(b)" for name in METHODS),
    *("(a - b).px", "(a.add(b)).mass", "(a.subtract(b)).E", "(2 * jets).pt", "(jets / 2).mass", "(-jets).pz"),
    *("(-jets).mass", "(jets * -2).E", "((a + b) * -2).mass", "((a - b) + a).mass", "(a - b).mass", "abs(jets)"),
    "ak.zip({'pt': jets.pt, 'phi': jets.phi}, with_name='Momentum2D').px",
    "ak.zip({'pt': jets.pt, 'phi': jets.phi}, with_name='Momentum2D').deltaphi(jets)",
    "ak.zip({'px': jets.pt, 'py': jets.eta, 'pz': jets.phi, 'E': jets.pt * 9}, with_name='Momentum4D').mass",
    "ak.zip({'px': jets.pt, 'py': jets.eta, 'pz': jets.phi, 'E': jets.pt * 9}, with_name='Momentum4D').eta",
    "ak.zip({'pt': jets.pt, 'eta': jets.eta, 'phi': jets.phi, 'energy': jets.pt * 9}, with_name='Momentum4D').mass",
    "flat.p4.deltaphi(flat.p4)",
]

_OF_BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "right_shift", "left_shift", "invert")
UFUNC_LINES = [
    f"np.{name}({'jets.pt, ' * (getattr(np, name).nin - 1)}jets.eta)" for name in UFUNCS if name not in _OF_BITS
]
"""numpy's functions of numbers."""

LINES = {"reductions": REDUCTIONS, "forms": FORMS, "nested": OF_NESTED, "others": OTHERS, "vectors": VECTORS}
"""Those that are compared with the engine, in groups that are compiled together."""


def results_of(lines: Iterable[str]) -> Callable[[Events], dict[str, Any]]:
    codes = {line: compile(line, line, "eval") for line in lines}

    def function(events: Events) -> dict[str, Any]:
        a, b = ak.unzip(ak.combinations(events.Jet, 2))
        names = {"jets": events.Jet, "muons": events.Muon, "met": events.MET, "flat": events.flat("Muon")}
        known = {"ak": ak, "np": np, "away_from": away_from, "events": events, **names, "a": a, "b": b}
        return {line: eval(code, known) for line, code in codes.items()}

    return function
