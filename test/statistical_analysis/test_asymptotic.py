"""The asymptotic formulae, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from statistical_analysis.asymptotic import cls


@pytest.mark.parametrize("q", [0.5, 3.9, 4.1, 9.0])
def test_cls_is_that_of_the_test_statistic_for_positive_signals(q: float) -> None:
    """Equations 65 and 66 of Cowan et al.: above the square of what is expected, the distribution is another one."""
    expected = 2.0
    if q <= expected**2:
        wanted = norm.sf(np.sqrt(q)) / norm.sf(np.sqrt(q) - expected)
    else:
        wanted = norm.sf((q + expected**2) / (2 * expected)) / norm.sf((q - expected**2) / (2 * expected))
    assert cls(q, expected) == pytest.approx(wanted)
