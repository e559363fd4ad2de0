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

from statistical_analysis.inference import FitOrigin, infer
from statistical_analysis.results import Results

PUBLISHED = os.environ.get("NANOML_TEST_STAU")


def fitted(mass: int) -> Results:
    """The fit with a signal of staus of this mass [GeV] and massless neutralinos."""
    assert PUBLISHED is not None
    content: dict[str, Any] = json.loads((Path(PUBLISHED) / "BkgOnly.json").read_text())
    patch = json.loads((Path(PUBLISHED) / f"patch.DS_{mass}_1_Staus.json").read_text())
    content = jsonpatch.apply_patch(content, patch)
    return infer(content, FitOrigin("NanoML", "published"), is_blind=False, toys="never")


@pytest.mark.exhaustive("a published search")
@pytest.mark.skipif(PUBLISHED is None, reason="name the published likelihoods by NANOML_TEST_STAU")
def test_staus_are_excluded_up_to_the_published_mass() -> None:
    lighter, heavier = fitted(380), fitted(400)
    # "Stau masses from 120 GeV to 390 GeV are excluded at 95% confidence level for a massless lightest neutralino."
    assert lighter.limit is not None
    assert heavier.limit is not None
    assert lighter.limit.observed is not None
    assert heavier.limit.observed is not None
    assert lighter.limit.observed < 1 < heavier.limit.observed
    # events in the signal regions for low and high masses
    seen = {channel.name: channel.observed for channel in heavier.channels}
    assert (seen["SR1cut_cuts"], seen["SR2cut_cuts"]) == ((10,), (7,))
