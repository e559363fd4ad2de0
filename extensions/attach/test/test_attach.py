from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot

from data_processing.convert.convert import ConvertJob, convert_files
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.extensions.attach import attach
from MLTools.NanoML.extensions.attach import table as table_module
from MLTools.NanoML.extensions.attach.attach import AttachJob, attach_stages
from MLTools.NanoML.nanoaod.provenance import MadeColumn
from MLTools.NanoML.workflow.analysis import plan, run
from processes import nanoml
from services.rootfiles import branches_of, lists_of, record_of
from services.shifted import SHIFTS, ShiftedSkims

MakeJob = Callable[..., AttachJob]

IDENTIFIERS = ["run", "luminosityBlock", "event"]
CLASSES = ["signal", "WZ"]


def score_of(rows: Any) -> Any:
    """A score that anybody can compute from an event's features, and that differs from event to event."""
    return np.cos(rows["MET_phi"].astype(float)) + 1 / rows["MET_pt"].astype(float) + rows["event"] % 1000


def with_fields(rows: Any, **fields: Any) -> Any:
    """Rows with more fields, as one adds them in a notebook."""
    dtype = [(name, rows.dtype[name]) for name in rows.dtype.names]
    dtype += [(name, np.asarray(values).dtype, np.shape(values)[1:]) for name, values in fields.items()]
    found = np.zeros(len(rows), dtype)
    for name in rows.dtype.names:
        found[name] = rows[name]
    for name, values in fields.items():
        found[name] = values
    return found


def write_hdf5(path: Path, rows: Any, **beside: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("events", data=rows, chunks=True if len(rows) else None)
        for name, values in beside.items():
            file.create_dataset(name, data=values)
    return path


def write_root(path: Path, run_: Any, lumi: Any, event: Any) -> str:
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {"run": "u4", "luminosityBlock": "u4", "event": "u8"})
        tree.extend({name: np.asarray(x) for name, x in zip(IDENTIFIERS, (run_, lumi, event))})
    return str(path)


def table(run_: Any, lumi: Any, event: Any, score: Any) -> Any:
    rows = np.zeros(len(event), [("run", "i8"), ("luminosityBlock", "i8"), ("event", "i8"), ("score", "f4")])
    for name, values in zip((*IDENTIFIERS, "score"), (run_, lumi, event, score)):
        rows[name] = values
    return rows


def do(job: AttachJob, workers: int = 1) -> None:
    run(plan(attach_stages(job, workers), job.directory), job.directory)


@pytest.fixture(scope="module")
def sources(sample: Path) -> list[str]:
    return [str(path) for path in sorted((sample / "WZTo3LNu").glob("*.root"))]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, sources: list[str]) -> Any:
    """The rows of what `nanoml convert` makes of two ROOT files."""
    path = tmp_path_factory.mktemp("converted") / "WZ.h5"
    convert_files(ConvertJob(sources, path, ["MET_pt", "MET_phi"]))
    with h5py.File(path) as file:
        return file["events"][:]


@pytest.fixture
def rows(converted: Any) -> Any:
    """The same with a score, in another order."""
    shuffled = converted[np.random.default_rng(1).permutation(len(converted))]
    return with_fields(shuffled, score=score_of(shuffled).astype("f4"))


@pytest.fixture
def make_job(tmp_path: Path, sources: list[str]) -> MakeJob:
    def make(events: Path, **changes: Any) -> AttachJob:
        return replace(AttachJob(events, sources, tmp_path / "out", ["score"]), **changes)

    return make


