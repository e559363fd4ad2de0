from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
from printing import printed, words

from MLTools.NanoML.contracts import templates as contract
from MLTools.NanoML.contracts.blinding import BlindBins
from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, HistogramChannel, Template, Templates
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.inspection import inspect_file, kind_of
from MLTools.NanoML.rootio.histograms import root_histogram


def test_every_file_is_understood(nano_file: Path) -> None:
    found = inspect_file(nano_file)
    content = found.to_json()
    assert content["kind"] == "root"
    assert content["size"] == nano_file.stat().st_size
    assert content["is_data"] == ("_data" in nano_file.stem)
    assert content["format"] == ("RNTuple" if "rntuple" in nano_file.stem else "TTree")
    assert content["warnings"] == content["errors"] == []
    is_scouting = "scouting" in nano_file.stem  # which has no trigger decisions
    assert is_scouting or len(content["event_level"]["HLT"]) > 10
    assert ("ScoutingMuon" if is_scouting else "Muon") in content["collections"]
    for width in (80, 120):
        text = printed(found, width=width)
        assert len(text.splitlines()) < 100  # not a wall of text
        assert is_scouting or "HLT_" in text


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.root", r"a.root: is empty \(0 bytes\): fetch or make it again"),
        (b"plain text \xc3\xa9\n", "a.txt", "is a text file, not a ROOT, HDF5 or ONNX file"),
        (b"x" * 255 + b"\xc3\xa9", "a", "is a text file"),
        (b"root file of mine", "a.root", "is a text file, .* Its name says a ROOT file: fetch or make it again"),
        (b"<html>Sign in</html>", "a.h5", "is an HTML or XML file.* Its name says an HDF5 file"),
        (b'{"schema": 1}', "model.json", "is a JSON file.* name the .onnx file beside it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a.root", "is a Git LFS pointer.*Run `git lfs pull`"),
        (bytes(range(100, 256)) * 20, "a.onnx", "is a binary file of another kind.* Its name says an ONNX file"),
        *((b"root\x00\x00\xfa\x00", "a.dat", "cannot be read"), (b"\x89HDF\r\n\x1a\n", "a.dat", "cannot be read")),
        (b"\x08\x08\x12\x07py", "a.dat", "truncated or damaged ONNX file"),
    ],
)
def test_other_files_are_explained(tmp_path: Path, content: bytes, name: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(NanoMLError, match=message):
        inspect_file(path)


def test_what_is_no_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="no such file"):
        inspect_file(tmp_path / "a.root")
    with pytest.raises(NanoMLError, match=r"is a directory\. Name a ROOT, HDF5 or ONNX file"):
        inspect_file(tmp_path)
    with pytest.raises(NanoMLError, match="is not a regular file"):
        inspect_file(os.devnull)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.root").touch(mode=0)
    with pytest.raises(NanoMLError, match="cannot read: permission denied"):
        inspect_file(tmp_path / "a.root")


def test_the_content_decides_not_the_name(tmp_path: Path, sample: Path) -> None:
    os.symlink(next((sample / "WZTo3LNu").glob("*.root")), tmp_path / "a.h5")
    assert kind_of(tmp_path / "a.h5") == "root"
    for block in (0, 512, 2048):
        with h5py.File(tmp_path / "a.root", "w", userblock_size=block) as file:
            file["x"] = 1
        assert kind_of(tmp_path / "a.root") == "hdf5"


def test_a_url_is_a_root_file(sample: Path) -> None:
    assert kind_of("root://nowhere//store/a.h5") == "root"
    found = inspect_file(next((sample / "WZTo3LNu").glob("*.root")).as_uri())
    content = found.to_json()
    assert content["size"] is None
    assert content["events"] == 800
    assert "size" not in printed(found)


def test_only_root_files_have_branches(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ConfigError, match="it has no branches to be listed"):
        inspect_file(tmp_path / "a.h5").show("Muon_*")


def filled(*bins: float, **varied: float) -> Template:
    nominal = np.array(bins)
    up, down = ({name: nominal * factor for name, factor in varied.items()} for _ in range(2))
    return Template(nominal, nominal, up, down)


