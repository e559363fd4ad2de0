"""The HDF5 file of a conversion, and the record of input files that are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from MLTools.NanoML.contracts import hdf5, missing
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata, check_events_differ, new_hdf5, open_hdf5, read_metadata
from MLTools.NanoML.dependencies import files_behind
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.schema.plain import plain


def content() -> dict[str, Any]:
    """Metadata of a shuffled file with everything that there can be, as JSON."""
    column = {"name": "pt", "dtype": "float32", "title": "pt [GeV]", "source": "branch"}
    common = {"cross_section": 1.5, "luminosity": 137.0, "parameters": {"mass": 600.0}}
    weights = {"sum_of_weights": 5.0, "cutflow": []}
    counts = {"entries": 5, "selected": 3, "duplicates": 0, **weights}
    read = plain(FileAccounting("a.root", 5, 3, 5.0, "Runs/genEventSumw", False))
    books = {"files": [read], **counts}
    lost = [{"file": "b.root", "reason": "gone", "date": "2024-01-01T00:00:00+0000"}]
    gaps = [{"file": "a.root", "first": 3, "stop": 5}]
    optional = {"missing": lost, "duplicates": {"SingleMuon": 2}, "gaps": gaps}
    counts = {"objects": 9, "lost": 1}
    about = {"schema": 1, "creator": "NanoML 0.1.0", "classes": ["signal"], "selection": "cuts.py:Mine"}
    return {
        **about,
        "features": [column],
        "objects": {"Muon": {"max": 2, "order": "-pt", "quantile": 0.99, "fields": [column], "truncated": counts}},
        "settings": {"compression": "gzip:1"},
        "datasets": [
            {"name": "m600", "class": "signal", "label": 0, **common, "is_data": False, "books": books},
            {"name": "data", "class": None, "label": -1, **common, "is_data": True, "books": books, **optional},
        ],
        "shuffled": {"seed": 4},
    }


def test_what_is_written_is_read_and_events_that_two_files_have_are_refused(tmp_path: Path) -> None:
    metadata = HDF5Metadata.from_json(content())
    with new_hdf5(tmp_path / "a.h5") as file:
        file.create_dataset("events", data=np.arange(1000), chunks=(100,), compression="gzip")
        hdf5.write_metadata(file, metadata)
    assert read_metadata(tmp_path / "a.h5") == metadata
    assert metadata.datasets[1].missing[0].reason == "gone"
    assert (metadata.objects["Muon"].truncated.lost, metadata.shuffled) == (1, hdf5.Shuffled(4))
    assert metadata.datasets[0].accounting.selected == 3
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["events"][:] == np.arange(1000)).all()
        assert json.loads(file["metadata"][()]) == content()
        assert (file.attrs["schema"], file["events"].attrs["classes"].tolist()) == (1, ["signal"])
    check_events_differ(["a.h5"], [metadata])  # two datasets of one file may be of the same ROOT file
    with pytest.raises(NanoMLError, match=r"b.h5: has events of a.root, which a.h5 has, too"):
        check_events_differ(["a.h5", "b.h5"], [metadata, metadata])
    damaged = (tmp_path / "a.h5").read_bytes().replace(b"signal", b"sigmal")
    (tmp_path / "a.h5").write_bytes(damaged)
    with pytest.raises(NanoMLError, match="a.h5: its `metadata` cannot be understood"):
        read_metadata(tmp_path / "a.h5")


def test_training_does_not_depend_on_what_reads_root_files() -> None:
    behind = files_behind("MLTools.NanoML.contracts.hdf5")
    names = {"MLTools.NanoML.rootio", "MLTools.NanoML.rootio.versions"}  # of branches
    assert not [name for name in behind if (".rootio" in name and name not in names) or "nanoaod.accounting" in name]


def test_metadata_without_something_is_explained() -> None:
    for key in ("creator", "classes", "features", "objects", "selection", "datasets"):
        damaged = {name: value for name, value in content().items() if name != key}
        with pytest.raises(NanoMLError, match=rf"a.h5: its `metadata` cannot be understood \(KeyError: '{key}'\)"):
            HDF5Metadata.from_json(damaged, "a.h5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((b"text", "is not an HDF5 file"), (b"", "is not an HDF5 file"), (None, "no such file")),
        *(("other", "was not written by"), ("newer", "schema 3")),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "a.h5"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with h5py.File(path, "w") as file:
            file["x"] = 1
            if content == "newer":
                file["events"] = np.zeros(3)
                file.create_dataset("metadata", data='{"schema": 3}', dtype=h5py.string_dtype())
    with pytest.raises(NanoMLError, match=message):
        read_metadata(path)


def test_a_truncated_file_is_explained(tmp_path: Path) -> None:
    with new_hdf5(tmp_path / "a.h5") as file:
        file.create_dataset("events", data=np.arange(100_000))
    os.truncate(tmp_path / "a.h5", 50_000)
    with pytest.raises(NanoMLError, match="cannot be read|truncated"):
        open_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["events", "absent"])
def test_what_is_damaged_or_missing_within_a_file_is_explained(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    with new_hdf5(path) as file:
        dataset = file.create_dataset("events", data=np.arange(1000), chunks=(1000,), compression="gzip")
        offset = dataset.id.get_chunk_info(0).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 40)
    refused = pytest.raises(NanoMLError, match=r"a.h5: cannot be read: .* It may be damaged")
    with open_hdf5(path) as file, refused, hdf5.reading(path):
        file[name][:]


FULL = """
import resource, signal, sys
import numpy as np
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.contracts.hdf5 import new_hdf5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    with new_hdf5(sys.argv[1]) as file:
        data = file.create_dataset("events", (100_000,), "f8", chunks=(1000,))
        for start in range(0, 100_000, 10_000):
            data[start : start + 10_000] = np.random.default_rng(1).random(10_000)
