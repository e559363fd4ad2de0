"""What is blind by the configuration and by the log of unblindings, and what a log that changed is worth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML import dependencies
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.blinding import BlindBins, share_in
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal import progress
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Stamp
from MLTools.NanoML.workflow.unblinding import DataFile, as_it_is, blinded, places_of, record_declared, unblind
from services.blinding import unblind_all

TEXT = """
workdir: search
datasets:
  WZ: {files: x.root, class: WZ}
  ZZ: {files: y.root, class: ZZ}
  Muon: {files: [z.root, e.root], data: true}
regions: {SR: MET > 100, CR: MET < 100}
skim: {selection: "mine.py:Mine"}
convert: {features: [MET]}
train: {model: mlp, regions: [SR]}
"""
SELECTION = """
from MLTools.NanoML.selection import Selection
import helper

class Mine(Selection):
    branches = ["MET"]

    def select(self, events, cutflow):
        return cutflow.cut("high", events.MET > helper.LEAST, events), {}
"""


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is printed once."""
    notes: dict[str, str] = {}
    monkeypatch.setattr(progress, "_notes", notes)
    return notes


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    directory = tmp_path / "here"
    (directory / "search/training").mkdir(parents=True)
    (directory / "a.yaml").write_text(TEXT)
    (directory / "mine.py").write_text(SELECTION)
    (directory / "helper.py").write_text("LEAST = 20\n")
    for name in "xyzew":
        (directory / f"{name}.root").write_text(f"events of {name}")
    (directory / "search/training/network_0.pt").write_bytes(b"weights")
    return directory / "a.yaml"


def blind_in(path: Path) -> dict[Any, float]:
    return dict(blinded(load(path)).shares)


SR, CR = ("SR", None), ("CR", None)


def log(path: Path) -> Path:
    return Layout.of(load(path)).unblinded


@pytest.mark.parametrize(
    ("old", "new", "blind"),
    [
        *(("", "", ["SR", "CR"]), ("train: {model: mlp, regions: [SR]}", "", ["SR", "CR"])),
        *(("", "blind: {signal_over_root_background: 0.3}", ["SR", "CR"]), ("", "blind:", ["SR", "CR"])),
        *(("", "blind: {regions: [SR]}", ["SR"]), ("", "blind: none", [])),
        ("  Muon: {files: [z.root, e.root], data: true}\n", "", []),
        ("regions: {SR: MET > 100, CR: MET < 100}\n", "", ["all"]),
    ],
)
def test_all_regions_are_blind_unless_it_says_which(analysis: Path, old: str, new: str, blind: list[str]) -> None:
    text = TEXT.replace(old, new) if old else f"{TEXT}{new}\n"
    analysis.write_text(text if "regions: {SR" in text else text.replace(", regions: [SR]", ""))
    assert blind_in(analysis) == {(region, None): 0 for region in blind}
    assert blinded(load(analysis)).hidden == ({"Muon"} if blind else set())


ERAS = (
    TEXT.replace("[z.root, e.root]", "z.root")
    .replace("root,", "root, era: 2018,")
    .replace("workdir", "eras: {2017: {}, 2018: {}, 2022: {}}\nworkdir")
    .replace("regions:", "  EGamma: {files: e.root, data: true, era: 2017}\nregions:", 1)
)