@pytest.fixture
def templates() -> Templates:
    """W_up_jets begins with the name of another process, and one of data's bins is blind."""
    score, plane = contract.TemplateAxis("score", (0.0, 0.5, 1.0)), contract.TemplateAxis("mass", (0.0, 1.0))
    processes = {"W": filled(0.5, 1, 2, 3, jes=2, W_up_jets=3), "W_up_jets": filled(0, 1e6, 2, 3, jes=2)}
    processes[DATA] = filled(0, 1, np.nan, 0)
    flat = Template(np.ones((4, 3)), np.ones((4, 3)))
    of_data = contract.Origin(("Muon", "less ZZ"), True)
    origins = {"W": contract.Origin(("W_LO", "W_NLO")), "W_up_jets": of_data}
    histograms = (
        FilledHistogram("score", (score,), (HistogramChannel("SR", "2018", processes),), None, origins),
        FilledHistogram("plane", (score, plane), (HistogramChannel("CR", None, {"W": flat}),)),
    )
    luminosity = {"2018": 59.8, "2022": None}
    return Templates("NanoML 1", histograms, ("W", "W_up_jets"), "W", luminosity, BlindBins("W", 0.5))


def write_root(templates: Templates, path: Path, record: bool) -> None:
    with uproot.recreate(path) as file:
        if record:
            file[contract.KEY] = templates.description()
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
        *(("score", "SR_2018", "W_up_jets", 2, 1_000_005, ["jes"]), ("score", "SR_2018", DATA, 2, None, [])),
        ("plane", "CR", "W", 2, 12, []),
    ]
    text = " ".join(words(inspect_file(tmp_path / "a.root")).replace("─", "").split())
    for said in (
        "made by NanoML 1 classes W: W_LO, W_NLO; W_up_jets: Muon, less ZZ signal W luminosity 59.8 /fb (2018) blind bins",
        "variations jes, W_up_jets score channel bins W W_up_jets data_obs SR_2018 2 6.5 1,000,005 partly blind plane",
    ):
        assert said in text
    assert printed(inspect_file(tmp_path / "a.root"), width=40).count("channel") == 4  # a table for each process


def test_templates_of_a_fit_and_its_workspace(templates: Templates, tmp_path: Path) -> None:
    write_root(templates, tmp_path / "a.root", record=False)
    found = content(tmp_path / "a.root")
    assert (found["what"], found["provenance"]) == ("histograms by channel and process", {})
    assert [(each["histogram"], each["channel"]) for each in found["yields"]] == 3 * [("", "SR_2018")] + [("", "CR")]
    kinds = {"staterror": "mcstat", "normsys": "jes", "histosys": "jes"}
    modifiers = [{"name": name, "type": kind} for kind, name in kinds.items()]
    samples, measurement = {"name": "W", "data": [1, 2.5], "modifiers": modifiers}, {"poi": "mu", "parameters": []}
    about = {"channels": [{"name": "SR", "samples": [samples]}], "observations": [{"name": "SR", "data": [4, 5]}]}
    workspace = {**about, "measurements": [{"name": "x", "config": measurement}], "version": "1.0.0"}
    (tmp_path / "a.json").write_text(json.dumps(workspace))
    yields = [tuple(each.values())[1:] for each in content(tmp_path / "a.json")["yields"]]
    assert yields == [("SR", "W", 2, 3.5, ["jes"]), ("SR", DATA, 2, 9, [])]
    text = words(inspect_file(tmp_path / "a.json"))
    assert "parameter of interest mu variations jes Events channel bins W data_obs" in text
    # damaged ones
    with uproot.update(tmp_path / "a.root") as file:
        file[contract.KEY] = "{}"
    (tmp_path / "a.json").write_text('{"channels": [{}], "observations": [], "measurements": []}')
    damaged = "a damaged workspace of pyhf .KeyError: 'samples'"
    for name, message in (("a.root", "cannot be read .KeyError"), ("a.json", damaged)):
        with pytest.raises(NanoMLError, match=message):
            inspect_file(tmp_path / name)
