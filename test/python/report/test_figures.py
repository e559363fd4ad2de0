from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mplhep")

from MLTools.NanoML.report.figures import grid, in_style, save, single, small, with_ratio
from MLTools.NanoML.report.section import PRIVATE_WORK, Style


@pytest.mark.parametrize(("has_data", "text"), [(True, "data/simulation"), (False, "simulation")])
@in_style
def test_all_figures_say_what_they_show(has_data: bool, text: str) -> None:
    expected = f"Private work (CMS {text})"
    assert expected in [it.get_text() for it in single(PRIVATE_WORK, "13 TeV", has_data=has_data)[1].texts]
    assert expected in [it.get_text() for it in with_ratio(PRIVATE_WORK, "13 TeV", has_data)[1].texts]
    assert [it.get_text() for it in small(PRIVATE_WORK, (4, 4), "13 TeV", has_data).texts] == [f"{expected}, 13 TeV"]


@in_style
def test_figures_say_the_label_of_an_analysis() -> None:
    example = Style("Example")
    assert "Example" in [it.get_text() for it in single(example, "13 TeV")[1].texts]
    assert [it.get_text() for it in small(example, (4, 4), "13 TeV").texts] == ["Example, 13 TeV"]


@in_style
def test_a_grid_has_as_many_panels_as_asked_for() -> None:
    figure, panels = grid(PRIVATE_WORK, 5, "", 3)
    assert figure.axes == panels
    assert len(panels) == 5


def test_a_figure_is_saved_twice(tmp_path: Path) -> None:
    save(single(PRIVATE_WORK, "13 TeV")[0], tmp_path / "a.b")
    assert (tmp_path / "a.b.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.b.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("largest", "name"),
    [(2e7, "Events  [$10^{7}$]"), (99_000, "Events"), (0.5, "Events"), (0.0004, "Events  [$10^{-4}$]")],
)
@in_style
def test_a_power_of_ten_is_in_the_name_of_the_axis(tmp_path: Path, largest: float, name: str) -> None:
    figure, axes = single(PRIVATE_WORK, "13 TeV")
    axes.set(xlim=(0, largest), xlabel="Events", ylim=(0, largest), ylabel="Events")
    save(figure, tmp_path / "a")
    for axis in (axes.xaxis, axes.yaxis):
        assert axis.get_label_text().replace("\u2212", "-") == name
        assert axis.get_offset_text().get_visible() == (name == "Events")
