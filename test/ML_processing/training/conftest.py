"""Trainings draw no figures, which takes longer than most of these trainings, but where a test asks for `plots`."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _no_plots(no_plots: None) -> None:
    """In the fixtures of modules, too."""