def test_regions_are_blind_in_each_era_with_data(analysis: Path) -> None:
    analysis.write_text(ERAS)
    config = load(analysis)
    assert places_of(config) == [(region, era) for region in ("SR", "CR") for era in ("2018", "2017")]
    place = ("SR", "2018")
    unblind(config, as_it_is(config, [place]).values(), "it is final", "", fraction=0.1)
    found = blinded(load(analysis))
    assert found.shares == {**dict.fromkeys(places_of(config), 0), place: 0.1}
    assert found.in_eras(["2018"]) == {"SR": 0.1, "CR": 0}
    assert found.in_eras(["2018", "2017"]) == {"SR": 0, "CR": 0}
    assert found.in_eras(["2022"]) == {}
    unblind(config, as_it_is(config, [place, ("CR", "2018")]).values(), "it is final", "")
    found = blinded(load(analysis))
    assert found.in_eras(["2018"]) == {}
    assert found.hidden == {"EGamma"}
    assert [found.state(it) for it in places_of(config)] == ["", "blind", "", "blind"]


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        *(("a.yaml", "MET > 100", "MET > 90", "cut"), ("mine.py", '"high"', '"higher"', "selection")),
        *(("helper.py", "20", "30", "selection"), ("a.yaml", 'Mine"}', 'Mine", cut: MET > 1}', "selection")),
        ("a.yaml", "regions", "  JetHT: {files: w.root, data: true}\nregions", "selection and the data (w.root)"),
        ("a.yaml", "data: true", "data: true, triggers: HLT_Mu50", "selection"),
        *(("z.root", "events", "others", "data (z.root)"), ("a.yaml", "[z.root, e.root]", "z.root", "data (e.root)")),
        ("a.yaml", "[z.root, e.root]", "[z.root, w.root]", "data (w.root, e.root)"),
        ("a.yaml", "[z.root, e.root]", "[z.root, e.root, w.root]", "data (w.root)"),
        ("search/training/network_0.pt", "weights", "others", "model"),
        ("a.yaml", "regions: [SR]", "regions: [SR], discriminants: {score: WZ}", "model"),
    ],
)
def test_what_changes_is_blind(analysis: Path, said: dict[str, str], file: str, old: str, new: str, what: str) -> None:
    entry = unblind_all(load(analysis))
    assert blind_in(analysis) == {}
    path = analysis.parent / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert blind_in(analysis) == ({SR: 0} if what == "cut" else {SR: 0, CR: 0})
    places = "SR" if what == "cut" else "SR, CR"
    text = f"{places}: blind again, since the {what} changed after this was {entry}. `nanoml unblind` shows it again."
    assert [*said.values()] == [text]
    unblind_all(load(analysis))
    assert blind_in(analysis) == {}
    path.write_text(path.read_text().replace(new, old))
    assert blind_in(analysis) == {}  # as it was at first


