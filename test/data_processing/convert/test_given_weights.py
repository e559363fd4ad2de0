"""Weights that a selection gives, from the events of a file to the weights of training."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot

from conftest import ROOT
from data_processing.convert.convert import ConvertJob, Sample, convert_files
from data_processing.convert.validation import validate_file
from data_processing.skim.nanoaodtools_engine import postprocess_file
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata, read_metadata
from MLTools.NanoML.corrections import Corrections
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo, load_selection
from processes import nanoml
from services.nanoaodtools import loop, needs_nanoaodtools
from services.rootfiles import record_of
from services.shifted import rewritten

Converted = tuple[np.ndarray, HDF5Metadata]

ERA = ROOT / "examples" / "corrections" / "2018.yaml"
INFO = DatasetInfo("WZ", "2018", corrections_file=str(ERA))
SELECTION = """
import awkward as ak
import numpy as np
from MLTools.NanoML.corrections.weights import btag_shape
from MLTools.NanoML.selection import Column, Selection, Weight


class Weighted(Selection):
    branches = ("Muon_pt", "Muon_eta", "Jet_pt", "Jet_eta", "Jet_btagDeepFlavB")
    simulated = ("Jet_hadronFlavour", "Pileup_nTrueInt")
    columns = {"nLoose": Column("i4", "number of muons")}
    weights = {
        "pileup": Weight(),
        "muon_id": Weight(combine="envelope"),
        "btag": Weight(("hf_up", "hf_down", "cferr1_up", "cferr1_down"), keeps_yield=True, bins="number of jets"),
    }

    def select(self, events, cutflow):
        c = self.dataset.corrections
        cutflow.weigh("pileup", lambda: c.pileup(events.Pileup.nTrueInt))
        muons = events.flat("Muon")
        muons = muons.keep((muons.pt > 15) & (abs(muons.eta) < 2.4))
        events, muons = cutflow.cut("a muon", muons.counts > 0, events, muons)
        cutflow.weigh("muon_id", lambda: c.muon_id(muons.eta, muons.pt).product(muons))
        jets = events.Jet[(events.Jet.pt > 25) & (abs(events.Jet.eta) < 2.5)]
        cutflow.weigh("btag", lambda: btag_shape(
            c.btag, jets.hadronFlavour, jets.eta, jets.pt, jets.btagDeepFlavB, ["hf", "cferr1"]).product(), ak.num(jets))
        none = ak.all(jets.btagDeepFlavB < 0.3, axis=1)
        events, muons = cutflow.cut("no b jet", none, events, muons)
        return events, {"nLoose": muons.counts}
