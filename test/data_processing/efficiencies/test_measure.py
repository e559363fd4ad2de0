from __future__ import annotations

import json
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from conftest import ROOT

from MLTools.NanoML.corrections import CorrectionFile, Factor
from MLTools.NanoML.corrections.weights import btag_working_point
from processes import nanoml

SELECTION = """
import awkward as ak
from MLTools.NanoML.corrections.weights import btag_working_point
from MLTools.NanoML.selection import Column, Factor, Selection, Weight


class Tagged(Selection):
    branches = ("Jet_pt", "Jet_eta", "Jet_btagDeepFlavB", "Muon_pt")
    simulated = ("Jet_hadronFlavour",)
    columns = {"nTagged": Column("i4", "number of b jets")}
    weights = {"btag": Weight(())}

    def prepare(self, events):
        self.dataset.corrections.pileup  # so that the file is read
        return events

    def select(self, events, cutflow):
        c, jets = self.dataset.corrections, events.Jet[events.Jet.pt > 25]
        tagged = jets.btagDeepFlavB > 0.3
        cutflow.count_efficiency("medium", jets, tagged)

        def weight():
            e = c.medium(self.dataset.name, jets.hadronFlavour, abs(jets.eta), jets.pt).nominal
            return btag_working_point(Factor(0 * jets.pt + 0.9), e, tagged).product()

        cutflow.weigh("btag", weight)
        return events, {"nTagged": ak.sum(tagged, axis=1)}


class Silent(Tagged):
    def select(self, events, cutflow):
        cutflow.weigh("btag", lambda: [1.0] * len(events))
        return events, {"nTagged": [0] * len(events)}
"""
ENTRY = "medium: {file: efficiencies_2018.json, name: medium}"
ANALYSIS = """
eras:
  2018: {{luminosity: 59.8, corrections: corrections.yaml}}
datasets:
  WZ: {{files: [{0}/WZTo3LNu_Pt100/*_0.root, {0}/WZTo3LNu/*_1.root], era: 2018, class: boson, cross_section: 1}}
  ZG: {{files: {0}/ZGToLLG_PtG100/*_0.root, era: 2018, class: boson, cross_section: 1}}
skim: {{selection: "my_selection.py:Tagged"}}
convert: {{features: [nTagged]}}
"""


