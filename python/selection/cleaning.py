"""Objects that are reconstructed twice: each lepton is a jet, too."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.selection.flat import Flat


def away_from(jets: ak.Array, *others: Any, distance: float = 0.4) -> ak.Array:
    """Whether each jet is far from other objects in eta and phi, as from selected leptons, which are jets, too; a mask for jets.

    Parameters
    ----------
    jets
        `events.Jet`, with eta and phi.
    others
        Objects, as `events.Muon`, or those of `events.flat`.
    distance
        The least distance.
    """

    def of(objects: Any, name: str) -> Any:
        values = getattr(objects, name)
        return (ak.unflatten(values, objects.counts) if isinstance(objects, Flat) else values)[:, np.newaxis]

    is_far = ak.ones_like(jets.eta, dtype=bool)
    for each in others:
        across = (jets.phi[..., np.newaxis] - of(each, "phi") + np.pi) % (2 * np.pi) - np.pi
        along = jets.eta[..., np.newaxis] - of(each, "eta")
        is_far = is_far & ak.all(along**2 + across**2 >= distance**2, axis=-1)
    return is_far
