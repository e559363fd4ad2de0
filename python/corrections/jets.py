"""Jets: energy scale, resolution, regions to veto; and the missing momentum that follows.

The functions take the columns of `events.flat("Jet")`, one number for each jet, or ragged arrays; what belongs to the event
is given for each jet (`events.fixedGridRhoFastjetAll[jets.event]`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.era import JetCorrections, VariedCorrection
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.versions import IDENTIFIERS
from MLTools.NanoML.selection.events import Events
from MLTools.NanoML.selection.flat import Flat
from MLTools.NanoML.selection.weights import Factor

__all__ = [
    "BRANCHES",
    "FILTERS",
    "SIMULATED",
    "corrected",
    "energy_scale",
    "energy_uncertainty",
    "generated_pt",
    "hem_scale",
    "is_in_veto_region",
    "normal_numbers",
    "passes_filters",
    "propagated",
    "shifted",
    "smearing",
    "type1_momentum",
]

BRANCHES = (
    *(f"Jet_{name}" for name in ("pt", "eta", "phi", "mass", "rawFactor", "area")),
    *("MET_pt", "MET_phi", "fixedGridRhoFastjetAll", "run", "luminosityBlock", "event"),
)
"""What `corrected` reads."""
SIMULATED = ("Jet_genJetIdx", "GenJet_pt", "GenJet_eta", "GenJet_phi")
"""What `corrected` reads in simulation."""

_FILTERS = (
    *("Flag_goodVertices", "Flag_globalSuperTightHalo2016Filter", "Flag_EcalDeadCellTriggerPrimitiveFilter"),
    *("Flag_BadPFMuonFilter", "Flag_BadPFMuonDzFilter", "Flag_eeBadScFilter"),
)
FILTERS = {
    "2016": (*_FILTERS, "Flag_HBHENoiseFilter", "Flag_HBHENoiseIsoFilter"),
    "Run2": (*_FILTERS, "Flag_HBHENoiseFilter", "Flag_HBHENoiseIsoFilter", "Flag_ecalBadCalibFilter"),
    "Run3": (*_FILTERS, "Flag_hfNoisyHitsFilter", "Flag_ecalBadCalibFilter"),
}
"""Filters against false missing momentum, for data and simulation (JME group): of 2016, of 2017 and 2018, and of Run 3."""

_MOST_ETA = 5.19  # of a jet that the files of the JME group cover
_LEAST_PT = 15.0  # [GeV] of a jet that corrects the missing momentum
_MOST_EM = 0.9  # electromagnetic fraction of a jet that does


def corrected(
    events: Events, jets: JetCorrections, is_data: bool, rho: str = "fixedGridRhoFastjetAll", missing: str = "MET"
) -> Events:
    """The events with jets corrected anew, smeared in simulation, and the missing momentum that follows from it.

    It replaces Jet_pt, Jet_mass, MET_pt and MET_phi. The jets keep their order. Jets above 15 GeV, before or after, change the
    missing momentum. It reads what `BRANCHES` and, in simulation, `SIMULATED` name.

    Parameters
    ----------
    events
        The events: `def prepare(self, events): return corrected(events, self.dataset.corrections.jets, self.dataset.is_data)`.
    jets
        The entry `jets` of the era. Jets are only smeared if it has `jer`.
    is_data
        Whether they are collision data.
    rho
        The branch with rho: Rho_fixedGridRhoFastjetAll from NanoAOD v10 on.
    missing
        The missing momentum: "MET", "PuppiMET".
    """

    def values(left: Events) -> dict[str, Any]:
        scale = _raw_scale(left, jets, is_data, rho)
        is_smeared = not is_data and jets.entry.jer is not None
        factor = scale * _smearing_of(left, jets, scale, rho).nominal if is_smeared else scale
        return _scaled(left, factor, missing)

    return events.replaced(_changed(missing), values)


def shifted(
    events: Events,
    jets: JetCorrections,
    name: str,
    direction: str,
    rho: str = "fixedGridRhoFastjetAll",
    missing: str = "MET",
) -> Events:
    """The events, which `corrected` has corrected, under a shift of jets or of the missing momentum.

    Parameters
    ----------
    events
        The events: `def shift(self, events, name, direction): return shifted(events, self.dataset.corrections.jets, name, direction)`.
    jets
        The entry `jets` of the era.
    name
        "jes" for the total uncertainty of the energy scale, "jesFlavorQCD" for that of a source; "jer" for the resolution;
        "hem" for the lost endcap of 2018 (`hem_scale`, down only). "unclustered" for the energy outside jets, which changes
        nothing but the missing momentum.
    direction
        "up" or "down".
    rho, missing
        As for `corrected`.

    Raises
    ------
    NanoMLError
        There is no such shift, the file has no such source, or jets were not smeared before.
    """
    sign = {"up": 1.0, "down": -1.0}.get(direction)
    if sign is None:
        raise NanoMLError(f'the shift {name} has the direction "{direction}", but only "up" and "down" are known.')
    if name == "unclustered":
        return events.replaced(_changed(missing)[2:], lambda left: _unclustered(left, direction, sign, missing))

    def values(left: Events) -> dict[str, Any]:
        jet = left.flat("Jet")
        if name == "jer":
            before = left.before("Jet_pt")
            smeared = _smearing_of(before, jets, _raw_scale(before, jets, False, rho), rho)
            return _scaled(left, smeared[direction] / smeared.nominal, missing)
        if name == "hem":
            return _scaled(left, hem_scale(jet.eta, jet.phi)[direction], missing)
        return _scaled(left, 1 + sign * energy_uncertainty(jets, name[3:] or "Total", jet.eta, jet.pt), missing)

    if name == "jer" and events.before("Jet_pt") is events:
        raise NanoMLError("the shift jer is one of jets that were smeared: call `corrected` in `prepare`.")
    if name not in ("jer", "hem") and not name.startswith("jes"):
        raise NanoMLError(
            f'there is no shift "{name}" of jets. There are jes, jes and the name of a source as in jesFlavorQCD, jer, unclustered, hem.'
        )
    return events.replaced(_changed(missing), values)


def _changed(missing: str) -> tuple[str, ...]:
    """The branches that follow jets."""
    return "Jet_pt", "Jet_mass", f"{missing}_pt", f"{missing}_phi"


def _raw_scale(events: Events, jets: JetCorrections, is_data: bool, rho: str) -> Any:
    """What the file's momenta of jets are to be multiplied by, to have all levels of the energy correction of the era."""
    jet = events.flat("Jet")
    raw, density = 1 - jet.rawFactor, np.asarray(events[rho])[jet.event]
    run = np.asarray(events.run)[jet.event] if is_data else None
    return raw * energy_scale(jets, jet.pt * raw, jet.eta, jet.area, density, run)


