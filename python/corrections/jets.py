"""Jets: energy scale, resolution, regions to veto.

`corrected` and `shifted` change events. The functions below them take the columns of `events.flat("Jet")`, one number for each
jet, or ragged arrays; what belongs to the event is given for each jet (`events.fixedGridRhoFastjetAll[jets.event]`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import JetCorrections, VariedCorrection
from MLTools.NanoML.corrections.inputs import FAT_JET, JET, clipped, normal_of
from MLTools.NanoML.corrections.missing_momentum import (
    Type1Jets,
    as_read,
    components,
    polar,
    unclustered,
    unclustered_branches,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Numbers

__all__ = [
    "OPTIONAL",
    "SIMPLIFIED",
    "SIMULATED",
    "branches",
    "corrected",
    "energy_scale",
    "energy_uncertainty",
    "generated_pt",
    "hem_scale",
    "is_in_veto_region",
    "shifted",
    "smearing",
]

SIMULATED = ("Jet_genJetIdx", "GenJet_pt", "GenJet_eta", "GenJet_phi")
"""The branches that `corrected` reads in simulation."""

OPTIONAL = {"Jet_muonSubtrDeltaPhi": 0.0, "CorrT1METJet_muonSubtrDeltaPhi": 0.0, "CorrT1METJet_EmEF": 0.0}
"""The branches that `corrected` also reads from NanoAOD v15 on, for `optional` of a selection."""

_RHO, _LOW = "fixedGridRhoFastjetAll", "CorrT1METJet"
_QUANTITIES = ("pt", "eta", "phi", "mass", "rawFactor", "area", "muonSubtrFactor", "neEmEF", "chEmEF")
_JET = tuple(f"Jet_{name}" for name in _QUANTITIES)
_SOFT = tuple(f"{_LOW}_{name}" for name in ("rawPt", "eta", "phi", "area", "muonSubtrFactor"))
_EVENT = (_RHO, "run", "luminosityBlock", "event")
SIMPLIFIED = {**OPTIONAL, "Jet_muonSubtrFactor": 0.0, "Jet_chEmEF": 0.0, **{name: [] for name in _SOFT}}
"""The same for files that lack more than NanoAOD since v5, as the sample data of the manual: where it lacks them, jets keep their
muons, and soft ones do not count."""
_COLLECTIONS = {"Jet": ("GenJet", 0.2, JET), "FatJet": ("GenJetAK8", 0.4, FAT_JET)}
"""For each collection: its generated jets, half the radius of its jets, and the salt of the random numbers."""
_MOST_PHI = 3.1415  # of a jet that the files of the JME group cover


def branches(missing_momentum: str = "MET", with_unclustered: bool = False) -> tuple[str, ...]:
    """The branches that `corrected` and `shifted` read, for `branches` of a selection.

    Parameters
    ----------
    missing_momentum
        The missing momentum that follows from the jets, as the entry `jets` of the era names it: "MET", or "PuppiMET" in Run 3.
    with_unclustered
        Whether there is a shift "unclustered".

    Examples
    --------
    >>> [name for name in branches("PuppiMET") if "PuppiMET" in name]
    ['PuppiMET_pt', 'PuppiMET_phi', 'RawPuppiMET_pt', 'RawPuppiMET_phi']
    """
    more = unclustered_branches(missing_momentum) if with_unclustered else ()
    of_event = (f"{start}{missing_momentum}_{name}" for start in ("", "Raw") for name in ("pt", "phi"))
    return (*_JET, *_SOFT, *of_event, *_EVENT, *more)


def corrected(events: Events, jets: JetCorrections, is_data: bool) -> Events:
    """The events with jets corrected again, smeared in simulation, and the missing momentum that follows from it.

    It replaces Jet_pt, Jet_mass, and pt and phi of the missing momentum that the entry names: MET or PuppiMET. The jets keep
    their order. The missing momentum is the raw one with type-1 corrections (JME group): jets count without their muons, if they
    then have more than 15 GeV and an electromagnetic fraction below 0.9, and so do those that are too soft for Jet, which are not
    smeared. It reads what `branches` and, in simulation, `SIMULATED` name, and what there is of `OPTIONAL`.

    Parameters
    ----------
    events
        The events: `def prepare(self, events): return corrected(events, self.dataset.corrections.jets, self.dataset.is_data)`.
    jets
        The entry `jets` of the era. Jets are only smeared if it has `jer`.
    is_data
        Whether they are collision data.
    """
    return _scaled(events, jets, lambda left: total_factor(left, jets, is_data), lambda left: 1.0, is_data)


def shifted(events: Events, jets: JetCorrections, name: str, direction: str) -> Events:
    """The events, which `corrected` has corrected, under a shift of jets or of the missing momentum.

    Parameters
    ----------
    events
        The events: `def shift(self, events, name, direction): return shifted(events, self.dataset.corrections.jets, name, direction)`.
    jets
        The entry `jets` of the era.
    name
        "jes" for the total uncertainty of the energy scale, "jesFlavorQCD" for that of a source; "jer" for the resolution;
        "hem" for the lost endcap of 2018 (`hem_scale`, down only); "jer_NAME" for jets in a region of the entry alone;
        "unclustered" for the energy outside jets, which changes nothing but the missing momentum.
    direction
        "up" or "down".

    Raises
    ------
    NanoMLError
        There is no such shift, the file has no such source, or jets were not smeared before.
    """
    sign = {"up": 1.0, "down": -1.0}.get(direction)
    if sign is None:
        raise NanoMLError(f'the shift {name} has the direction "{direction}", but only "up" and "down" are known.')
    if name == "unclustered":
        missing = jets.entry.missing_momentum
        names = f"{missing}_pt", f"{missing}_phi"
        _check_read(events, unclustered_branches(missing), f'"{missing}", with_unclustered=True')
        return events.replaced(names, lambda left: dict(zip(names, unclustered(left, direction, missing))))

    region = next((each for each in jets.entry.regions if name.endswith(f"_{each}")), "")
    name = name[: -len(region) - 1] if region else name  # a source may have an underscore, too, as Absolute_2018
    source = name[3:] or "Total"

    def factor(left: Events) -> Numbers:
        if name == "jer":
            smeared = left.once(smearing_before, (*_JET, *_EVENT, *SIMULATED), jets)
            return smeared[direction] / smeared.nominal
        if name == "hem":
            jet = left.flat("Jet")
            return hem_scale(jet.eta, jet.phi)[direction]
        return 1 + sign * left.once(_uncertainty_of, ("Jet_pt", "Jet_eta"), jets, source)

    def of_soft(left: Events) -> Numbers:
        if name == "hem":
            return hem_scale(left.flat(_LOW).eta, left.flat(_LOW).phi)[direction]
        return 1.0 if name == "jer" else 1 + sign * left.once(_soft_uncertainty_of, _SOFT, jets, source)

    if name == "jer" and events.before("Jet_pt") is events:
        raise NanoMLError("the shift jer is one of jets that were smeared: call `corrected` in `prepare`.")
    if name not in ("jer", "hem") and not name.startswith("jes"):
        raise NanoMLError(
            f'there is no shift "{name}" of jets. Known are jes, jesSOURCE as in jesFlavorQCD, jer, unclustered and hem.'
        )
    of_jets, of_others = jets.within(region, factor, "Jet"), jets.within(region, of_soft, _LOW)
    return _scaled(events, jets, of_jets, of_others, is_data=False)


def _check_read(events: Events, names: Sequence[str], how: str) -> None:
    lost = [name for name in names if name not in events.names]
    if lost:
        raise NanoMLError(f"{', '.join(lost)}: not read. Add `*jets.branches({how})` to `branches` of the selection.")


def total_factor(events: Events, jets: JetCorrections, is_data: bool, collection: str = "Jet") -> Numbers:
    """The factor for the file's momenta of jets, to have all levels of the energy correction of the era, and be smeared in simulation."""
    scale = _raw_scale(events, jets, is_data, collection)
    if is_data or jets.entry.jer is None:
        return scale
    return scale * _smearing_of(events, jets, scale, collection, is_varied=False).nominal