def test_what_is_the_same_stays_unblinded(analysis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unblind_all(load(analysis))
    analysis.write_text("# a comment\n" + TEXT.replace("MET > 100", " MET  >100"))
    (analysis.parent / "mine.py").write_text(SELECTION.replace("\nclass", "# a comment\nclass"))
    assert blind_in(analysis) == {}
    moved = Path(shutil.copytree(analysis.parent, tmp_path / "there", copy_function=shutil.copyfile)) / "a.yaml"
    shutil.rmtree(analysis.parent)  # with other times and inodes
    assert blind_in(moved) == {}
    (moved.parent / "z.root").rename(moved.parent / "e.root.again")
    moved.write_text(TEXT.replace("[z.root, e.root]", "[e.root, e.root.again]"))
    assert blind_in(moved) == {}  # the same files, with other names and in another order
    moved.write_text(TEXT)
    (moved.parent / "e.root.again").rename(moved.parent / "z.root")
    ours = dependencies.files_behind("MLTools.NanoML.selection")["MLTools.NanoML.selection"]
    syntax = dependencies._Syntaxes.of

    def another_version(self: Any, path: Path) -> Any:
        found = syntax(self, path)
        return found._replace(hash="new") if ours.parents[1] in path.parents else found

    monkeypatch.setattr(dependencies._Syntaxes, "of", another_version)
    assert blind_in(moved) == {}
    moved.write_text(TEXT.replace("CR:", "VR: MET > 100, CR:"))
    assert blind_in(moved) == {("VR", None): 0}  # the same events, by another name
    assert blinded(load(moved), is_retrained=True).shares.keys() == {SR, CR, ("VR", None)}


def edited(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.write_text(path.read_text()[:-40]), "damaged"),
        *((lambda path: path.write_text(""), "damaged"), (lambda path: path.write_bytes(b"\xff\xfe"), "damaged")),
        *((lambda path: path.write_text("[1]"), "damaged"), (lambda path: path.write_text("[" * 100_000), "damaged")),
        (lambda path: path.write_text('{"schema": 3, "unblinded": [], "data": {}}'), "damaged"),
        (lambda path: path.write_text('{"schema": 3, "unblinded": [{}], "data": {}}'), "damaged"),
        (lambda path: edited(path, lambda it: it.update(schema=4)), "damaged"),
        (lambda path: edited(path, lambda it: it.update(schema=0)), "damaged"),
        (lambda path: edited(path, lambda it: it.pop("schema")), "damaged"),
        (lambda path: edited(path, lambda it: it.update(unblinded=it["unblinded"][0])), "damaged"),
        (lambda path: edited(path, lambda it: it["unblinded"][0].update(opened=[])), "damaged"),
        (lambda path: edited(path, lambda it: it["unblinded"][0].update(fraction="1")), "damaged"),
        (lambda path: edited(path, lambda it: it["unblinded"][0].pop("who")), "damaged"),
        (lambda path: edited(path, lambda it: it["unblinded"][0]["opened"][0].update(region="CR")), "damaged"),
        (lambda path: edited(path, lambda it: next(iter(it["data"].values()))["files"].pop()), "damaged"),
        (lambda path: path.write_text('{"schema": 1, "unblinded": [{"who": "me", "at": "", "because": "", "expected": ""}]}'), "older"),
        (lambda path: edited(path, lambda it: it.update(schema=2)), "older"),
    ],
)  # fmt: skip
def test_a_damaged_log_permits_nothing(analysis: Path, said: dict[str, str], damage: Any, what: str) -> None:
    config = load(analysis)
    unblind(config, as_it_is(config, [SR]).values(), "it is final", "")
    assert blind_in(analysis) == {CR: 0}
    damage(log(analysis))
    found = blinded(load(analysis))
    assert (found.shares, found.log) == ({SR: 0, CR: 0}, ())
    (text,) = said.values()
    about = {"older": "was written by an older NanoML, which did not note", "damaged": "is damaged, was edited"}
    assert text.startswith(f"{log(analysis)}: {about[what]}")
    analysis.write_text(TEXT + "blind: none")
    if what == "older":  # it is kept beside the new one
        unblind_all(config)
        assert json.loads(log(analysis).with_suffix(".old.json").read_text())["schema"] < 3
        return
    for again in (unblind_all, record_declared):
        with pytest.raises(NanoMLError, match="unblinded.json: is damaged"):
            again(load(analysis))


def test_a_log_of_another_analysis_permits_nothing(analysis: Path) -> None:
    unblind_all(load(analysis))
    other = analysis.with_name("b.yaml")
    other.write_text(TEXT.replace("search", "other"))
    shutil.copytree(analysis.parent / "search", analysis.parent / "other")
    assert blind_in(other) == {SR: 0, CR: 0}


def test_what_the_file_declares_is_noted_once_and_holds_only_there(analysis: Path) -> None:
    def entries() -> list[Any]:
        record_declared(load(analysis))
        return json.loads(log(analysis).read_text())["unblinded"] if log(analysis).exists() else []

    assert entries() == []
    analysis.write_text(TEXT + "blind: none")
    ((first,), second) = (entries(), entries())
    assert second == [first]
    assert (first["because"], first["is_declared"]) == ("blind: none", True)
    assert [(it["region"], it["cut"]) for it in first["opened"]] == [("SR", "MET>100"), ("CR", "MET<100")]
    analysis.write_text(TEXT.replace("CR:", "VR: MET < 50, CR:") + "blind: none")
    assert len(entries()) == 2
    analysis.write_text(TEXT)
    assert blind_in(analysis) == {SR: 0, CR: 0}


