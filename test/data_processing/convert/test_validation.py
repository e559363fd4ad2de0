from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from data_processing.convert import validation
from data_processing.convert.columns import StoredCollection, event_level_branches
from data_processing.convert.convert import ConvertJob, Sample, convert_files
from data_processing.convert.validation import validate_file
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.contracts import hdf5
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.rootio.rootfile import RootFile

Damage = Callable[[h5py.File], object]
CLASSES = ["signal", "WZ"]
JETS = StoredCollection(("pt", "eta", "nElectrons"), 3)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> dict[str, Path]:
    """An HDF5 file of signal, two of the same class of background, and one without cuts, class and weight."""
    directory = tmp_path_factory.mktemp("good")
    wanted = {
        "signal": ("WprimeToWZToLNuLL_M600/WprimeToWZToLNuLL_M600_0.root", Sample("signal", "signal", 0.01)),
        "WZ": ("WZTo3LNu_Pt100/WZTo3LNu_Pt100_0.root", Sample("WZ", "WZ", 0.0546)),
        "WZ2": ("WZTo3LNu_Pt100/WZTo3LNu_Pt100_1.root", Sample("WZ2", "WZ", 0.1)),
    }
    for name, (source, described) in wanted.items():
        skim, keep = directory / f"{name}.root", ("MET_*", "Jet_*")
        skim_file(SkimJob(str(sample / source), skim, "MLTools.NanoML.trilepton:Trilepton", keep=keep))
        features = ["ZCand_mass", "MET_pt"]
        output = directory / f"{name}.h5"
        convert_files(ConvertJob([str(skim)], output, features, {"Jet": JETS}, described, CLASSES, luminosity=59.8))
    plain = str(sample / wanted["WZ"][0])
    convert_files(ConvertJob([plain], directory / "plain.h5", ["MET_pt"]))
    return {path.stem: path for path in directory.glob("*.h5")}


def failed(path: Path, **options: Any) -> set[str]:
    return {check for check, _, _ in validate_file(path, **options).faults}


def checked(path: Path, *options: str) -> tuple[set[str], str]:
    """The checks that fail by `nanoml validate`, and what it says."""
    done = CliRunner().invoke(nanoml, ["validate", str(path), "--json", *options])
    (content,) = json.loads(done.output)
    assert done.exit_code == (0 if content["valid"] else 1)
    faults = [fault["message"] for check in content["checks"] for fault in check["faults"]]
    return {check["check"] for check in content["checks"] if check["status"] == "failed"}, "\n".join(faults)