def _raw_scale(events: Events, jets: JetCorrections, is_data: bool, collection: str) -> Numbers:
    """The same without smearing."""
    jet = events.flat(collection)
    raw = 1 - jet.rawFactor
    return raw * _scale_of(events, jets, jet, jet.pt * raw, is_data)


def _scale_of(
    events: Events, jets: JetCorrections, jet: Flat, raw_pt: Numbers, is_data: bool, level: str = "all"
) -> Numbers:
    """The `energy_scale` of Jet or CorrT1METJet."""
    rho = np.asarray(events[_RHO])[jet.event]
    run = np.asarray(events.run)[jet.event] if is_data else None
    return energy_scale(jets, raw_pt, jet.eta, jet.area, rho, run, jet.phi, level)


def _smearing_of(
    events: Events, jets: JetCorrections, scale: Numbers, collection: str, is_varied: bool = True
) -> Factor:
    """The smearing of jets whose momenta in the file are multiplied by `scale`."""
    jet, (generated, distance, salt) = events.flat(collection), _COLLECTIONS[collection]
    normal = normal_of(events, jet, salt)
    rho = np.asarray(events[_RHO])[jet.event]
    truth = generated_pt(events, jet, distance, generated)
    return smearing(jets, jet.pt * scale, jet.eta, rho, truth, normal, is_varied)