def _smearing_of(events: Events, jets: JetCorrections, scale: Any, rho: str) -> Factor:
    """The smearing of jets whose momenta in the file are multiplied by `scale`."""
    jet = events.flat("Jet")
    run, section, event = (np.asarray(events[name])[jet.event] for name in IDENTIFIERS)
    normal = normal_numbers(run, section, event, jet.place)
    density = np.asarray(events[rho])[jet.event]
    return smearing(jets, jet.pt * scale, jet.eta, density, generated_pt(events, jet), normal)


def _scaled(events: Events, factor: Any, missing: str) -> dict[str, Any]:
    """Jets multiplied by a factor each, and the missing momentum that follows."""
    jet = events.flat("Jet")
    pt = jet.pt * factor
    counts = np.maximum(jet.pt, pt) > _LEAST_PT
    old_pt, old_phi = events[f"{missing}_pt"], events[f"{missing}_phi"]
    new_pt, new_phi = propagated(old_pt, old_phi, jet, np.where(counts, jet.pt, 0), np.where(counts, pt, 0))
    return dict(zip(_changed(missing), (pt, jet.mass * factor, new_pt, new_phi)))


def _unclustered(events: Events, direction: str, sign: float, missing: str) -> dict[str, Any]:
    """The missing momentum when the energy outside jets is shifted."""
    pt, phi = np.asarray(events[f"{missing}_pt"]), np.asarray(events[f"{missing}_phi"])
    if f"{missing}_MetUnclustEnUpDeltaX" in events.names:  # NanoAOD v9
        change = [sign * np.asarray(events[f"{missing}_MetUnclustEnUpDelta{axis}"]) for axis in "XY"]
    else:
        names = [f"{missing}_{quantity}Unclustered{direction.capitalize()}" for quantity in ("pt", "phi")]
        before = events.before(f"{missing}_pt")
        there = np.asarray(events[names[0]]) * np.exp(1j * np.asarray(events[names[1]]))
        here = np.asarray(before[f"{missing}_pt"]) * np.exp(1j * np.asarray(before[f"{missing}_phi"]))
        change = [(there - here).real, (there - here).imag]
    px, py = pt * np.cos(phi) + change[0], pt * np.sin(phi) + change[1]
    return {f"{missing}_pt": np.hypot(px, py), f"{missing}_phi": np.arctan2(py, px)}


def generated_pt(events: Events, jet: Flat, distance: float = 0.2) -> NDArray[np.float64]:
    """The transverse momentum [GeV] of the generated jet of each jet; 0 without one within `distance` in eta and phi."""
    generated = events.flat("GenJet")
    index = np.asarray(jet.genJetIdx)
    is_known = (index >= 0) & (index < generated.counts[jet.event])
    if not is_known.any():
        return np.zeros(len(index))
    begin = np.cumsum(generated.counts) - generated.counts
    place = np.where(is_known, begin[jet.event] + index, 0)
    across = np.mod(jet.phi - generated.phi[place] + np.pi, 2 * np.pi) - np.pi
    near = np.hypot(jet.eta - generated.eta[place], across) < distance
    return np.where(is_known & near, generated.pt[place], 0.0)


