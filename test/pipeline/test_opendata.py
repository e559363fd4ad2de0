"""The examples of CMS Open Data, on files with the layout of theirs."""

from __future__ import annotations

import json
import math
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
import yaml
from click.testing import CliRunner
from scipy.stats import norm

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.selection.tryout import on_file
from services.opendata import PROCESSES_2012, of_this_machine, write_2012, write_2015

pytest.importorskip("data_processing.skim.skim")

pytestmark = pytest.mark.exhaustive("each kind of analysis")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
REAL = Path(os.environ.get("NANOML_TEST_DATA", ROOT.parent / "shared" / "data")) / "real"
RUN = CliRunner()


def copied(name: str, folder: Path) -> Path:
    (folder / f"{name}.py").write_text((EXAMPLES / f"{name}.py").read_text())
    (folder / f"{name}.yaml").write_text(of_this_machine((EXAMPLES / f"{name}.yaml").read_text(), folder))
    return folder / f"{name}.yaml"


def run(*words: object) -> None:
    done = RUN.invoke(nanoml, ["run", *map(str, words)])
    assert done.exit_code == 0, done.exception


def by_hand(event: dict[str, Any], smeared: bool = False) -> tuple[int, ...] | tuple[int, float, float]:
    """Number of b jets, HT and the mass of the trijet in an event; if it is not selected, the cuts that it passes."""
    leptons = 0
    for kind in ("Electron", "Muon"):
        for number, pt in enumerate(event[f"{kind}_pt"]):
            of = {name: event[f"{kind}_{name}"][number] for name in ("eta", "sip3d")}
            good = pt > 30 and abs(of["eta"]) < 2.1 and of["sip3d"] < 4
            if kind == "Electron":
                leptons += good and event["Electron_cutBased"][number] == 4
            else:
                leptons += good and event["Muon_tightId"][number] and event["Muon_pfRelIso04_all"][number] < 0.15
    jets = []
    for number, raw in enumerate(event["Jet_pt"]):
        digits = int(np.float32(raw) * np.float32(1000)) % 1000
        pt = float(raw) * (norm.ppf(0.001 * digits + 0.0005, 1, 0.05) if smeared else 1)
        eta, phi, mass, tag = (float(event[f"Jet_{name}"][number]) for name in ("eta", "phi", "mass", "btagCSVV2"))
        if pt > 30 and abs(eta) < 2.4 and event["Jet_jetId"][number] == 6:
            momentum = np.array([pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)])
            jets.append((math.sqrt(momentum @ momentum + mass**2), momentum, tag > 0.5, pt))
    tagged = sum(jet[2] for jet in jets)
    if leptons != 1 or len(jets) < 4 or not tagged:
        return (1,) * (0 if leptons != 1 else 1 if len(jets) < 4 else 2)
    trijets = [three for three in combinations(jets, 3) if any(jet[2] for jet in three)]
    sums = [(sum(jet[0] for jet in three), sum(jet[1] for jet in three)) for three in trijets]
    energy, momentum = max(sums, key=lambda it: math.hypot(*it[1][:2]))
    return tagged, sum(jet[3] for jet in jets), math.sqrt(energy**2 - momentum @ momentum)


@pytest.mark.parametrize("is_real", [False, True])
def test_the_selection_of_the_challenge_is_what_its_text_says(tmp_path: Path, is_real: bool) -> None:
    path = REAL / "nano_v9_mc_2015_opendata_ttbar.root" if is_real else tmp_path / "ttbar.root"
    if not is_real:
        write_2015(path, 600, 1)
    elif not path.exists():
        pytest.skip("no file of 2015: name the directory of real files by NANOML_TEST_DATA")
    found = on_file(load_selection(f"{EXAMPLES / 'agc.py'}:TopPair"), path, 600)
    with uproot.open(path) as file:
        names = [name for name in file["Events"].keys() if name.startswith(("Electron_", "Muon_", "Jet_"))]
        events = file["Events"].arrays(names).to_list()
    made = [by_hand(event) for event in events]
    nominal = [values for values in made if len(values) == 3]
    steps = {step.cut: step.events for step in found.cutflow.steps}
    assert steps["one lepton"] == sum(len(values) > 0 for values in made) > 10
    assert steps["four jets"] == sum(len(values) > 1 for values in made)
    assert (len(nominal) > 20) is not is_real  # of the 200 real ones, none passes
    for number, name in enumerate(("nBJet", "HT", "trijet_mass")):
        passed = np.asarray(found.columns["selected"])
        assert np.asarray(found.columns[name])[passed] == pytest.approx([it[number] for it in nominal], rel=1e-4)
    smeared = sum(len(by_hand(event, smeared=True)) == 3 for event in events)
    assert found.shifts["pt_resUp"].steps[-1].events == smeared