def smearing_before(events: Events, jets: JetCorrections, collection: str = "Jet") -> Factor:
    """The smearing of jets that are smeared already."""
    before = events.before(f"{collection}_pt")
    return _smearing_of(before, jets, _raw_scale(before, jets, False, collection), collection)


def _uncertainty_of(events: Events, jets: JetCorrections, source: str) -> Numbers:
    """The relative uncertainty of each jet's energy."""
    jet = events.flat("Jet")
    return energy_uncertainty(jets, source, jet.eta, jet.pt)


def _soft_uncertainty_of(events: Events, jets: JetCorrections, source: str) -> Numbers:
    """The same of the jets that are too soft for Jet."""
    soft, scale = events.flat(_LOW), events.once(_type1_of, _TYPE1, jets, False).soft_scale
    return energy_uncertainty(jets, source, soft.eta, soft.rawPt * scale)


@dataclass(frozen=True)
class _Type1:
    """All that corrects the missing momentum, but for the factors of Jet."""

    jets: Type1Jets
    raw_pt: NDArray[np.float64]  # of Jet, with muons
    soft: Type1Jets  # jets that are too soft for Jet
    soft_scale: Numbers  # all levels of their energy correction
    missing: tuple[NDArray[np.float64], NDArray[np.float64]]  # components of the raw missing momentum


_TYPE1 = tuple(name for name in (*_JET, *_SOFT) if name not in ("Jet_pt", "Jet_mass"))  # pt in the file is taken


def _type1_of(events: Events, jets: JetCorrections, is_data: bool) -> _Type1:
    read = as_read(events, "Jet_pt")
    jet, soft, raw = read.flat("Jet"), read.flat(_LOW), f"Raw{jets.entry.missing_momentum}"
    made = []
    for each, raw_pt, em in (
        (jet, jet.pt * (1 - jet.rawFactor), jet.neEmEF + jet.chEmEF),
        (soft, soft.rawPt, soft.EmEF if "EmEF" in soft.columns else 0.0),
    ):
        level1 = _scale_of(read, jets, each, raw_pt, is_data, "L1")
        made += [Type1Jets.of(each, raw_pt, em, level1), raw_pt]
    scale = _scale_of(read, jets, soft, soft.rawPt, is_data)
    return _Type1(made[0], made[1], made[2], scale, components(read[f"{raw}_pt"], read[f"{raw}_phi"]))