def test_columns_come_back_to_their_events(
    tmp_path: Path, sources: list[str], rows: Any, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "_BLOCK", 170)
    monkeypatch.setattr(attach, "_BLOCK", 170)
    monkeypatch.setattr(attach, "_ENTRIES", 330)
    score = score_of(rows)
    events = write_hdf5(
        tmp_path / "WZ.h5",
        with_fields(rows, score_pair=np.stack([score, -score], axis=1), score_swapped=score.astype(">f8")),
        score_beside=(score * 2).astype("f2"),
        probabilities=np.stack([score, score + 1], axis=1).astype("f4"),
        score_matrix=np.zeros((len(rows), 2, 2)),
    )
    with h5py.File(events, "a") as file:
        file["probabilities"].attrs["classes"] = CLASSES
        del file["score_matrix"]
    do(make_job(events, columns=["score*", "probabilities"], prefix="my_"))
    for source in sources:
        original, found = branches_of(Path(source)), branches_of(tmp_path / "out" / Path(source).name)
        assert set(found) == {
            *IDENTIFIERS,
            *(f"my_score{end}" for end in ("", "_pair_0", "_pair_1", "_swapped", "_beside")),
            "my_probabilities_signal",
            "my_probabilities_WZ",
        }
        for name in IDENTIFIERS:
            assert (found[name] == original[name]).all()
            assert found[name].dtype == original[name].dtype
        expected = score_of(original)
        assert (found["my_score"] == expected.astype("f4")).all()
        assert (found["my_score_pair_0"] == expected).all()
        assert (found["my_score_pair_1"] == -expected).all()
        assert (found["my_score_swapped"] == expected).all()
        assert (found["my_score_beside"] == (expected * 2).astype("f2")).all()
        assert (found["my_probabilities_signal"] == expected.astype("f4")).all()
        assert (found["my_probabilities_WZ"] == (expected + 1).astype("f4")).all()
    record = record_of(tmp_path / "out" / "WZTo3LNu_0.root")
    assert record.kind == "attached"
    assert record.accounting.sum_of_weights == 800
    assert record.columns["my_probabilities_WZ"] == MadeColumn("float32", "probabilities, number 1 of WZ.h5")


def test_every_type_of_number_is_kept(tmp_path: Path, rows: Any, make_job: MakeJob) -> None:
    dtypes = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
    kept = {f"kept{number}": (rows["event"] % 2).astype(dtype) for number, dtype in enumerate(dtypes)}
    do(make_job(write_hdf5(tmp_path / "a.h5", rows, **kept), columns=["kept*"]))
    found = branches_of(tmp_path / "out" / "WZTo3LNu_1.root")
    for number, dtype in enumerate(dtypes):
        assert found[f"kept{number}"].dtype == np.dtype(dtype)
        assert (found[f"kept{number}"] == (found["event"] % 2).astype(dtype)).all()


