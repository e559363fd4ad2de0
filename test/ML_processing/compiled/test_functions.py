"""awkward's and numpy's functions with their options, and four-vectors, in the graph and in the engine."""

from __future__ import annotations

import pytest

from services.compilation import check
from services.supported import LINES, results_of

pytestmark = pytest.mark.exhaustive("each line that a selection may have, compiled")


@pytest.mark.parametrize("group", LINES)
def test_graph_and_engine_agree(group: str) -> None:
    check(results_of(LINES[group]))