def _scaled(
    events: Events, jets: JetCorrections, factor: Callable[[Events], Numbers], of_soft: Callable[[Events], Numbers], is_data: bool
) -> Events:  # fmt: skip
    """The events with jets multiplied by a factor each, also those that are too soft for Jet, and the missing momentum."""
    kind = jets.entry.missing_momentum
    missing = f"{kind}_pt", f"{kind}_phi"
    _check_read(events, branches(kind), f'"{kind}"')

    def scaled(left: Events) -> dict[str, Numbers]:
        jet, by = left.flat("Jet"), factor(left)
        return {"Jet_pt": jet.pt * by, "Jet_mass": jet.mass * by}

    def followed(left: Events) -> dict[str, Numbers]:
        type1 = left.once(_type1_of, _TYPE1, jets, is_data)
        found = type1.jets.correct(type1.missing, left.flat("Jet").pt / type1.raw_pt)
        found = type1.soft.correct(found, type1.soft_scale * of_soft(left))
        return dict(zip(missing, polar(found)))

    return events.replaced(("Jet_pt", "Jet_mass"), scaled).replaced(missing, followed)


def generated_pt(events: Events, jet: Flat, distance: float = 0.2, kind: str = "GenJet") -> NDArray[np.float64]:
    """The transverse momentum [GeV] of the generated jet of each jet; 0 without one within `distance` in eta and phi."""
    generated = events.flat(kind)
    index = np.asarray(jet[f"g{kind[1:]}Idx"])
    is_known = (index >= 0) & (index < generated.counts[jet.event])
    if not is_known.any():
        return np.zeros(len(index))
    begin = np.cumsum(generated.counts) - generated.counts
    place = np.where(is_known, begin[jet.event] + index, 0)
    across = np.mod(jet.phi - generated.phi[place] + np.pi, 2 * np.pi) - np.pi
    near = np.hypot(jet.eta - generated.eta[place], across) < distance
    return np.where(is_known & near, generated.pt[place], 0.0)


def energy_scale(
    jets: JetCorrections, raw_pt: Numbers, eta: Numbers, area: Numbers, rho: Numbers, run: NDArray[np.integer] | ak.Array | None = None,
    phi: Numbers | None = None, level: str = "all",
) -> Numbers:  # fmt: skip
    """The factor for the raw transverse momentum of each jet, and for the raw mass as well.

    Parameters
    ----------
    jets
        The entry `jets` of the era.
    raw_pt
        Transverse momentum before corrections [GeV]: `Jet_pt * (1 - Jet_rawFactor)`.
    eta, area
        Pseudorapidity and area of each jet.
    rho
        fixedGridRhoFastjetAll, for each jet.
    run
        The run of each jet, in data; None in simulation.
    phi
        The azimuth of each jet, for eras whose corrections depend on it, as from the end of 2023 on.
    level
        "all", or "L1" for the correction for pile-up alone.

    Examples
    --------
    >>> from MLTools.NanoML.corrections import Corrections
    >>> c = Corrections.read("examples/corrections/2018.yaml")
    >>> energy_scale(c.jets, raw_pt=np.array([50.0]), eta=np.array([1.0]), area=np.array([0.5]), rho=np.array([20.0])).round(3).tolist()
    [0.932]
    """
    known = {"JetA": area, "JetEta": clipped(eta), "JetPt": raw_pt, "Rho": rho}
    if phi is not None:
        known["JetPhi"] = clipped(phi, _MOST_PHI)
    if run is not None:
        known["run"] = run

    name = "L1L2L3Res" if level == "all" else "L1FastJet"
    if run is None:
        return jets.level(name).of(known)
    total: Numbers = 1.0
    is_covered = run < 0
    for first, last in jets.data_ranges():
        mask = (run >= first) & (run <= last)
        frozen = jets.freezing(known, first, mask) if level == "all" else 1.0
        total, is_covered = total * jets.level(name, first).of(known, where=mask) * frozen, is_covered | mask
    lost = ak.flatten(ak.Array(run)[~is_covered], axis=None)
    if len(lost):
        jets.level(name, int(ak.min(lost)))  # says which runs it has
    return total


