from __future__ import annotations

from typing import Any

import numpy as np

from MLTools.NanoML.contracts.blinding import share_in


def test_an_event_of_several_regions_has_the_least_of_their_shares() -> None:
    inside = {"SR": np.array([True, True, False]), "VR": np.array([True, False, True]), "CR": np.ones(3, bool)}
    for shares in ({"SR": 0.1, "VR": 0.5}, {"VR": 0.5, "SR": 0.1}):
        found: dict[str, Any] = {it: share_in(it, shares, inside.get) for it in inside}
        seen = {it: found[it][flags].tolist() for it, flags in inside.items()}
        assert seen == {"SR": [0.1, 0.1], "VR": [0.1, 0.5], "CR": [0.1, 0.1, 0.5]}
