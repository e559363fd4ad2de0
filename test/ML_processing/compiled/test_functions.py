"""awkward's and numpy's functions, with their options, in the graph and in the engine."""

from __future__ import annotations

import pytest

from services.compilation import check
from services.supported import LINES, function_of


@pytest.mark.parametrize("line", LINES)
def test_graph_and_engine_agree(line: str) -> None:
    check(function_of(line))