def energy_uncertainty(jets: JetCorrections, source: str, eta: Numbers, pt: Numbers) -> Numbers:
    """The relative uncertainty of each jet's energy from one source, or "Total".

    Parameters
    ----------
    jets
        The entry `jets` of the era.
    source
        As "FlavorQCD".
    eta, pt
        Pseudorapidity and corrected transverse momentum [GeV] of each jet.

    Examples
    --------
    >>> from MLTools.NanoML.corrections import Corrections
    >>> c = Corrections.read("examples/corrections/2018.yaml")
    >>> energy_uncertainty(c.jets, "Total", np.array([1.0]), np.array([50.0])).round(4).tolist()
    [0.028]
    """
    return jets.uncertainty(source)(JetEta=clipped(eta), JetPt=pt)


def smearing(
    jets: JetCorrections, pt: Numbers, eta: Numbers, rho: Numbers, generated_pt: Numbers, normal: Numbers, is_varied: bool = True,
) -> Factor:  # fmt: skip
    """The factor for the corrected energy of each jet in simulation, for the resolution of data (hybrid method).

    A jet with a generated jet has 1 + (s - 1) (pt - pt_gen) / pt, any other one 1 + N sigma sqrt(max(s^2 - 1, 0)), with the
    ratio s of the resolutions, the relative resolution sigma and a normal number N. A generated jet counts if
    |pt - pt_gen| < 3 sigma pt. No jet gets less than a hundredth of its energy. The variations are up and down. Where the
    entry says `matched_only`, jets without a generated jet stay as they are.

    Parameters
    ----------
    jets
        The entry `jets` of the era.
    pt, eta, rho
        Corrected transverse momentum [GeV], pseudorapidity, and rho, for each jet.
    generated_pt
        Transverse momentum [GeV] of the generated jet within half the radius; 0 without one.
    normal
        A normal number for each jet, of `inputs.normal_numbers`.
    is_varied
        Whether it has its variations.
    """
    sigma = jets.resolution(JetEta=clipped(eta), JetPt=pt, Rho=rho)
    is_matched = (generated_pt > 0) & (abs(pt - generated_pt) < 3 * sigma * pt)
    choose = ak.where if isinstance(pt, ak.Array) else np.where
    low, high = jets.matched_only
    normal = choose((abs(eta) > low) & (abs(eta) < high), 0.0, normal)

    def factor(ratio: Numbers) -> Numbers:
        scaled = 1 + (ratio - 1) * (pt - generated_pt) / pt
        wider = ratio**2 - 1
        drawn = 1 + normal * sigma * np.sqrt(choose(wider > 0, wider, 0.0))
        made = choose(is_matched, scaled, drawn)
        return choose(made < 0.01, 0.01, made)

    return jets.resolution_ratio(clipped(eta), pt, is_varied).map(factor)


def is_in_veto_region(correction: VariedCorrection, eta: Numbers, phi: Numbers) -> Numbers:
    """Whether a jet is in a region that the JME group vetoes, as a mask of the shape of `eta`.

    Events are left out if such a jet has more than 15 GeV, passes the tight identification, has an electromagnetic fraction below
    0.9, and is not also a muon (muonIdx1 and muonIdx2 are -1).

    Parameters
    ----------
    correction
        The entry of the file of veto maps, with its `type`.
    eta, phi
        Direction of each jet.
    """
    return correction.value(eta=clipped(eta), phi=clipped(phi, _MOST_PHI)) != 0


def hem_scale(eta: Numbers, phi: Numbers) -> Factor:
    """The energy scale of jets in the region without hadronic endcap from run 319077 of 2018 on (JME group).

    The down variation lowers the energy by 20 % for -2.5 < eta < -1.3 and by 35 % for -3 < eta < -2.5, both for
    -1.57 < phi < -0.87.

    Examples
    --------
    >>> hem_scale(np.array([-2.0, 2.0]), np.array([-1.0, -1.0]))["down"].tolist()
    [0.8, 1.0]
    """
    inside = (phi > -1.57) & (phi < -0.87)
    lost = 0.2 * (inside & (eta > -2.5) & (eta < -1.3)) + 0.35 * (inside & (eta > -3.0) & (eta <= -2.5))
    return Factor(0.0 * lost + 1.0, {"down": 1.0 - lost})
