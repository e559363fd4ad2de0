from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from printing import words

from MLTools.NanoML.commands.files import inspect as command
from MLTools.NanoML.contracts import hdf5 as contract
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import hdf5, inspect_file
from MLTools.NanoML.inspection.hdf5 import ColumnSummary
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.selection import Step

WEIGHTS = np.array([0.5, 1.5, -1.0, 2.0, 1.0], "f4")


def events(weight: str | None = "weight") -> np.ndarray:
    identifiers = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4")]
    rows = np.zeros(5, [*identifiers, *([(weight, "f4")] if weight else []), ("mass", "f4"), ("tight", "?")])
    rows["label"] = [0, 1, 1, -1, 0]
    if weight:
        rows[weight] = WEIGHTS
    rows["mass"] = [80, np.nan, 100, np.inf, 90]
    rows["tight"] = [True, False, True, True, True]
    return rows


def metadata(**changed: Any) -> dict[str, Any]:
    def column(name: str, dtype: str, title: str) -> dict[str, str]:
        return {"name": name, "dtype": dtype, "title": title, "source": "branch"}

    pt = column("pt", "float32", "")
    fields = [*(column(f"f{i}", "float32", "") for i in range(14)), pt]
    flow = [Step("all", 50, 50.0), Step("two muons", 5, 4.0)]
    of_weights = (25.0, "Runs/genEventSumw", False, flow)
    accounting = Accounting([FileAccounting(f"/store/mc/{i}.root", 25, 2 + i, *of_weights) for i in range(2)])
    dataset = {"name": "DY", "class": "WZ", "label": 1, "is_data": False}
    about = {
        "schema": 1,
        "creator": "NanoML 0.1.0",
        "classes": ["signal", "WZ", "ZG"],
        "selection": "my.selection:DiMuon",
    }
    content = {
        **about,
        "features": [column("mass", "float32", "mass [cm]"), column("tight", "bool", "")],
        "objects": {
            "Jet": {"max": 2, "order": "-pt", "fields": fields, "truncated": {"objects": 100, "lost": 71}},
            "Tau": {"max": 1, "order": None, "fields": [pt], "truncated": {"objects": 0, "lost": 0}},
        },
        "datasets": [{**dataset, "cross_section": 6077.0, "luminosity": 59.8, "books": accounting.to_json()}],
    }
    return {**content, **changed}


def write(path: Path, described: object = None, rows: np.ndarray | None = None) -> Path:
    with h5py.File(path, "w") as file:
        rows = events() if rows is None else rows
        options: dict[str, Any] = {"chunks": (2,), "compression": "gzip"} if len(rows) else {}
        file.create_dataset("events", data=rows, **options)
        for name in ("Jet", "Tau"):
            file[name] = np.zeros((len(rows), 2), [("pt", "f4"), ("valid", "?")])
        described = metadata() if described is None else described
        text = described if isinstance(described, str) else json.dumps(described)
        file.create_dataset("metadata", data=text, dtype=h5py.string_dtype())
    return path


def test_classes_are_counted(tmp_path: Path) -> None:
    content = inspect_file(write(tmp_path / "a.h5")).to_json()
    assert content["own"] is True
    assert content["warnings"] == []
    assert [*content["classes"][0]] == ["name", "label", "events", "weights"]
    rows = [tuple(each.values()) for each in content["classes"]]
    assert rows == [("signal", 0, 2, 1.5), ("WZ", 1, 2, 0.5), ("ZG", 2, 0, 0), (None, -1, 1, 2.0)]


@pytest.mark.parametrize(("weight", "total"), [("weight", 0.5), ("genWeight", 0.5), (None, 2.0)])
def test_the_weight_that_is_there_is_summed(tmp_path: Path, weight: str | None, total: float) -> None:
    found = inspect_file(write(tmp_path / "a.h5", rows=events(weight)))
    content = found.to_json()
    assert content["weight"] == weight
    assert content["classes"][1]["weights"] == total
    assert ("sum of genWeight" in words(found)) == (weight == "genWeight")


def test_features_are_summarised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inspect_file(write(tmp_path / "a.h5"))
    mass, tight = whole.to_json()["features"]
    assert (mass["min"], mass["mean"], mass["max"], mass["nan"], mass["infinite"]) == (80, 90, 100, 1, 1)
    assert (tight["min"], tight["mean"], tight["max"], tight["nan"]) == (0, 0.8, 1, 0)
    monkeypatch.setattr(contract, "_BLOCK", 1)
    assert inspect_file(tmp_path / "a.h5") == whole


def test_a_summary_does_not_depend_on_the_blocks() -> None:
    values = np.random.default_rng(0).normal(1000, 1, 999).astype("f4")
    one, many = ColumnSummary(), ColumnSummary()
    one.add(values)
    for block in np.array_split(values, 7):
        many.add(block)
    many.add(values[:0])
    assert (many.min, many.max) == (one.min, one.max) == (values.min(), values.max())
    assert many.mean == pytest.approx(values.astype("f8").mean(), rel=1e-14)


