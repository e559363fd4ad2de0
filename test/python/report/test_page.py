from __future__ import annotations

import math
from pathlib import Path

import pytest

from MLTools.NanoML.report.page import Answer, digits, figure, page, state_of, table, verdict_list, with_error


@pytest.mark.parametrize(
    ("value", "limits", "state"),
    [
        (0.1, (0.1, 0.3), "good"),
        (0.2, (0.1, 0.3), "look"),
        (0.4, (0.1, 0.3), "bad"),
        (0.05, (0.05, 0.01), "good"),
        (0.02, (0.05, 0.01), "look"),
        (0.001, (0.05, 0.01), "bad"),
    ],
)
def test_states_follow_from_limits(value: float, limits: tuple[float, float], state: str) -> None:
    assert state_of(value, limits) == state


def test_text_is_no_html() -> None:
    assert "<h1>a &lt; b</h1>\n<p>" in page("a < b", ["<p>as it is</p>"])
    assert "pT &gt; 5" in table(["pT > 5"], [["<1"]])
    assert "<td>&lt;1</td>" in table(["pT > 5"], [["<1"]])
    assert "Is 1 &lt; 2?" in verdict_list([Answer("Is 1 < 2?", "good", "Yes.")])


def test_a_table_without_titles_is_one_of_facts() -> None:
    assert '<table class="facts"><tbody>' in table(["", ""], [["a", "b"]])


def test_a_page_contains_its_figures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    text = figure(tmp_path / "a.png", "A", "wide", "<p>Text</p>")
    assert 'src="data:image/png;base64,cG5n"' in text
    assert "<figcaption><p>Text</p></figcaption>" in text


@pytest.mark.parametrize(
    ("value", "count", "text"),
    [(0.01234, 2, "0.012"), (123.4, 2, "123"), (99.6, 2, "100"), (12345.6, 4, "12,346"), (2.0, 3, "2"), (-2.1e6, 3, "-2,100,000")],
)  # fmt: skip
def test_numbers_have_no_powers_of_ten_that_a_comma_can_tell(value: float, count: int, text: str) -> None:
    assert digits(value, count) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (69.94, 18, "70 ± 18"),
        (1, 0.4, "1.00 ± 0.40"),
        (21.58, 3.14, "21.6 ± 3.1"),
        (1.23456, 0.0321, "1.235 ± 0.032"),
        (0.9349, 0.0996, "0.93 ± 0.10"),
        (6858.41, 1129.8, "6,858 ± 1,130"),
        (-0.004, 1.0, "0.0 ± 1.0"),
        (2.0, 0.0, "2 ± 0"),
        (2.0, math.nan, "2 ± nan"),
    ],
)
def test_a_value_ends_where_its_error_ends(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text
