from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from printing import printed, words

from MLTools.NanoML.contracts.templates import (
    DATA,
    KEY,
    BlindBins,
    FilledHistogram,
    HistogramChannel,
    Origin,
    Template,
    TemplateAxis,
    Templates,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.rootio.histograms import root_histogram


def filled(*bins: float, **varied: float) -> Template:
    nominal = np.array(bins)
    up, down = ({name: nominal * factor for name, factor in varied.items()} for _ in range(2))
    return Template(nominal, nominal, up, down)


@pytest.fixture
def templates() -> Templates:
    """W_up_jets begins with the name of another process, and one of data's bins is blind."""
    score, plane = TemplateAxis("score", (0.0, 0.5, 1.0)), TemplateAxis("mass", (0.0, 1.0))
    processes = {
        "W": filled(0.5, 1, 2, 3, jes=2, W_up_jets=3),
        "W_up_jets": filled(0, 1e6, 2, 3, jes=2),
        DATA: filled(0, 1, np.nan, 0),
    }
    flat = Template(np.ones((4, 3)), np.ones((4, 3)))
    origins = {"W": Origin(("W_LO", "W_NLO")), "W_up_jets": Origin(("Muon", "less ZZ"), True)}
    histograms = (
        FilledHistogram("score", (score,), (HistogramChannel("SR", "2018", processes),), None, origins),
        FilledHistogram("plane", (score, plane), (HistogramChannel("CR", None, {"W": flat}),)),
    )
    luminosity = {"2018": 59.8, "2022": None}
    return Templates("NanoML 1", histograms, ("W", "W_up_jets"), "W", luminosity, BlindBins("W", 0.5))


def write_root(templates: Templates, path: Path, record: bool) -> None:
    with uproot.recreate(path) as file:
        if record:
            file[KEY] = templates.description()
        for histogram in templates.histograms:
            axes = [(axis.quantity, axis.edges) for axis in histogram.axes]
            for channel in histogram.channels:
                for process, each in channel.processes.items():
                    named = {process: each.nominal}
                    named.update({f"{process}_{name}Up": values for name, values in each.up.items()})
                    named.update({f"{process}_{name}Down": values for name, values in each.down.items()})
                    for name, values in named.items():
                        where = f"{histogram.name}/{channel.name}/{name}" if record else f"{channel.name}/{name}"
                        file[where] = root_histogram(name, "", axes, values, values)


def content(path: Path) -> dict[str, Any]:
    return {key: value for key, value in inspect_file(path).to_json().items() if key not in ("path", "size")}


def test_both_files_of_histograms_say_the_same(templates: Templates, tmp_path: Path) -> None:
    templates.write(tmp_path / "a.h5")
    write_root(templates, tmp_path / "a.root", record=True)
    found = content(tmp_path / "a.h5")
    assert found == content(tmp_path / "a.root")
    assert [tuple(each.values()) for each in found["yields"]] == [
        ("score", "SR_2018", "W", 2, 6.5, ["jes", "W_up_jets"]),
        ("score", "SR_2018", "W_up_jets", 2, 1_000_005, ["jes"]),
        ("score", "SR_2018", DATA, 2, None, []),
        ("plane", "CR", "W", 2, 12, []),
    ]
    text = " ".join(words(inspect_file(tmp_path / "a.root")).replace("─", "").split())
    assert (
        "made by NanoML 1 classes W: W_LO, W_NLO; W_up_jets: Muon, less ZZ signal W luminosity 59.8 /fb (2018) blind bins with"
        in text
    )
    assert (
        "variations jes, W_up_jets score channel bins W W_up_jets data_obs SR_2018 2 6.5 1,000,005 partly blind plane channel bins W"
        in text
    )
    assert printed(inspect_file(tmp_path / "a.root"), width=40).count("channel") == 4  # a table for each process


def test_templates_of_a_fit_and_its_workspace(templates: Templates, tmp_path: Path) -> None:
    write_root(templates, tmp_path / "a.root", record=False)
    found = content(tmp_path / "a.root")
    assert (found["what"], found["provenance"]) == ("histograms by channel and process", {})
    assert [(each["histogram"], each["channel"]) for each in found["yields"]] == 3 * [("", "SR_2018")] + [("", "CR")]
    modifiers = [
        {"name": "mcstat", "type": "staterror"},
        *({"name": "jes", "type": f"{it}sys"} for it in ("norm", "histo")),
    ]
    workspace = {
        "channels": [{"name": "SR", "samples": [{"name": "W", "data": [1, 2.5], "modifiers": modifiers}]}],
        "observations": [{"name": "SR", "data": [4, 5]}],
        "measurements": [{"name": "x", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }
    (tmp_path / "a.json").write_text(json.dumps(workspace))
    assert [tuple(each.values())[1:] for each in content(tmp_path / "a.json")["yields"]] == [
        ("SR", "W", 2, 3.5, ["jes"]),
        ("SR", DATA, 2, 9, []),
    ]
    assert "parameter of interest mu variations jes Events channel bins W data_obs" in words(
        inspect_file(tmp_path / "a.json")
    )


def test_damage_is_explained(templates: Templates, tmp_path: Path) -> None:
    write_root(templates, tmp_path / "a.root", record=False)
    with uproot.update(tmp_path / "a.root") as file:
        file[KEY] = "{}"
    (tmp_path / "a.json").write_text('{"channels": [{}], "observations": [], "measurements": []}')
    for name, message in (
        ("a.root", "cannot be read .KeyError"),
        ("a.json", "a damaged workspace of pyhf .KeyError: 'samples'"),
    ):
        with pytest.raises(NanoMLError, match=message):
            inspect_file(tmp_path / name)