def test_the_challenge_counts_events_and_not_generator_weights(tmp_path: Path) -> None:
    pytest.importorskip("data_processing.histograms.stage")
    config = load(EXAMPLES / "agc.yaml")
    for seed, dataset in enumerate(config.datasets.values()):
        write_2015(tmp_path / dataset.files[0].rpartition("/")[2], 300, seed, 0.9, weight=7)
    path = copied("agc", tmp_path)
    run(path, "--to", "histogram")
    with uproot.open(tmp_path / "agc" / "histograms" / "histograms.root") as file:
        for region, quantity in (("CR_4j1b", "HT"), ("SR_4j2b", "trijet_mass")):
            keys = file[f"{quantity}/{region}"].keys(cycle=False)
            names = {name.partition("_")[2] for name in keys if "ttbar" in name}
            ways = ("Up", "Down")
            varied = ["pt_scale", "pt_res", "ME", "PS", "scale", *(f"btag_{jet}" for jet in range(4))]
            assert names == {"", *(f"{name}{way}" for name in varied for way in ways)}
            found = file[f"{quantity}/{region}/ttbar"]
            weight = 729.84 * 3378 / 300
            count = found.values(flow=True).sum() / weight
            assert count == pytest.approx(round(count))
            assert found.variances().sum() == pytest.approx(found.values().sum() * weight)
            assert found.values().sum() > 5 * weight
    skim = next((tmp_path / "agc" / "skims" / "ttbar").glob("*.root"))
    with uproot.open(skim) as file:
        assert "genWeight" not in file["Events"]


def test_the_example_with_invented_events_is_that_of_open_data_and_small() -> None:
    real, invented = (yaml.safe_load((EXAMPLES / f"opendata{it}.yaml").read_text()) for it in ("", "_invented"))
    for name, dataset in invented["datasets"].items():
        other = real["datasets"][name]
        files, others = ([it["files"]] if isinstance(it["files"], str) else it["files"] for it in (dataset, other))
        assert [Path(it).name for it in files] == [Path(it).name for it in others]
        assert str(dataset.get("cross_section")).startswith(str(other.get("cross_section")))
        dataset |= {key: other[key] for key in ("files", "cross_section") if key in other}
    assert {key for key in real if real[key] != invented[key]} == {"workdir", "style", "luminosity"}
    assert "Invented" in invented["style"]["label"]
    assert sum(it.stat().st_size for it in (EXAMPLES / "invented").iterdir()) < 3e6


def test_the_invented_files_give_data_and_a_class_from_data(tmp_path: Path) -> None:
    pytest.importorskip("data_processing.convert.stage")
    for name in ("opendata.py", "opendata_invented.yaml"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    (tmp_path / "invented").symlink_to(EXAMPLES / "invented")
    config = load(tmp_path / "opendata_invented.yaml")
    run(config.document.name, "--to", "convert")
    for name in PROCESSES_2012:
        with h5py.File(tmp_path / "opendata_invented" / "hdf5" / f"{name}.h5") as file:
            rows = file["events"][:]
        assert rows["genWeight"].tolist() == [1] * len(rows)
        expected = (config.cross_section_of(name) or 0) * 500
        assert rows["weight"] == pytest.approx(expected / PROCESSES_2012[name].events, rel=1e-5)
    with h5py.File(tmp_path / "opendata_invented" / "hdf5" / "QCD_from_TauPlusX.h5") as file:
        qcd = file["events"][:]
    assert len(qcd) > 50
    assert qcd["weight"] == pytest.approx(0.8)


def test_a_file_that_lacks_what_the_selection_reads_gives_one_error(tmp_path: Path) -> None:
    write_2012(tmp_path / "a.root", PROCESSES_2012["TTbar"])
    selection = load_selection(f"{EXAMPLES / 'agc.py'}:TopPair")
    with pytest.raises(NanoMLError, match="a.root: selection TopPair reads branches that this file lacks: Electron_pt"):
        on_file(selection, tmp_path / "a.root", 100)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("a: {files: a.root, data: true, generator_weights: false}\nskim: {cut: x > 0}", "is for simulation"),
        ("a: {files: a.root, generator_weights: false}\nconvert: {features: [x]}", "is for simulation that is skimmed"),
        ("a: {files: a.root, generator_weights: false}\nskim: {cut: x > 0, engine: nanoaodtools}", "Use columnar"),
    ],
)
def test_where_generator_weights_cannot_be_left_out(tmp_path: Path, lines: str, complaint: str) -> None:
    write_2012(tmp_path / "a.root", PROCESSES_2012["TTbar"])
    (tmp_path / "a.yaml").write_text(f"datasets:\n  {lines}\n")
    done = RUN.invoke(nanoml, ["config", "check", str(tmp_path / "a.yaml")])
    assert done.exit_code
    assert complaint in str(done.exception), json.dumps(done.output)
