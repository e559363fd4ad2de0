"""Whole analyses run in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Iterator[None]:
    """No run begins workers, each of which would import PyTorch and all else again: that takes longer than what it does then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOML_CORES", "1")
        yield
