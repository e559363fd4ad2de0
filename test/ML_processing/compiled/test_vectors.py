"""Four-vectors in the graph, and those of the package vector."""

from __future__ import annotations

import pytest

from services.compilation import check
from services.supported import VECTORS, function_of


@pytest.mark.parametrize("line", VECTORS)
def test_graph_and_package_agree(line: str) -> None:
    check(function_of(line))
