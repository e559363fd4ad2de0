"""Whole analyses run in the process of the tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def whole_analyses(one_core: None) -> None:
    """All of them run on one core."""