@pytest.fixture
def analysis(tmp_path: Path, sample: Path) -> Path:
    (tmp_path / "my_selection.py").write_text(SELECTION)
    pileup = ROOT / "examples" / "corrections" / "2018" / "pileup.json"
    (tmp_path / "corrections.yaml").write_text(f"pileup: {{file: {pileup}, name: Collisions}}\n{ENTRY}\n")
    (tmp_path / "analysis.yaml").write_text(ANALYSIS.format(sample))
    return tmp_path


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(folder: Path, *options: str) -> str:
    done = nanoml("efficiencies", "analysis.yaml", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def jets_of(*paths: Path) -> dict[str, np.ndarray]:
    names = [f"Jet_{name}" for name in ("pt", "eta", "btagDeepFlavB", "hadronFlavour")]
    arrays = [uproot.open(path)["Events"].arrays(names) for path in paths]
    flat = {name[4:]: ak.to_numpy(ak.flatten(ak.concatenate([each[name] for each in arrays]))) for name in names}
    return {name: values[flat["pt"] > 25] for name, values in flat.items()}


def test_efficiencies_are_those_of_the_jets_and_the_weight_keeps_their_number(analysis: Path, sample: Path) -> None:
    said = run(analysis, "--least", "50", "--pt", "25,50,100")
    assert "medium, WZ: b " in said
    assert "For corrections.yaml" not in said  # it has the entry
    medium = CorrectionFile(analysis / "efficiencies_2018.json")["medium"]
    jets = jets_of(
        *sorted((sample / "WZTo3LNu_Pt100").glob("*_0.root")), *sorted((sample / "WZTo3LNu").glob("*_1.root"))
    )
    light = jets["hadronFlavour"] == 0
    pt, eta = jets["pt"][light].astype(float), abs(jets["eta"][light].astype(float))
    tagged = jets["btagDeepFlavB"][light] > 0.3
    found = medium("WZ", 0, eta, pt)
    for low, high in ((0.0, 0.8), (0.8, 1.6), (1.6, 9.0)):
        for least, most in ((25, 50), (50, 1e9)):
            mine = (eta >= low) & (eta < high) & (pt >= least) & (pt < most)
            assert mine.sum() > 50
            assert np.allclose(found[mine], tagged[mine].mean())
    factor = btag_working_point(Factor(np.full(len(pt), 0.9)), found, tagged).nominal
    assert np.isclose(factor.sum(), len(pt))
    skimmed = nanoml("run", "analysis.yaml", "--to", "skim", cwd=analysis)
    assert skimmed.returncode == 0, skimmed.stderr
    assert "up to date" in run(analysis, "--least", "50", "--pt", "25,50,100")


def test_a_dry_run_makes_nothing(analysis: Path) -> None:
    said = run(analysis, "--dry-run")
    assert "efficiencies: 3 of 3 to do" in said
    assert "efficiencies_2018.json: WZ, ZG" in said
    made = {path.name for path in analysis.rglob("*") if path.suffix == ".json"}
    assert made == set()


def test_datasets_may_share_their_efficiencies(analysis: Path) -> None:
    assert "medium, boson: b" in run(analysis, "--per", "class")
    shared = CorrectionFile(analysis / "efficiencies_2018.json")["medium"]
    assert shared("WZ", 0, 0.5, 50.0) == shared("ZG", 0, 0.5, 50.0)
    changed(analysis / "analysis.yaml", "ZG: {files", "ZZ: {files")
    assert "medium, all datasets: b" in run(analysis, "--per", "era")
    assert list(CorrectionFile(analysis / "efficiencies_2018.json")["medium"].axes["dataset"].choices) == ["WZ", "ZZ"]


def test_what_the_corrections_lack_is_said(analysis: Path) -> None:
    changed(analysis / "corrections.yaml", ENTRY, "")
    said = run(analysis)
    assert "corrections.yaml:\n    medium_efficiency: {file: efficiencies_2018.json, name: medium}" in said
    changed(analysis / "corrections.yaml", "pileup:", f"{ENTRY.replace('name: medium', 'name: tight')}\npileup:")
    (analysis / "efficiencies_2018.json").unlink()
    assert "WARNING: medium of" in run(analysis)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Tagged", "Silent", "Silent counted no jets in WZ, ZG. Call `cutflow.count_efficiency"),
        (
            'skim: {selection: "my_selection.py:Tagged"}',
            "skim: {cut: nMuon > 1}",
            "analysis.yaml:7: skim: has no `selection`",
        ),
        ("my_selection.py:Tagged", "my_selection.py:Nothing", "has no class Nothing"),
        ("cross_section: 1", "data: true", "there is no simulation to measure efficiencies in"),
        ("Jet_pt", "Jet_p", "reads branches that this file lacks: Jet_p"),
    ],
)
def test_what_cannot_be_measured_is_an_error_and_leaves_nothing(
    analysis: Path, old: str, new: str, message: str
) -> None:
    file = analysis / ("my_selection.py" if old == "Jet_pt" else "analysis.yaml")
    file.write_text(file.read_text().replace(old, new).replace("class: boson, data: true", "data: true"))
    done = nanoml("efficiencies", "analysis.yaml", cwd=analysis)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert not (analysis / "efficiencies_2018.json").exists()


def test_files_that_cannot_be_read_may_be_left_out(analysis: Path, sample: Path) -> None:
    folder = analysis / "ZG"
    folder.mkdir()
    whole = (sample / "ZGToLLG_PtG100" / "ZGToLLG_PtG100_0.root").read_bytes()
    (folder / "good_0.root").write_bytes(whole)
    (folder / "bad_0.root").write_bytes(whole[:5000])
    changed(analysis / "analysis.yaml", f"{sample}/ZGToLLG_PtG100", str(folder))
    done = nanoml("efficiencies", "analysis.yaml", cwd=analysis)
    assert done.returncode == 1
    assert "bad_0.root" in done.stderr
    assert not (analysis / "efficiencies_2018.json").exists()
    said = run(analysis, "--max-missing-files", "1")
    assert "medium, ZG" in said
    assert json.loads((analysis / "efficiencies_2018.json").read_text())["corrections"]


def test_edges_of_bins_must_increase(analysis: Path) -> None:
    for wrong in ("50", "50,20", "20,a"):
        done = nanoml("efficiencies", "analysis.yaml", "--pt", wrong, cwd=analysis)
        assert (done.returncode, "as in 20,50,100" in done.stderr) == (2, True)
