"""A published search, fitted from its published workspace.

It is that of ATLAS for pairs of staus (arXiv:1911.06660), whose likelihoods are at doi:10.17182/hepdata.92006. NANOML_TEST_STAU names
the directory Region-combined of these.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.inference")
pytest.importorskip("jsonpatch")

import jsonpatch

from statistical_analysis.inference import Origin, infer
from statistical_analysis.results import TOTAL, Results

PUBLISHED = os.environ.get("NANOML_TEST_STAU")


def fitted(mass: int) -> Results:
    """The fit with a signal of staus of this mass [GeV] and massless neutralinos."""
    assert PUBLISHED is not None
    content: dict[str, Any] = json.loads((Path(PUBLISHED) / "BkgOnly.json").read_text())
    patch = json.loads((Path(PUBLISHED) / f"patch.DS_{mass}_1_Staus.json").read_text())
    content = jsonpatch.apply_patch(content, patch)
    return infer(content, Origin("NanoML", f"DS_{mass}_1_Staus", "published"), is_blind=False, toys="never")


@pytest.mark.slow
@pytest.mark.skipif(PUBLISHED is None, reason="name the published likelihoods by NANOML_TEST_STAU")
def test_staus_are_excluded_up_to_the_published_mass() -> None:
    lighter, heavier = fitted(380), fitted(400)
    # "from 120 to 390 GeV"
    assert lighter.limit.observed is not None
    assert heavier.limit.observed is not None
    assert lighter.limit.observed < 1 < heavier.limit.observed
    # table 7: expected and observed events of the signal regions
    yields = {channel.name: channel for channel in heavier.channels}
    for name, observed, expected, error in (("SR1cut_cuts", 10, 6.0, 1.7), ("SR2cut_cuts", 7, 10.2, 3.3)):
        channel = yields[name]
        assert channel.observed == (observed,)
        signal = sum(sum(it.events) for it in channel.after if it.sample.startswith("DS_"))
        (total,) = (it for it in channel.after if it.sample == TOTAL)
        assert sum(total.events) - signal == pytest.approx(expected, abs=0.5 * error)
        assert total.errors[0] == pytest.approx(error, rel=0.4)