def test_what_convert_writes_is_valid(good: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for path in good.values():
        found = validate_file(path)
        assert (found.faults, found.complete) == ({}, True)
    assert validate_file(good["WZ"]).skipped == {}
    assert {"weights", "sums", "order"} <= set(validate_file(good["plain"]).skipped)
    monkeypatch.setattr(hdf5, "_BLOCK", 1000)
    monkeypatch.setattr(validation, "_COMPARED_AT_ONCE", 50)
    assert failed(good["WZ"]) == set()


@pytest.mark.parametrize("name", ["made_v9_data", "made_v9_mc_zero_events", "made_v15_mc"])
def test_files_of_all_versions_are_valid(tmp_path: Path, made_files: dict[str, Path], name: str) -> None:
    with RootFile(made_files[name]) as file:
        features, _ = event_level_branches(file)
    objects = {"Muon": StoredCollection((), 2), "Jet": StoredCollection(("pt", "eta"), 30, "eta")}
    convert_files(ConvertJob([str(made_files[name])], tmp_path / "a.h5", features, objects))
    assert failed(tmp_path / "a.h5", allow_nan=True) == set()

    def lose(jets: dict[str, Any]) -> None:
        jets.update(truncated={"objects": jets["truncated"]["objects"] + 1, "lost": 1})

    damaged(tmp_path / "a.h5", described(lambda m: lose(m["objects"]["Jet"])))  # where no list is full
    assert failed(tmp_path / "a.h5", allow_nan=True) == {"truncated"}


def put(dataset: str, field: str, value: Any, *rows: int) -> Damage:
    def damage(file: h5py.File) -> None:
        content = file[dataset][:]
        for row in rows:
            content[field][row] = value
        file[dataset][:] = content

    return damage


def described(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(file: h5py.File) -> None:
        content = json.loads(file["metadata"][()])
        change(content)
        del file["metadata"]
        file["metadata"] = json.dumps(content)

    return damage


def dataset(change: Callable[[dict[str, Any]], object]) -> Damage:
    return described(lambda content: change(content["datasets"][0]))


def accounting(change: Callable[[dict[str, Any]], object]) -> Damage:
    return dataset(lambda content: change(content["books"]))


def remade(name: str, change: Callable[[Any], Any]) -> Damage:
    def damage(file: h5py.File) -> None:
        content, attributes = change(file[name][:]), dict(file[name].attrs)
        del file[name]
        file[name] = content
        file[name].attrs.update(attributes)

    return damage


def typed(name: str, **changes: str | None) -> Damage:
    """Other types of fields; None drops a field."""

    def change(content: Any) -> Any:
        types = {**{key: content.dtype[key] for key in content.dtype.names}, **changes}
        result = np.zeros(content.shape, [(key, dtype) for key, dtype in types.items() if dtype is not None])
        for key in set(result.dtype.names) & set(content.dtype.names):
            result[key] = content[key]
        return result

    return remade(name, change)


def with_gap(content: Any) -> Any:
    content["valid"][5] = [True, False, True]
    for key in JETS.fields:
        content[key][5, 1] = 0
    return content


def swapped(content: Any) -> Any:
    row = int(np.flatnonzero(content["valid"].sum(axis=1) > 1)[0])
    content[row, :2] = content[row, 1::-1]
    return content


def twice(content: Any) -> Any:
    for key in ("run", "luminosityBlock", "event"):
        content[key][9] = content[key][4]
    return content


def damaged(path: Path, *damages: Damage) -> Path:
    with h5py.File(path, "r+") as file:
        for damage in damages:
            damage(file)
    return path


def first_file(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Changes the accounting of the file and the total alike."""

    def both(content: dict[str, Any]) -> None:
        change(content)
        change(content["files"][0])

    return accounting(both)


@pytest.mark.parametrize(
    ("damage", "checks", "message"),
    [
        (described(lambda m: m["features"][0].update(missing="none")), "metadata",
         "features.0.missing: is none, not a list"),
        (described(lambda m: m.pop("selection")), "metadata", "metadata.selection: is missing"),
        (dataset(lambda d: d.update(is_data=0)), "metadata", "metadata.datasets.0.is_data: is 0, not boolean"),
        (dataset(lambda d: d.update(luminosity=np.nan)), "metadata", "luminosity: is nan, not number or null"),
        (described(lambda m: m.update(objects=[])), "metadata", "metadata.objects: is \\[\\], not an object"),
        (described(lambda m: m["features"].append(m["features"][0])), "metadata", "events/ZCand_mass: is in"),
        (described(lambda m: m["classes"].append("WZ")), "metadata", "metadata.classes: has a class twice"),
        (described(lambda m: m["objects"]["Jet"].update(order="-phi")), "metadata", "Jet: is sorted by -phi"),
        (dataset(lambda d: d.update({"class": "ZG"})), "metadata", "dataset WZ: is of class ZG"),
        (dataset(lambda d: d.update(label=0)), "metadata labels events sums", "label 0, which is not that"),
        (first_file(lambda b: b.update(sum_of_weights=0)), "metadata weights sums", "is not positive"),
        (lambda file: file.attrs.update(schema=2), "metadata", "attribute schema: is 2, not 1"),
        (described(lambda m: m["features"].reverse()), "columns", "events: has its fields in another order"),
        (typed("events", MET_pt="f8"), "columns", "events/MET_pt: is float64, but float32"),
        (typed("events", MET_pt=None), "columns", "events/MET_pt: is missing"),
        (typed("events", label=None, run=None), "columns", "events/label: is missing"),
        (typed("events", more="f4"), "columns", "events/more: is not in the metadata"),
        (typed("Jet", valid="u1"), "collections", "Jet/valid: is uint8, but bool"),
        (typed("Jet", valid=None), "collections", "Jet/valid: is missing"),
        (remade("Jet", lambda c: c[:, :2]), "collections truncated", "Jet: has shape .*, 2., not .*, 3."),
        (lambda file: file.pop("Jet"), "collections", "Jet: is missing"),
        (lambda file: file.create_dataset("Muon", data=[1]), "collections", "Muon: is not in the metadata"),
        (remade("Jet", with_gap), "padding truncated", "Jet/valid: an object comes after padding .in row 5"),
        (put("Jet", "eta", 1, slice(None)), "padding", "Jet/eta: is not zero in padding"),
        (remade("Jet", swapped), "order", "Jet/pt: is not sorted by -pt .in row"),
        (described(lambda m: m["objects"]["Jet"]["truncated"].update(lost=0)), "truncated", "0 cut off"),
        (put("events", "label", 0, 3), "labels events sums", "label of the datasets, 1 .in row 3"),
        (put("events", "MET_pt", np.nan, 3, 7), "finite", "MET_pt: is NaN .2 times, first in row 3.*--allow"),
        (put("events", "MET_pt", -np.inf, 3), "finite", "events/MET_pt: is infinite .in row 3"),
        (put("Jet", "eta", np.nan, (4, 0)), "finite", "Jet/eta: is NaN .in row 4"),
        (put("events", "weight", np.nan, 3), "finite weights sums", "events/weight: is NaN"),
        (remade("events", twice), "unique", "run 1, .* is also in row 4 .in row 9"),
        (remade("events", lambda c: c[:-1]), "events collections sums",
         "has 220 events .*, but the accounting says 221"),
        (accounting(lambda b: b.update(selected=1)), "events books", "of label 1, but the accounting says 1"),
        (put("events", "weight", 1, 2), "weights sums", "weight: is not genWeight x 2.33.* .in row 2"),
        (dataset(lambda d: d.update(cross_section=1)), "weights sums", "is not genWeight x .*first in row 0"),
        (first_file(lambda b: b["cutflow"][-1].update(weights=7.0)), "sums", "genWeight of label 1 adds up to 221"),
        (first_file(lambda b: b["cutflow"][1].update(events=9999)), "cutflow", "its cut flow is 1400, 9999"),
        (first_file(lambda b: b.update(entries=1401)), "cutflow", "has 1401 events .*its cut flow is 1400"),
        (accounting(lambda b: b.update(entries=1)), "books", "dataset WZ: entries in total"),
        (accounting(lambda b: b["cutflow"].pop()), "books", "dataset WZ: cutflow in total"),
    ],
)  # fmt: skip
def test_each_damage_is_found_by_its_check(
    tmp_path: Path, good: dict[str, Path], damage: Damage, checks: str, message: str
) -> None:
    path = damaged(Path(shutil.copy(good["WZ"], tmp_path / "bad.h5")), damage)
    found, text = checked(path)
    assert found == set(checks.split())
    assert re.search(message, text), text


def test_nan_can_be_accepted_but_nothing_else(tmp_path: Path, good: dict[str, Path]) -> None:
    path = Path(shutil.copy(good["WZ"], tmp_path / "bad.h5"))
    damaged(path, put("events", "MET_pt", np.nan, 3), put("Jet", "eta", np.nan, (4, 0)))
    assert failed(path, allow_nan=True) == set()
    damaged(path, put("events", "MET_pt", np.inf, 3), put("events", "genWeight", np.nan, 3))
    found, text = checked(path, "--allow-nan")
    assert found == {"finite", "weights", "sums"}
    assert text.count("inf") == 1


def stored(path: Path, name: str) -> Any:
    with h5py.File(path) as file:
        return file[name][:]


def merge(paths: list[Path], output: Path) -> Path:
    contents = [metadata_content(path) for path in paths]
    with h5py.File(output, "w") as file:
        for name in ("events", "Jet"):
            rows = np.concatenate([stored(path, name) for path in paths])
            file[name] = rows[np.random.default_rng(1).permutation(len(rows))]
        counts = [content["objects"]["Jet"].pop("truncated") for content in contents]
        total = {key: sum(count[key] for count in counts) for key in ("objects", "lost")}
        contents[0]["objects"]["Jet"]["truncated"] = total
        contents[0]["datasets"] = [one for content in contents for one in content["datasets"]]
        file["metadata"], file.attrs["schema"] = json.dumps(contents[0]), 1
    return output


def test_shuffled_files_of_several_datasets(tmp_path: Path, good: dict[str, Path]) -> None:
    path = merge([good["signal"], good["WZ"], good["WZ2"]], tmp_path / "all.h5")
    assert failed(path) == set()
    damaged(path, put("events", "label", 0, int(np.argmax(stored(path, "events")["label"] == 1))))
    assert failed(path) == {"events", "weights", "sums"}  # as many events, and a label of the datasets
    twofold = merge([good["WZ"], good["WZ2"]], tmp_path / "twofold.h5")
    weights = stored(twofold, "events")["weight"]
    damaged(twofold, put("events", "weight", weights.max(), int(weights.argmin())))
    assert failed(twofold) == {"sums"}  # a weight of the other dataset
    thrice = merge([good["WZ"]] * 3, tmp_path / "thrice.h5")
    damaged(thrice, described(lambda m: m["datasets"].pop()))
    assert failed(thrice) >= {"unique", "events"}


def test_what_is_no_such_file_is_one_message(tmp_path: Path, good: dict[str, Path]) -> None:
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "short.h5").write_bytes(good["WZ"].read_bytes()[:9000])
    scrambled = bytearray(good["WZ"].read_bytes())
    with h5py.File(good["WZ"]) as file:
        start = file["events"].id.get_chunk_info(0).byte_offset
    scrambled[start + 20 : start + 400] = bytes(380)
    (tmp_path / "scrambled.h5").write_bytes(scrambled)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        file.create_group("events")
        file.create_group("metadata")
    for name in ("empty", "short", "scrambled", "foreign", "groups", "absent"):
        found, text = checked(tmp_path / f"{name}.h5")
        assert text.startswith(f"{tmp_path}/{name}.h5: "), text
        assert len(text.splitlines()) == 1
        assert found == {"file"}


def test_the_table_has_a_mark_for_each_check_and_a_line_for_each_fault(tmp_path: Path, good: dict[str, Path]) -> None:
    bad = Path(shutil.copy(good["WZ"], tmp_path / "bad.h5"))
    damaged(bad, put("events", "MET_pt", np.nan, 3))
    done = CliRunner().invoke(nanoml, ["validate", str(good["WZ"]), str(bad)])
    assert done.exit_code == 1
    assert (done.output.count("✓"), done.output.count("✗")) == (29, 1)
    assert f"{bad}: events/MET_pt: is NaN (in row 3). Fix what makes it" in done.output
    assert CliRunner().invoke(nanoml, ["validate", str(good["WZ"])]).exit_code == 0