def energy_scale(
    jets: JetCorrections, raw_pt: Any, eta: Any, area: Any, rho: Any, run: Any = None, level: str = "all"
) -> Any:
    """What the raw transverse momentum of each jet is to be multiplied by, and the raw mass as well.

    Parameters
    ----------
    jets
        The entry `jets` of the era.
    raw_pt
        Transverse momentum before corrections [GeV]: `Jet_pt * (1 - Jet_rawFactor)`.
    eta, area
        Pseudorapidity and area of each jet.
    rho
        fixedGridRhoFastjetAll (Rho_fixedGridRhoFastjetAll from NanoAOD v10 on), for each jet.
    run
        The run of each jet, in data; None in simulation.
    level
        "all", or "L1" for the correction for pile-up alone.
    """

    def correction(number: int | None) -> Any:
        is_data = number is not None
        return jets.scale(is_data, number) if level == "all" else jets.pileup_level(is_data, number)

    inputs = {"JetA": area, "JetEta": _clipped(eta), "JetPt": raw_pt, "Rho": rho}
    if run is None:
        return correction(None)(**inputs)
    total, is_covered = 1.0, run < 0
    for first, last in jets.data_ranges():
        mask = (run >= first) & (run <= last)
        total, is_covered = total * correction(first)(**inputs, where=mask), is_covered | mask
    if not np.all(ak.to_numpy(ak.flatten(is_covered, axis=None))):
        lost = int(ak.min(run[~is_covered], axis=None))
        jets.scale(True, lost)  # says which runs it has
    return total


def energy_uncertainty(jets: JetCorrections, source: str, eta: Any, pt: Any) -> Any:
    """The relative uncertainty of each jet's energy from one source, or "Total".

    Parameters
    ----------
    jets
        The entry `jets` of the era.
    source
        As "FlavorQCD".
    eta, pt
        Pseudorapidity and corrected transverse momentum [GeV] of each jet.
    """
    return jets.uncertainty(source)(JetEta=_clipped(eta), JetPt=pt)


def smearing(jets: JetCorrections, pt: Any, eta: Any, rho: Any, generated_pt: Any, normal: Any) -> Factor:
    """What the corrected energy of each jet in simulation is to be multiplied by for the resolution of data (hybrid method).

    A jet with a generated jet has 1 + (s - 1) (pt - pt_gen) / pt, any other one 1 + N sigma sqrt(max(s^2 - 1, 0)), with the
    ratio s of the resolutions, the relative resolution sigma and a normal number N. A generated jet counts if
    |pt - pt_gen| < 3 sigma pt. No jet gets less than a hundredth of its energy. The variations are up and down.

    Parameters
    ----------
    jets
        The entry `jets` of the era.
    pt, eta, rho
        Corrected transverse momentum [GeV], pseudorapidity, and rho, for each jet.
    generated_pt
        Transverse momentum [GeV] of the generated jet within half the radius; 0 without one.
    normal
        A normal number for each jet, of `normal_numbers`.
    """
    sigma = jets.resolution(JetEta=_clipped(eta), JetPt=pt, Rho=rho)
    is_matched = (generated_pt > 0) & (abs(pt - generated_pt) < 3 * sigma * pt)
    inputs = {"JetEta": _clipped(eta)}
    if "JetPt" in jets.resolution_ratio.inputs:
        inputs["JetPt"] = pt
    choose = ak.where if isinstance(pt, ak.Array) else np.where

    def factor(key: str) -> Any:
        ratio = jets.resolution_ratio(**inputs, systematic=key)
        scaled = 1 + (ratio - 1) * (pt - generated_pt) / pt
        wider = ratio**2 - 1
        drawn = 1 + normal * sigma * np.sqrt(choose(wider > 0, wider, 0.0))
        made = choose(is_matched, scaled, drawn)
        return choose(made < 0.01, 0.01, made)

    return Factor(factor("nom"), {"up": factor("up"), "down": factor("down")})