FIT = "histogram: {MET: {bins: [3, 0, 300]}}\nfit: {channels: {SR: MET}, "
NORMALISED = TEXT.replace("class:", "cross_section: 2, class:") + "luminosity: 3\n"


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        (NORMALISED.replace("class: WZ", "class: signal"), "signal"),
        (NORMALISED.replace("mlp,", "mlp, signal: ZZ,"), "ZZ"),
        (NORMALISED + FIT + "signals: {a: [ZZ], b: WZ}}\n", "ZZ+WZ"),
        (NORMALISED, None),  # no class is meant to be a signal
        (TEXT.replace("class: WZ", "class: signal"), None),  # nobody knows how many events are expected
    ],
)
def test_bins_are_blind_by_the_expected_signal(analysis: Path, text: str, signal: str | None) -> None:
    analysis.write_text(text + "blind: {regions: [SR]}")
    found = blinded(load(analysis))
    first, *others = (signal or "").split("+")
    assert found.bins == (BlindBins(first, 0.5, tuple(others)) if signal else None)
    assert found.state(CR) == ("blind in bins with an expected S / sqrt(B) above 0.5" if signal else "")
    config = load(analysis)
    now = as_it_is(config, [CR]).values()
    unblind(config, now, "a part is none of whole bins", "", fraction=0.1)
    assert CR not in blinded(load(analysis)).opened
    unblind(config, as_it_is(config, [SR]).values(), "all of it", "")
    found = blinded(load(analysis))  # events in all of CR would tell how many its blind bins have
    assert (found.shares, found.hidden) == ({}, {"Muon"} if signal else set())
    unblind(config, now, "all of it", "")
    assert blinded(load(analysis)).state(CR) == ""
    analysis.write_text(text + "blind: {signal_over_root_background: null}")
    assert blinded(load(analysis)).bins is None


def test_files_are_the_same_by_content_as_far_as_it_is_known() -> None:
    one = DataFile("Muon", Stamp("root://a.ch//store/data/x.root", 100, content="hash"), "uuid", 9)
    other = replace(one, stamp=Stamp("root://b.ch//store/data/x.root"))  # the server says nothing
    assert one.name == other.name == ("Muon", "/store/data/x.root")
    assert one.is_copy_of(other)
    assert one.is_copy_of(replace(one, stamp=Stamp("/here/y.root", 100, content="hash")))
    stamps = ({"stamp": replace(one.stamp, size=99)}, {"stamp": replace(one.stamp, content="other")})
    for change in ({"uuid": "other"}, {"events": 8}, {"dataset": "JetHT"}, *stamps):
        assert not one.is_copy_of(replace(one, **change))  # type: ignore[arg-type]
    assert not replace(other, uuid="").is_copy_of(replace(other, uuid=""))  # nothing is known


def test_a_class_from_blind_data_is_hidden(analysis: Path) -> None:
    driven = "data_driven: {fakes: {from: Muon, region: CR, weight: 0.2, into: {SR: 1}}}\n"
    analysis.write_text(TEXT + driven + "blind: {regions: [SR]}\n")
    assert blinded(load(analysis)).hidden == {"Muon", "fakes_from_Muon"}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("other.onnx", "train:", "score: {model: [other.onnx]}\ntrain:"),
        ("golden.json", 'mine.py:Mine"', 'mine.py:Mine", certified: golden.json'),
    ],
)
def test_another_model_or_certification_is_another_analysis(analysis: Path, name: str, old: str, new: str) -> None:
    (analysis.parent / name).write_text("{}")
    analysis.write_text(TEXT.replace(old, new))
    unblind_all(load(analysis))
    assert blind_in(analysis) == {}
    (analysis.parent / name).write_text('{"1": [[1, 2]]}')
    assert blind_in(analysis) == {SR: 0, CR: 0}


def test_an_event_of_several_regions_has_the_least_of_their_shares() -> None:
    inside = {"SR": np.array([True, True, False]), "VR": np.array([True, False, True]), "CR": np.ones(3, bool)}
    for shares in ({"SR": 0.1, "VR": 0.5}, {"VR": 0.5, "SR": 0.1}):
        found: dict[str, Any] = {it: share_in(it, shares, inside.get) for it in inside}
        seen = {it: found[it][flags].tolist() for it, flags in inside.items()}
        assert seen == {"SR": [0.1, 0.1], "VR": [0.1, 0.5], "CR": [0.1, 0.1, 0.5]}