except OSError as problem:
    print(type(problem).__name__, problem.errno)
"""


@pytest.mark.parametrize("limit", [0, 3_000, 400_000, 800_500])
def test_a_file_that_cannot_grow_is_an_error_and_no_crash(tmp_path: Path, limit: int) -> None:
    # a limit on the file's size stands for the full disk: the same failure at the same place, without a mount
    line = [sys.executable, "-c", FULL, str(tmp_path / "a.h5"), str(limit)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "OSError 27\n", "")


def test_how_many_may_be_missing() -> None:
    numbers = {(0, 100): 0, ("3", 100): 3, (3, 3): 2}
    shares = {("1 %", 412): 4, ("1%", 99): 0, (".5%", 1000): 5, ("100 %", 7): 6, ("9.2 %", 750): 69}
    for (limit, total), most in {**numbers, **shares}.items():
        assert missing.allowed(limit, total) == most


def test_what_is_recorded_as_missing_is_read(tmp_path: Path) -> None:
    missing.record(tmp_path, {"WZ": {}})
    assert not list(tmp_path.iterdir())
    assert missing.read(tmp_path) == {}
    missing.record(tmp_path, {"WZ": {"a.root": "gone", "b.root": "damaged"}, "ZG": {}})
    found = missing.read(tmp_path)
    assert [*found] == ["WZ"]
    assert [(each.file, each.reason) for each in found["WZ"]] == [("a.root", "gone"), ("b.root", "damaged")]
    assert found["WZ"][0].date[:2] == "20"
    missing.record(tmp_path, {"ZG": {"c.root": "late"}})
    assert [(name, len(files)) for name, files in missing.read(tmp_path).items()] == [("WZ", 2), ("ZG", 1)]
    assert missing.read(tmp_path)["WZ"] == found["WZ"]
    missing.record(tmp_path, {"WZ": {}, "ZG": {}})
    assert missing.read(tmp_path) == {}


def test_a_record_of_missing_files_without_a_version_is_read(tmp_path: Path) -> None:
    (tmp_path / ".nanoml").mkdir()
    each = {"file": "a.root", "reason": "gone", "date": "2024-01-01T00:00:00+0000"}
    (tmp_path / ".nanoml" / "missing.json").write_text(json.dumps({"WZ": [each], "version": [each]}))
    assert missing.read(tmp_path) == {name: [missing.Missing(**each)] for name in ("WZ", "version")}


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"version": 1}', '{"WZ": 1}', '{"WZ": [{"file": "a"}]}'])
def test_a_damaged_record_of_missing_files_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / ".nanoml").mkdir()
    (tmp_path / ".nanoml" / "missing.json").write_text(text)
    with pytest.raises(NanoMLError, match=r"missing.json: cannot be read .*Remove it"):
        missing.read(tmp_path)


def test_lines_of_missing_files() -> None:
    one, other = missing.Missing.now("a.root", "a.root: gone"), missing.Missing.now("b.root", "damaged")
    found = missing.lines({"WZ": [one], "ZG": [other, one]})
    assert found == ["WZ: a.root is left out: gone", "ZG: b.root and 1 more are left out: damaged"]