def test_any_identifiers_are_found_as_a_dictionary_finds_them(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    for number in range(4):
        size = int(random.integers(1, 200))
        made = [random.integers(low, high, size) for low, high in ((1, 4), (2**32 - 3, 2**32), (-2, 40))]
        rows = table(*made, np.zeros(size))
        keys = rows[IDENTIFIERS].tolist()
        rows["score"] = [keys.index(key) for key in keys]
        here = random.permutation(size)[: size // 2]
        here = here[np.unique(rows["score"][here], return_index=True)[1]]
        events = write_hdf5(tmp_path / f"{number}.h5", rows)
        unknown = [9] * 3, [1, 2, 3], [2**63, 0, 5]
        pairs = zip(made, unknown)
        chosen = [np.concatenate([values[here].astype("u8"), np.array(more, "u8")]) for values, more in pairs]
        source = write_root(tmp_path / f"{number}.root", *chosen)
        do(AttachJob(events, [source], tmp_path / str(number), ["score"], missing=-1, partial=True))
        found = branches_of(tmp_path / str(number) / f"{number}.root")
        assert found["score"].tolist() == [*rows["score"][here].tolist(), -1, -1, -1]


def test_missing_events_are_an_error_or_filled(
    tmp_path: Path, rows: Any, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = (rows["event"] == 2600803) | (rows["event"] == 2600805)
    job = make_job(write_hdf5(tmp_path / "a.h5", rows[~gone]))
    message = r"2 of 1,600 events of the ROOT files are not in it; the first is 1:13005:2600803 in .*WZTo3LNu_1.root"
    with pytest.raises(NanoMLError, match=message):
        do(job)
    assert os.listdir(job.directory) == [".nanoml"]
    do(replace(job, missing=float("nan")))
    assert "WARNING: 2 events are not in it" in capsys.readouterr().err
    found = branches_of(job.directory / "WZTo3LNu_1.root")
    assert found["event"][np.isnan(found["score"])].tolist() == [2600803, 2600805]
    do(replace(job, missing=-9))
    found = branches_of(job.directory / "WZTo3LNu_1.root")
    assert found["event"][found["score"] == -9].tolist() == [2600803, 2600805]
    assert (branches_of(job.directory / "WZTo3LNu_0.root")["score"] != -9).all()


def test_a_value_for_missing_events_that_does_not_fit_is_an_error(tmp_path: Path, rows: Any, make_job: MakeJob) -> None:
    values = {"i4": "nan", "u4": "-1", "i8": "0.5", "u1": "300", "f4": "1e300"}
    events = write_hdf5(tmp_path / "a.h5", rows, **{dtype: np.zeros(len(rows), dtype) for dtype in values})
    for dtype, value in values.items():
        with pytest.raises(ConfigError, match=f"does not fit into column {dtype}, which is"):
            attach_stages(make_job(events, columns=[dtype], missing=float(value)), 1)


def test_events_of_no_root_file_are_an_error_or_allowed(
    tmp_path: Path, rows: Any, sources: list[str], make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(write_hdf5(tmp_path / "a.h5", rows), sources=sources[:1])
    message = "800 of its 1,600 events are in none of the ROOT files; the first is 1:13005:2600801"
    with pytest.raises(NanoMLError, match=message):
        do(job)
    capsys.readouterr()
    do(replace(job, partial=True))
    said = capsys.readouterr().err
    assert "match: up to date (1 of 1)" in said
    assert "800 events of the HDF5 file are in none" in said
    found = branches_of(job.directory / "WZTo3LNu_0.root")
    assert (found["score"] == score_of(branches_of(Path(sources[0]))).astype("f4")).all()
    do(replace(job, sources=sources))
    assert "match: 1 of 2 to do" in capsys.readouterr().err


def test_an_event_twice_is_an_error_if_its_values_differ(tmp_path: Path, rows: Any, make_job: MakeJob) -> None:
    rows["score"][5] = np.nan
    twice = np.concatenate([rows, rows[3:9]])
    do(make_job(write_hdf5(tmp_path / "a.h5", twice)))
    twice["score"][[-1, -2]] += 1
    first = ":".join(map(str, min(rows[IDENTIFIERS][[7, 8]].tolist())))
    message = f"2 events are in it more than once, with different values; the first is {first}. Simulated"
    with pytest.raises(NanoMLError, match=message):
        do(make_job(write_hdf5(tmp_path / "a.h5", twice)))
    do(make_job(tmp_path / "a.h5", columns=["MET_phi"], prefix="my_"))


def test_datasets_that_share_numbers_are_told_apart_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [1, 1, 1], [1, 1, 2], [1, 2, 1]
    sources = [write_root(tmp_path / name, *ids) for name in ("WZ.root", "ZG.root")]
    one, other = table(*ids, [0.1, 0.2, 0.3]), table(*ids, [0.7, 0.8, 0.9])
    events = write_hdf5(tmp_path / "both.h5", np.concatenate([one, other]))
    both = AttachJob(events, sources, tmp_path / "out", ["score"])
    with pytest.raises(NanoMLError, match="if it holds several datasets, make a file of each"):
        do(both)
    capsys.readouterr()
    do(replace(both, events=write_hdf5(tmp_path / "WZ.h5", one)))
    assert "WARNING: 3 events are in several of the ROOT files" in capsys.readouterr().err
    do(replace(both, events=tmp_path / "WZ.h5", sources=sources[:1]))
    assert "WARNING" not in capsys.readouterr().err


def test_only_what_changed_is_done_again(
    tmp_path: Path, rows: Any, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(write_hdf5(tmp_path / "a.h5", rows))

    def said(job: AttachJob) -> list[str]:
        capsys.readouterr()
        do(job)
        return [line for line in capsys.readouterr().err.split("\n") if "to do" in line or "up to date" in line]

    do(job)
    stages = {"index": 1, "match": 2, "check": 1, "attach": 2}
    done = [f"{name}: up to date ({tasks} of {tasks})" for name, tasks in stages.items()]
    assert said(job) == done
    assert said(replace(job, prefix="my_")) == [*done[:2], "check: 1 of 1 to do", "attach: 2 of 2 to do"]
    do(replace(job, events=write_hdf5(tmp_path / "b.h5", rows[:0]), sources=[], partial=True))
    assert said(replace(job, prefix="my_")) == done
    rows["score"] += 1
    write_hdf5(tmp_path / "a.h5", rows)
    assert said(job) == [f"{name}: {tasks} of {tasks} to do" for name, tasks in stages.items()]
    found = branches_of(job.directory / "WZTo3LNu_0.root")
    assert (found["score"] == (score_of(found | branches_of(Path(job.sources[0]))).astype("f4") + 1)).all()


def test_files_without_events(tmp_path: Path, rows: Any, make_job: MakeJob) -> None:
    empty = write_root(tmp_path / "empty.root", *np.zeros((3, 0), int))
    job = make_job(write_hdf5(tmp_path / "a.h5", rows[:0]), sources=[empty])
    do(job)
    assert len(branches_of(job.directory / "empty.root")["score"]) == 0
    do(make_job(tmp_path / "a.h5", missing=2))
    assert (branches_of(job.directory / "WZTo3LNu_0.root")["score"] == 2).all()


def test_a_column_that_cannot_be_attached_is_explained(tmp_path: Path, rows: Any, make_job: MakeJob) -> None:
    size = len(rows)
    beside = {
        "text": np.array([b"a"] * size, object), "metadata": "{}", "Jet": np.zeros((size, 2), [("pt", "f4")]),
        "complex": np.zeros(size, complex), "short": np.zeros(size - 1), "cube": np.zeros((size, 2, 2)),
        "named": np.zeros((size, 2)), "W jets": np.zeros(size), "both": np.zeros(size),
    }  # fmt: skip
    events = write_hdf5(tmp_path / "a.h5", with_fields(rows, both=np.zeros(size)), **beside)
    with h5py.File(events, "a") as file:
        file["named"].attrs["classes"] = ["a", "b", "c"]
    messages = {
        "scor": 'has no column "scor", neither as a field .* Did you mean "score"',
        "nothing_*": 'has no column "nothing_\\*".* It has: ',
        "text": "column text is of type object, which cannot be a branch of numbers",
        "metadata": "column metadata is of type object",
        "Jet": "column Jet is of type .*'pt'.*, which cannot be a branch of numbers",
        "complex": "column complex is of type complex128",
        "short": "column short has 1599 entries, but `events` has 1600 events",
        "cube": r"column cube has shape \(1600, 2, 2\)",
        "named": "has 2 numbers for each event, but its attribute `classes` has 3 names",
        "run": "run: is always written",
        "W jets": 'would be branch "W jets", which ROOT cannot handle',
        "both": "two columns would be branch both",
    }
    for column, message in messages.items():
        with pytest.raises(NanoMLError, match=message):
            attach_stages(make_job(events, columns=[column]), 1)


def test_a_file_whose_events_cannot_be_told_apart_is_explained(tmp_path: Path, rows: Any, make_job: MakeJob) -> None:
    events = write_hdf5(
        tmp_path / "a.h5", rows[["MET_pt", "score"]], plain=np.zeros(3), wide=np.zeros((2, 2), rows.dtype)
    )
    with h5py.File(events, "a") as file:
        file["deep/table"] = rows
        file["floats"] = rows.astype([("run", "f4"), *((name, rows.dtype[name]) for name in rows.dtype.names[1:])])
    messages = {
        "events": r"`events` does not tell which event is which.* \(it has no run\)",
        "plain": "`plain` does not tell which event is which",
        "wide": "`wide` does not tell which event is which: it needs one row for each event",
        "floats": "run of `floats` is float32, not a whole number",
        "deep": "has no dataset `deep`. It has: deep/table, floats, wide. Name the one",
        "deep/tabel": 'Did you mean "deep/table"',
    }
    for dataset, message in messages.items():
        with pytest.raises(NanoMLError, match=message):
            attach_stages(make_job(events, dataset=dataset), 1)
    do(make_job(events, dataset="deep/table"))
    bad = table([-1], [1], [1], [1])
    with pytest.raises(NanoMLError, match="has a run that is negative or larger than 32 bits"):
        do(make_job(write_hdf5(tmp_path / "b.h5", bad)))
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(NanoMLError, match="is not an HDF5 file"):
        attach_stages(make_job(tmp_path / "text.h5"), 1)


def test_a_damaged_file_is_explained(tmp_path: Path, rows: Any, make_job: MakeJob) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("events", data=rows, chunks=(400,), compression="gzip")
        offset = dataset.id.get_chunk_info(2).byte_offset
    with open(tmp_path / "a.h5", "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 40)
    job = make_job(tmp_path / "a.h5")
    with pytest.raises(NanoMLError, match=r"a.h5: cannot be read: .*It may be damaged"):
        do(job)
    assert not job.directory.exists()


def test_no_file_and_no_branch_is_hidden_or_overwritten(
    tmp_path: Path, rows: Any, sources: list[str], make_job: MakeJob
) -> None:
    job = make_job(write_hdf5(tmp_path / "a.h5", rows))
    with pytest.raises(NanoMLError, match="WZTo3LNu_0.root: would be overwritten by attach"):
        plan(attach_stages(replace(job, directory=Path(sources[0]).parent), 1), tmp_path)
    with pytest.raises(NanoMLError, match="has a branch MET_pt of its own, which would hide .* by --prefix"):
        do(replace(job, columns=["MET_pt"]))
    do(replace(job, columns=["MET_pt"], prefix="my_"))
    found = branches_of(job.directory / "WZTo3LNu_0.root")
    assert (found["my_MET_pt"] == branches_of(Path(sources[0]))["MET_pt"]).all()


def test_a_root_file_that_changes_meanwhile_is_not_written(
    tmp_path: Path, rows: Any, sources: list[str], make_job: MakeJob
) -> None:
    job = make_job(write_hdf5(tmp_path / "a.h5", rows))
    np.save(tmp_path / "match.npy", np.zeros(799, np.int64))
    wanted = (job.events, job.dataset, [], job.missing, job.compression)
    writing = attach.WriteJob(*wanted, sources[0], tmp_path / "match.npy", tmp_path / "b.root")
    with pytest.raises(NanoMLError, match="WZTo3LNu_0.root: was changed meanwhile"):
        attach.attach_file(writing)
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "match.npy"]


def test_the_command(tmp_path: Path, rows: Any, sources: list[str]) -> None:
    write_hdf5(tmp_path / "a.h5", rows)

    def command(*arguments: object) -> subprocess.CompletedProcess[str]:
        return nanoml("attach", *arguments, cwd=tmp_path)

    done = command("--columns", "scores", "-o", "out", "a.h5", *sources)
    assert done.returncode == 1
    assert 'Did you mean "score"?' in done.stderr
    assert not (tmp_path / "out").exists()
    done = command("--columns", "s*", "--prefix", "my_", "-o", "out", "--workers", 2, "a.h5", *sources)
    assert done.returncode == 0, done.stderr
    assert "1,600 of 1,600 events found" in done.stderr
    for source in sources:
        found = branches_of(tmp_path / "out" / Path(source).name)
        assert (found["my_score"] == score_of(branches_of(Path(source))).astype("f4")).all()
    done = command("--columns", "s*", "--prefix", "my_", "-o", "out", "a.h5", *sources)
    assert "attach: up to date (2 of 2)" in done.stderr


@pytest.fixture
def attached(shifted_skims: ShiftedSkims, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Attaches columns of the HDF5 file to the skims; returns what the friend of one of them has."""
    convert_files(ConvertJob(shifted_skims.shifted, tmp_path / "all.h5", ["MET", "nGoodJet"]))

    def attach(*columns: str, **options: Any) -> dict[str, Any]:
        job = AttachJob(tmp_path / "all.h5", shifted_skims.shifted, tmp_path / "out", columns, prefix="x_", **options)
        run(plan(attach_stages(job, 1), job.directory), job.directory)
        return lists_of(tmp_path / "out" / Path(shifted_skims.shifted[3]).name)

    return attach


def test_events_under_shifts_alone_have_nothing_attached(
    shifted_skims: ShiftedSkims, attached: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    skim, found = lists_of(shifted_skims.shifted[3]), attached("MET")
    assert list(found) == [*IDENTIFIERS, "selected", *(f"selected_{shift}" for shift in SHIFTS), "x_MET"]
    passed = skim["selected"].to_numpy()
    assert 0 < (~passed).sum() < 50
    assert np.array_equal(found["x_MET"], np.where(passed, skim["MET"], np.float32(np.nan)), equal_nan=True)
    others = sum(int((~lists_of(path)["selected"].to_numpy()).sum()) for path in shifted_skims.shifted)
    assert f"{others} events that pass under shifts alone are not in it: they get NaN" in capsys.readouterr().err


def test_whole_numbers_need_a_value_for_them(
    shifted_skims: ShiftedSkims, attached: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(NanoMLError, match="There is no NaN for them in column nGoodJet: .* by --missing VALUE"):
        attached("MET", "nGoodJet")
    skim, found = lists_of(shifted_skims.shifted[3]), attached("nGoodJet", missing=-1)
    assert found["x_nGoodJet"].to_list() == np.where(skim["selected"], skim["nGoodJet"], -1).tolist()


def test_an_event_of_the_selection_must_be_there(
    shifted_skims: ShiftedSkims, attached: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "all.h5") as file:
        rows = file["events"][:-1]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_dataset("events", data=rows)
    events = sum(len(lists_of(path)["run"]) for path in shifted_skims.shifted)
    with pytest.raises(NanoMLError, match=f"1 of {events} events of the ROOT files are not in it"):
        attached("MET")
