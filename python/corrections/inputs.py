"""Inputs of corrections from the objects that they are for: files name them eta, JetEta, ScEta, abseta, flavor, genmatch, ...

Random numbers are inputs, too: they depend on nothing but the event and the object, and are the same in every engine, and under every
shift.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Optional, Union

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.evaluation import Axis, Correction, Input
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.folds import mix64
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.rootio.versions import IDENTIFIERS

Objects = Union[Flat, ak.Array]
"""Objects of a collection: `events.Muon`, `events.flat("Muon")`, or some of these."""

DISCRIMINANTS = {
    "deepcsv": "btagDeepB",
    "deepjet": "btagDeepFlavB",
    "particlenet": "btagPNetB",
    "robustparticletransformer": "btagRobustParTAK4B",
    "upart": "btagUParTAK4B",
}
"""The branch of the b-tagging discriminant, by the beginning of the names of its corrections."""

_FIELDS = {
    "et": "pt", "a": "area", "flavor": "hadronFlavour", "flavour": "hadronFlavour", "dm": "decayMode",
    "genmatch": "genPartFlav", "gain": "seedGain",
}  # fmt: skip
"""Inputs whose branch has another name, by their names in lower case, without the name of the object."""

JET, ELECTRON, MUON, PHOTON, FAT_JET, SOFT_DROP = 0, 11, 13, 22, 8, 9
"""Salts of kinds of objects."""

_MOST_ETA = 5.19  # of a jet that the files of the JME group cover
_OBJECT = re.compile("(jet|ele|electron|photon|muon|tau)(?=(pt|eta|phi|a|abseta)$)")
_SUPERCLUSTER = re.compile("supercluster|electron|photon", re.IGNORECASE)


def inputs_of(
    correction: Correction, names: Iterable[str], objects: Objects, given: Mapping[str, Input]
) -> dict[str, Input]:
    """The inputs of a correction: those `given` by name, all others from the objects.

    Raises NanoMLError if the objects lack the branch of an input.
    """
    return {
        name: given[name] if name in given else _input(correction, correction.axes[name], objects) for name in names
    }


def discriminant_of(name: str) -> str:
    """The branch of the b-tagging discriminant that a tagger or its correction is about; empty if it is none of `DISCRIMINANTS`."""
    return next((branch for start, branch in DISCRIMINANTS.items() if name.lower().startswith(start)), "")


def integers(values: Numbers) -> Union[NDArray[np.int64], ak.Array]:
    """Small integers, such as the multiplicities of jets, as such that do not overflow in sums."""
    return ak.values_astype(values, np.int64) if isinstance(values, ak.Array) else np.asarray(values).astype(np.int64)


def clipped(values: Numbers, most: float = _MOST_ETA) -> Numbers:
    """Values from -most to most."""
    if isinstance(values, ak.Array):
        return ak.where(abs(values) > most, np.sign(values) * most, values)
    return np.clip(values, -most, most)


def field_of(objects: Objects, name: str) -> Optional[Numbers]:
    """A branch of objects, by its name in any case; None if they lack it."""
    names = objects.columns if isinstance(objects, Flat) else ak.fields(objects)
    found = next((each for each in names if each.lower() == name.lower()), None)
    return None if found is None else objects[found]


def needed(asking: Union[Correction, str], name: str, objects: Objects, field: str = "") -> Numbers:
    """A branch of objects for an input of a correction, or for what is `asking` in words; `NanoMLError` if they lack it."""
    found = field_of(objects, field or name)
    if found is None:
        who, more = asking, ""
        if isinstance(asking, Correction):
            who, more = (
                f"{asking.file.path}: {asking.name}",
                f", or give the input by name, as in `.on(objects, {name}=...)`",
            )
        raise NanoMLError(
            f"{who} needs {name}, but these objects have no {field or name}: add the branch to `branches` of the selection{more}."
        )
    return found


def _input(correction: Correction, axis: Axis, objects: Objects) -> Numbers:
    short = _OBJECT.sub("", axis.name.lower())
    if short in ("eta", "abseta", "sceta", "abssceta"):
        eta = _eta(correction, axis, objects)
        return abs(eta) if short.startswith("abs") else eta
    if short == "p":
        pt, eta = (needed(correction, axis.name, objects, name) for name in ("pt", "eta"))
        return pt * np.cosh(eta)
    if short == "multiplicity":
        charged, neutral = (needed(correction, axis.name, objects, f"{kind}Multiplicity") for kind in ("ch", "ne"))
        return integers(charged) + integers(neutral)
    if short == "discriminant":
        return needed(correction, axis.name, objects, discriminant_of(correction.name) or short)
    return needed(
        correction, axis.name, objects, _FIELDS.get(short, axis.name if short == axis.name.lower() else short)
    )


def _eta(correction: Correction, axis: Axis, objects: Objects) -> Numbers:
    """Pseudorapidity; that of the supercluster for electrons and photons, which the files of EGM ask for."""
    is_asked = "sc" in axis.name.lower() or _SUPERCLUSTER.search(axis.description)
    has_it = any(field_of(objects, name) is not None for name in ("superclusterEta", "deltaEtaSC"))
    if is_asked or has_it:
        return supercluster_eta(correction, axis.name, objects)
    return needed(correction, axis.name, objects, "eta")


def supercluster_eta(correction: Correction, name: str, objects: Objects) -> Numbers:
    """The pseudorapidity of the superclusters of electrons or photons, for an input of a correction."""
    found, difference = field_of(objects, "superclusterEta"), field_of(objects, "deltaEtaSC")
    if found is not None:
        return found
    if difference is None:
        raise NanoMLError(
            f"{correction.file.path}: {correction.name} needs {name}, but these objects have neither superclusterEta nor deltaEtaSC: "
            "add Electron_deltaEtaSC or Photon_superclusterEta to `branches` of the selection. Before NanoAOD v13, photons have neither: "
            f"give `{name}=eta_from_vertex(events, photons)` of MLTools.NanoML.corrections.photons, where photons is "
            'events.flat("Photon") with the branches `VERTEX`.'
        )
    return needed(correction, name, objects, "eta") + difference


def normal_of(events: Events, objects: Flat, salt: int) -> NDArray[np.float64]:
    """A normal number for each object of events with run, luminosityBlock and event; `salt` as for `normal_numbers`."""
    run, section, event = (np.asarray(events[name])[objects.event] for name in IDENTIFIERS)
    return normal_numbers(run, section, event, objects.place, salt)


def normal_numbers(
    run: Numbers, luminosity_section: Numbers, event: Numbers, index: Numbers, salt: int = JET
) -> NDArray[np.float64]:
    """A number from the normal distribution for each object, which depends on nothing but these numbers.

    So it is the same in all engines, for the nominal objects and for every shift of them, and another for each object. The bits
    are mixed as in SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), and become normal by the method of Box and Muller.

    `index` is the place of the object in the event of the original file, from 0; `salt` a number for each kind of object, so that the first
    electron has another one than the first jet.
    """
    with np.errstate(over="ignore"):  # arithmetic of unsigned numbers modulo 2^64 is what is meant
        state: NDArray[np.uint64] = np.full(np.shape(index), salt, np.uint64)
        for number in (run, luminosity_section, event, index):
            state = mix64(np.bitwise_xor(state, np.asarray(number).astype(np.uint64)))
        one, other = mix64(state), mix64(np.bitwise_xor(state, np.uint64(0x5851F42D4C957F2D)))
    # 53 bits each; the first is never 0
    radius = np.sqrt(-2 * np.log(((one >> np.uint64(11)) + np.uint64(1)) * 2.0**-53))
    return np.asarray(radius * np.cos(2 * np.pi * (other >> np.uint64(11)) * 2.0**-53))
