"""Random numbers that depend on nothing but the event and the object: the same in every engine, and under every shift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.folds import mix64
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.rootio.versions import IDENTIFIERS

JET, ELECTRON, MUON, PHOTON, FAT_JET, SOFT_DROP = 0, 11, 13, 22, 8, 9
"""Salts of kinds of objects."""


def of_objects(events: Events, objects: Flat, salt: int) -> NDArray[np.float64]:
    """A normal number for each object of events with run, luminosityBlock and event; `salt` as for `normal_numbers`."""
    run, section, event = (np.asarray(events[name])[objects.event] for name in IDENTIFIERS)
    return normal_numbers(run, section, event, objects.place, salt)


def normal_numbers(
    run: Numbers, luminosity_section: Numbers, event: Numbers, index: Numbers, salt: int = JET
) -> NDArray[np.float64]:
    """A number from the normal distribution for each object, which depends on nothing but these numbers.

    So it is the same in all engines, for the nominal objects and for every shift of them, and another for each object. The bits
    are mixed as in SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), and become normal by the method of Box and Muller.

    Parameters
    ----------
    run, luminosity_section, event
        Identifiers of the event, for each object.
    index
        Place of the object in the event of the original file, from 0.
    salt
        A number for each kind of object, so that the first electron has another one than the first jet: `JET`, `ELECTRON`.
    """
    with np.errstate(over="ignore"):  # arithmetic of unsigned numbers modulo 2^64 is what is meant
        state: NDArray[np.uint64] = np.full(np.shape(index), salt, np.uint64)
        for number in (run, luminosity_section, event, index):
            state = mix64(np.bitwise_xor(state, np.asarray(number).astype(np.uint64)))
        one, other = mix64(state), mix64(np.bitwise_xor(state, np.uint64(0x5851F42D4C957F2D)))
    # 53 bits each; the first is never 0
    radius = np.sqrt(-2 * np.log(((one >> np.uint64(11)) + np.uint64(1)) * 2.0**-53))
    return np.asarray(radius * np.cos(2 * np.pi * (other >> np.uint64(11)) * 2.0**-53))
