from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hist")
pytest.importorskip("data_processing.histograms.templates")

import uproot

from data_processing.histograms.templates import write_root
from MLTools.NanoML.contracts import templates
from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, HistogramChannel, Origin, Template, TemplateAxis
from MLTools.NanoML.contracts.uhi import histogram
from MLTools.NanoML.errors import NanoMLError

EVENTS = np.arange(1.0, 13.0).reshape(4, 3)  # with underflow and overflow: two bins and one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two processes of which one begins with the name of the other, one variation, and data of which a bin is blind."""

    def template(factor: float, *names: str, events: Any = EVENTS) -> Template:
        nominal = factor * events
        up, down = (dict.fromkeys(names, change * nominal) for change in (1.5, 0.5))
        return Template(nominal, nominal / 10, up, down, up, down)

    blind = np.where(EVENTS == 5, np.nan, EVENTS)
    processes = {"WZ": template(1, "jes"), "WZ_b": template(2, "jes", "b"), DATA: Template(blind, blind)}
    axes = (TemplateAxis("mass", (0.0, 50.0, 90.0), "mass [GeV]"), TemplateAxis("pt / mt", (0.0, 1.0)))
    origins = {"WZ": Origin(("a",)), "WZ_b": Origin(("b",))}
    filled = FilledHistogram("plane", axes, (HistogramChannel("SR", "2018", processes),), None, origins)
    line = HistogramChannel("SR", "2018", {"WZ_b": template(2, "jes", events=EVENTS[:, 0])})
    both = (filled, FilledHistogram("line", axes[:1], (line,), None, origins))
    write_root(templates.Templates("NanoML", both, ("WZ", "WZ_b"), None, {"2018": 59.8}), tmp_path / "histograms.root")
    return tmp_path / "histograms.root"


def test_processes_and_variations_are_axes(path: Path) -> None:
    found = histogram(path, "plane", "SR_2018")
    assert [axis.name for axis in found.axes] == ["process", "variation", "mass", "pt / mt"]
    assert (found.axes["mass"].label, found.axes["mass"].edges.tolist()) == ("mass [GeV]", [0, 50, 90])
    assert [*found.axes["process"]] == ["WZ", "WZ_b", DATA]
    assert {*found.axes["variation"]} == {"nominal", "jesUp", "jesDown", "bUp", "bDown"}
    up = found[{"process": "WZ_b", "variation": "jesUp"}]
    assert up.values(flow=True).tolist() == (3 * EVENTS).tolist()
    assert up.variances(flow=True).tolist() == (3 * EVENTS).tolist()
    nominal = found[{"process": "WZ", "variation": "nominal"}]
    assert nominal.variances(flow=True).tolist() == (EVENTS / 10).tolist()
    assert found[{"process": "WZ", "variation": "bUp"}] == nominal
    data = found[{"process": DATA, "variation": "nominal"}].values(flow=True)
    assert np.isnan(data[1, 1])
    assert np.nansum(data) == EVENTS.sum() - 5


def test_uproot_makes_one_of_each_template(path: Path) -> None:
    with uproot.open(path) as file:
        one = file["line/SR_2018/WZ_b_jesUp"].to_hist()
    whole = histogram(path, "line", "SR_2018")[{"process": "WZ_b", "variation": "jesUp"}]
    assert one.values(flow=True).tolist() == whole.values(flow=True).tolist()
    assert one.variances(flow=True).tolist() == whole.variances(flow=True).tolist()


def test_mplhep_draws_it(path: Path) -> None:
    mplhep = pytest.importorskip("mplhep")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    found = histogram(path, "plane", "SR_2018")[{"variation": "nominal", "pt / mt": sum}]
    mplhep.histplot([found[{"process": it}] for it in ("WZ", "WZ_b")], ax=axes, stack=True, label=["WZ", "WZ_b"])
    assert axes.get_ylim()[1] > 3 * EVENTS[1:3, 1].max()


def test_what_there_is_not(path: Path) -> None:
    with pytest.raises(NanoMLError, match=r'"SR" is not a channel of plane\. Known: SR_2018\.'):
        histogram(path, "plane", "SR")
    with pytest.raises(NanoMLError, match=r'"mass" is not a histogram\. Known: plane, line\.'):
        histogram(path, "mass", "SR_2018")
    other = path.with_name("other.root")
    with uproot.recreate(other) as file:
        file["line"] = np.histogram([1.0])
    said = r"other\.root: is not a histograms\.root of `nanoml histogram`, or is damaged\."
    with pytest.raises(NanoMLError, match=said):
        histogram(other, "line", "SR_2018")