def test_long_work_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    inspect_file(write(tmp_path / "a.h5"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(hdf5, "_WORTH_A_BAR", 5)
    inspect_file(tmp_path / "a.h5")
    assert "inspect: 5 events" in capsys.readouterr().err


def test_all_of_it_is_shown(tmp_path: Path) -> None:
    found = inspect_file(write(tmp_path / "a.h5"))
    text = words(found)
    for said in (
        *("NanoML 0.1.0", "my.selection:DiMuon", "mass [cm]", "infinite", "71.00 %"),
        *("71 % of Jet lost: only 2 per event are stored.", "pt, f0, f1, f2,", "and 5 more", "as in the file"),
        *("Dataset DY", "6077 pb", "59.8 /fb", "50, 5 kept", "50 by Runs/genEventSumw", "Made from /store/mc/"),
        *("1.root", "two muons", "10.00 %"),
    ):
        assert said in text
    assert "of Tau lost" not in text
    assert "float32" not in text
    assert "float32" in words(found, 120)


def test_a_file_without_events(tmp_path: Path) -> None:
    flow = {**metadata()["datasets"][0], "books": Accounting([]).to_json()}
    found = inspect_file(write(tmp_path / "a.h5", metadata(datasets=[flow]), events()[:0]))
    content = found.to_json()
    assert content["features"][0]["mean"] is None
    assert content["warnings"] == []
    text = words(found)
    assert "0 files" in text
    assert "NaN" not in text


def test_bad_weights_are_told(tmp_path: Path) -> None:
    rows = events()
    rows["weight"][0] = np.nan
    found = inspect_file(write(tmp_path / "a.h5", rows=rows))
    content = found.to_json()
    assert content["classes"][0]["weights"] is None
    assert "some events have a bad weight" in content["warnings"][0]
    words(found)


def test_a_changed_file_is_doubted(tmp_path: Path) -> None:
    content = inspect_file(write(tmp_path / "a.h5", rows=events()[:4])).to_json()
    assert "has 4 events, but its accounting says 5" in content["errors"][0]
    assert CliRunner().invoke(command, [str(tmp_path / "a.h5")], standalone_mode=False).return_value == 1


@pytest.mark.parametrize(
    ("described", "message"),
    [
        *(("{", "cannot be understood"), (metadata(schema=3), "schema 3, this NanoML reads 1 to 2")),
        ({"schema": 1}, "cannot be understood .KeyError: 'creator'"),
        (metadata(features=[3]), "cannot be understood"),
        (metadata(objects={"Muon": metadata()["objects"]["Jet"]}), "lacks Muon, which it should have"),
        (metadata(features=[{"name": "gone", "dtype": "f4", "title": "", "source": "branch"}]), "lacks gone"),
    ],
)
def test_bad_metadata_are_explained(tmp_path: Path, described: object, message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        inspect_file(write(tmp_path / "a.h5", described))


def test_damaged_data_are_explained(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    with h5py.File(path) as file:
        chunk = file["events"].id.get_chunk_info(0)
    whole = path.read_bytes()
    begin, end = chunk.byte_offset, chunk.byte_offset + chunk.size
    assert whole.count(b"luminosityBlock") == 1
    for content in (
        whole[:begin] + bytes(chunk.size) + whole[end:],
        whole.replace(b"luminosityBlock", b"\xff" * 15),  # of a type
    ):
        path.write_bytes(content)
        with pytest.raises(NanoMLError, match=r"is damaged .*Make or fetch it again"):
            inspect_file(path)


def test_a_foreign_file_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5py.File(path, "w").close()
    assert inspect_file(path).to_json()["datasets"] == []
    words(inspect_file(path))
    with h5py.File(path, "w") as file:
        file["group/numbers"] = np.zeros((1000, 4), "f4")
        file["table"] = np.zeros(3, [("pt", "f4"), ("cov", "i4", (3, 3))])
        file["metadata"], file["events"] = "text", np.zeros(2)
        file["nothing"] = h5py.Empty("f4")
        file["broken"] = h5py.SoftLink("/nowhere")
        file.create_dataset("lists", (3,), h5py.vlen_dtype("f4"))
        file.create_dataset("pointers", (1,), h5py.ref_dtype)
        file.attrs["author"] = "me [bold]\nand you"
    found = inspect_file(path)
    content = found.to_json()
    assert content["own"] is False
    seen = {one["name"]: (one["shape"], one["dtype"]) for one in content["datasets"]}
    numbers = {"group/numbers": ([1000, 4], "float32"), "events": ([2], "float64"), "nothing": (None, "float32")}
    others = {"table": ([3], "compound"), "metadata": ([], "string"), "pointers": ([1], "reference")}
    assert seen == {**numbers, **others, "lists": ([3], "list of float32")}
    text = words(found)
    for said in ("not written by nanoml convert", "1,000 x 4", "cov int32[3, 3]", "single", "empty", "[bold] and you"):
        assert said in text


def test_a_conversion(made_files: dict[str, Path], tmp_path: Path) -> None:
    module = pytest.importorskip("data_processing.convert.convert")
    stored = pytest.importorskip("data_processing.convert.columns").StoredCollection
    source = made_files["made_v9_mc"]
    sample = module.Sample("DY", "Z", 6077.0)
    objects = {"Jet": stored(["pt", "eta"], 1), "Muon": stored([], 3)}
    job = module.ConvertJob([str(source)], tmp_path / "a.h5", ["MET_pt", "PV_npvs"], objects, sample, ["W", "Z"], 41.5)
    said = module.convert_files(job)
    found = inspect_file(job.output)
    content = found.to_json()
    assert content["warnings"] == []
    assert content["classes"][1]["events"] == content["events"] == 80
    with h5py.File(job.output) as file:
        rows = file["events"][:]
    assert content["classes"][1]["weights"] == pytest.approx(rows["weight"].astype("f8").sum())
    assert content["features"][0]["mean"] == pytest.approx(rows["MET_pt"].astype("f8").mean())
    assert content["objects"][0]["lost"] == said.objects["Jet"].truncated.lost > 0
    assert "of Jet lost" in words(found)