def normal_numbers(run: Any, luminosity_section: Any, event: Any, index: Any) -> NDArray[np.float64]:
    """A number from the normal distribution for each jet, which depends on nothing but these numbers.

    So it is the same in all engines, for the nominal jets and for every shift of them, and another for each jet. The bits are
    mixed as in SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), and become normal by the method of Box and Muller.

    Parameters
    ----------
    run, luminosity_section, event
        Identifiers of the event, for each jet.
    index
        Place of the jet in the event of the original file, from 0.
    """
    with np.errstate(over="ignore"):  # arithmetic of unsigned numbers modulo 2^64 is what is meant
        state: NDArray[np.uint64] = np.zeros(np.shape(index), np.uint64)
        for number in (run, luminosity_section, event, index):
            state = _mixed(np.bitwise_xor(state, np.asarray(number).astype(np.uint64)))
        one, other = _mixed(state), _mixed(np.bitwise_xor(state, np.uint64(0x5851F42D4C957F2D)))
    # 53 bits each; the first is never 0
    radius = np.sqrt(-2 * np.log(((one >> np.uint64(11)) + np.uint64(1)) * 2.0**-53))
    return np.asarray(radius * np.cos(2 * np.pi * (other >> np.uint64(11)) * 2.0**-53))


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def is_in_veto_region(correction: VariedCorrection, eta: Any, phi: Any) -> Any:
    """Whether a jet is in a region that the JME group vetoes, as a mask of the shape of `eta`.

    Parameters
    ----------
    correction
        The entry of the file of veto maps, with its `type`.
    eta, phi
        Direction of each jet.
    """
    return correction.value(eta=_clipped(eta), phi=_clipped(phi, 3.1415)) != 0


def passes_filters(events: Events, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether events pass all filters against false missing momentum, as the JME group asks; a mask for `cutflow.cut`.

    Parameters
    ----------
    events
        The events, with the branches of these names.
    names
        `FILTERS["Run2"]` or `FILTERS["Run3"]`, or those of your own.
    """
    return np.asarray(np.all([np.asarray(events[name], bool) for name in names], axis=0))


def hem_scale(eta: Any, phi: Any) -> Factor:
    """The energy scale of jets in the region without hadronic endcap from run 319077 of 2018 on (JME group).

    The down variation lowers the energy by 20 % for -2.5 < eta < -1.3 and by 35 % for -3 < eta < -2.5, both for
    -1.57 < phi < -0.87.
    """
    inside = (phi > -1.57) & (phi < -0.87)
    lost = 0.2 * (inside & (eta > -2.5) & (eta < -1.3)) + 0.35 * (inside & (eta > -3.0) & (eta <= -2.5))
    return Factor(0.0 * lost + 1.0, {"down": 1.0 - lost})


def propagated(
    missing_pt: Any, missing_phi: Any, jets: Flat, old_pt: Any, new_pt: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum, pt [GeV] and phi, when the transverse momenta of objects change.

    Parameters
    ----------
    missing_pt, missing_phi
        The missing momentum of each event [GeV].
    jets
        The objects, with `phi`.
    old_pt, new_pt
        Transverse momentum of each object before and after [GeV].
    """
    change = np.asarray(new_pt) - np.asarray(old_pt)
    px = np.asarray(missing_pt) * np.cos(missing_phi) - _sums(jets, change * np.cos(jets.phi))
    py = np.asarray(missing_pt) * np.sin(missing_phi) - _sums(jets, change * np.sin(jets.phi))
    return np.hypot(px, py), np.arctan2(py, px)


def type1_momentum(
    raw_pt: Any,
    raw_phi: Any,
    jets: Flat,
    raw_jet_pt: Any,
    muon_fraction: Any,
    em_fraction: Any,
    scale: Any,
    level1: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum with type-1 corrections, pt [GeV] and phi, from the raw one (JME group).

    Jets count without their muons, where they then have more than 15 GeV, and an electromagnetic fraction below 0.9; each
    replaces its momentum with the correction for pile-up alone by that with all corrections.

    Parameters
    ----------
    raw_pt, raw_phi
        RawMET of each event [GeV].
    jets
        Jet, or CorrT1METJet, with `phi`; the result of the one is the start for the other.
    raw_jet_pt
        Transverse momentum before corrections [GeV].
    muon_fraction
        muonSubtrFactor.
    em_fraction
        neEmEF + chEmEF; 0 for CorrT1METJet.
    scale, level1
        The factors of all corrections, with shifts and smearing, and of the first level alone, of `energy_scale`.
    """
    without_muons = np.asarray(raw_jet_pt) * (1 - np.asarray(muon_fraction))
    counts = (without_muons * scale > _LEAST_PT) & (np.asarray(em_fraction) < _MOST_EM)
    return propagated(
        raw_pt, raw_phi, jets, np.where(counts, without_muons * level1, 0), np.where(counts, without_muons * scale, 0)
    )


def _sums(jets: Flat, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(jets.event, values, len(jets))


def _clipped(values: Any, most: float = _MOST_ETA) -> Any:
    """Values from -most to most."""
    if isinstance(values, ak.Array):
        return ak.where(abs(values) > most, np.sign(values) * most, values)
    return np.clip(values, -most, most)