"""
EVENTS = 2600
VARIATIONS = ["pileupUp", "pileupDown", "muon_idUp", "muon_idDown"]
VARIATIONS += [f"btag_{source}{direction}" for source in ("hf", "cferr1") for direction in ("Up", "Down")]


def sources(sample: Path) -> list[Path]:
    return sorted((sample / "WZTo3LNu_Pt100").glob("*.root"))[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("weights")
    (directory / "weighted.py").write_text(SELECTION)
    return directory


@pytest.fixture(scope="module")
def skims(folder: Path, sample: Path) -> list[str]:
    found = []
    for source in sources(sample):
        job = SkimJob(str(source), folder / source.name, "weighted.py:Weighted", str(folder), ("MET_pt",), dataset=INFO)
        skim_file(replace(job, chunk=700))
        found.append(str(job.output))
    return found


def convert(sources: list[str], output: Path) -> Converted:
    job = ConvertJob(sources, output, ["MET_pt"], {}, Sample("WZ", "WZ", 0.0546), ["WZ"], 59.8)
    metadata = convert_files(job)
    with h5py.File(output) as file:
        return file["events"][:], metadata


@pytest.fixture(scope="module")
def converted(folder: Path, skims: list[str]) -> Converted:
    events, metadata = convert(skims, folder / "wz.h5")
    assert read_metadata(folder / "wz.h5") == metadata
    assert not validate_file(folder / "wz.h5", False).faults
    return events, metadata


@pytest.fixture(scope="module")
def expected(sample: Path) -> dict[str, Any]:
    """All events with a muon of all files: their weights by plain evaluation, and which of them have no b jet."""
    c = Corrections.read(ERA)
    # most numbers are asked for several times
    value = functools.cache(lambda name, *inputs: getattr(c, name).correction(*inputs))
    found: dict[str, list[float]] = {name: [] for name in ("generator", "jets", "passed", "nominal", *VARIATIONS)}
    parts: dict[str, list[float]] = {name: [] for name in ("pileup", "muon_id", "btag", *VARIATIONS)}
    for source in sources(sample):
        names = ["Muon_pt", "Muon_eta", "Jet_pt", "Jet_eta", "Jet_hadronFlavour", "Jet_btagDeepFlavB"]
        with uproot.open(source) as file:
            events = file["Events"].arrays([*names, "Pileup_nTrueInt", "genWeight"])
        for event in events.to_list():
            muons = [(p, e) for p, e in zip(event["Muon_pt"], event["Muon_eta"]) if p > 15 and abs(e) < 2.4]
            if not muons:
                continue
            jets = [jet for jet in zip(*(event[name] for name in names[2:])) if jet[0] > 25 and abs(jet[1]) < 2.5]
            pile = {key: value("pileup", event["Pileup_nTrueInt"], key) for key in ("nominal", "up", "down")}
            keys = {"nominal": "nominal", "up": "systup", "down": "systdown"}
            muon = {key: np.prod([value("muon_id", eta, pt, name) for pt, eta in muons]) for key, name in keys.items()}

            def btag(source: str, direction: str, jets: Any = jets) -> float:
                concerned = {"cferr1": (4,), "hf": (0, 5), "": ()}[source]
                return float(np.prod([
                    value("btag", f"{direction}_{source}" if flavour in concerned else "central", flavour, abs(eta), pt, score)
                    for pt, eta, flavour, score in jets
                ]))  # fmt: skip

            found["generator"].append(event["genWeight"])
            found["jets"].append(len(jets))
            found["passed"].append(all(jet[3] < 0.3 for jet in jets))
            parts["pileup"].append(pile["nominal"])
            parts["muon_id"].append(muon["nominal"])
            parts["btag"].append(btag("", ""))
            for direction in ("up", "down"):
                parts[f"pileup{direction.capitalize()}"].append(pile[direction])
                parts[f"muon_id{direction.capitalize()}"].append(muon[direction])
                for each in ("hf", "cferr1"):
                    parts[f"btag_{each}{direction.capitalize()}"].append(btag(each, direction))
    values = {name: np.array(each) for name, each in parts.items()}
    before = np.array(found["generator"]) * values["pileup"] * values["muon_id"]
    number = np.array(found["jets"])
    for name in ("btag", *(each for each in VARIATIONS if each.startswith("btag"))):
        for many in np.unique(number):
            here = number == many
            values[name][here] *= before[here].sum() / (before[here] * values[name][here]).sum()
    return {**values, "generator": np.array(found["generator"]), "jets": number, "passed": np.array(found["passed"])}


def test_the_weight_of_an_event_has_all_weights_of_which_a_variation_replaces_one(
    converted: Converted, expected: dict[str, Any]
) -> None:
    events, _ = converted
    passed, names = expected["passed"], ("pileup", "muon_id", "btag")
    generator = 0.0546 * 1000 * 59.8 / EVENTS * expected["generator"]
    correction = expected["pileup"] * expected["muon_id"] * expected["btag"]
    assert np.allclose(events["correction"], correction[passed], rtol=2e-6)
    assert np.allclose(events["weight"], (generator * correction)[passed], rtol=2e-6)
    for variation in VARIATIONS:
        varied = next(name for name in names if variation.startswith(name))
        others = np.prod([expected[name] for name in names if name != varied], axis=0)
        wanted = (generator * expected[variation] * others)[passed]
        assert np.allclose(events[f"weight_{variation}"], wanted, rtol=2e-6), variation


def test_the_metadata_say_what_weights_there_are(converted: Converted) -> None:
    _, metadata = converted
    weights = [(each.name, each.normalised, each.combine) for each in metadata.weights]
    assert weights == [("pileup", False, ""), ("muon_id", False, "envelope"), ("btag", True, "")]
    assert metadata.weights[0].variations == {"up": "weight_pileupUp", "down": "weight_pileupDown"}
    assert [each.weight for each in metadata.datasets[0].accounting.files[0].weights] == ["pileup", "muon_id", "btag"]


def test_a_skim_of_a_skim_keeps_the_weights(folder: Path, skims: list[str], converted: Converted) -> None:
    again = []
    for path in skims:
        job = SkimJob(path, folder / "again" / Path(path).name, cut="MET_pt > 0", keep=("MET_pt", "drop weight_*"))
        skim_file(job)
        again.append(str(job.output))
    events, metadata = convert(again, folder / "again.h5")
    assert metadata.weights == converted[1].weights
    assert np.array_equal(events, converted[0])


def test_a_weight_that_was_dropped_is_missed(folder: Path, skims: list[str]) -> None:
    with RootFile(skims[0]) as file:
        names = [name for name in file.branches if not name.startswith("weight_muon")]
    path = rewritten(skims[0], folder / "dropped.root", names)
    with pytest.raises(NanoMLError, match="have the weight weight_muon_id, but that branch was dropped. Skim again"):
        convert_files(ConvertJob([str(path)], folder / "x.h5", ["MET_pt"], sample=Sample("WZ")))


def test_an_event_loop_gives_the_same_weights(folder: Path, skims: list[str], sample: Path) -> None:
    selection = load_selection("weighted.py:Weighted", folder).of_dataset(INFO)
    source = sources(sample)[0]
    found = loop([PostprocModule(selection, 300)], source)
    with uproot.open(skims[0]) as file:
        tree = file["Events"]
        names = [name for name in tree.keys() if name.startswith("weight_")]
        assert len(names) == 3 + 8 + 1
        for name in names:
            assert [row[name] for _, row in found] == tree[name].array().tolist()


def test_data_have_the_weight_1(folder: Path, made_files: dict[str, Path]) -> None:
    (folder / "of_data.py").write_text(SELECTION.replace("btagDeepFlavB", "btagDeepB"))
    source = str(made_files["made_v9_data"])
    job = SkimJob(source, folder / "data.root", "of_data.py:Weighted", str(folder), ("MET_pt",))
    skim_file(job)
    with uproot.open(job.output) as file:
        tree = file["Events"]
        weights = [name for name in tree.keys() if name.startswith("weight_") and not name.endswith("_bin")]
        assert len(weights) == 11
        assert tree.num_entries
        assert all((tree[name].array(library="np") == 1).all() for name in weights)
    record = record_of(job.output)
    assert all(each.ratio("nominal") == dict.fromkeys(each.without, 1.0) for each in record.accounting.weights)


@needs_nanoaodtools
def test_nanoaodtools_give_the_same_weights_and_sums(folder: Path, skims: list[str], sample: Path) -> None:
    source = sources(sample)[0]
    job = SkimJob(
        str(source), folder / "postprocessed.root", "weighted.py:Weighted", str(folder), ("MET_pt",), dataset=INFO,
        engine="nanoaodtools",
    )  # fmt: skip
    theirs = postprocess_file(job).weights
    record = record_of(skims[0])
    assert len(theirs) == len(record.accounting.weights)
    for one, other in zip(theirs, record.accounting.weights):
        assert replace(one, without={}, sums={}) == replace(other, without={}, sums={})
        assert one.without == pytest.approx(other.without)
        for variation, sums in one.sums.items():
            assert sums == pytest.approx(other.sums[variation])
    with uproot.open(job.output) as out, uproot.open(skims[0]) as skim:
        for name in (name for name in skim["Events"].keys() if name.startswith("weight_")):
            assert np.array_equal(out["Events"][name].array(), skim["Events"][name].array())


def test_skims_with_other_corrections_do_not_go_together(folder: Path, skims: list[str]) -> None:
    other = DatasetInfo("WZ", "2022", corrections_file=str(ERA.with_name("2022.yaml")))
    record = record_of(skims[0])
    assert record.criteria.corrections == Corrections.read(ERA).digests
    source = record.accounting.files[0].file
    job = SkimJob(source, folder / "other.root", "weighted.py:Weighted", str(folder), ("MET_pt",), dataset=other)
    skim_file(job)
    with pytest.raises(NanoMLError, match=r"was corrected by 2022/pileup.json, .* was corrected by 2018/pileup.json"):
        convert_files(ConvertJob([skims[1], str(job.output)], folder / "both.h5", ["MET_pt"], sample=Sample("WZ")))


def test_inspections_show_the_weights(folder: Path, skims: list[str], converted: Converted) -> None:
    for path in (skims[0], folder / "wz.h5"):
        shown = nanoml("inspect", path, cwd=folder).stdout
        assert re.search(r"btag +a muon +[\d.]+ +hf_up [\d.]+, hf_down [\d.]+, cferr1_up", shown)
        assert "(before it is normalised)" in " ".join(shown.split())
    found = json.loads(nanoml("inspect", "--json", skims[0], cwd=folder).stdout)
    assert '"weight": "btag", "cut": "a muon", "keeps_yield": true' in json.dumps(found)
