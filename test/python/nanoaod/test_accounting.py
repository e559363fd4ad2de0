from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from MLTools.NanoML.nanoaod import accounting as accounting_module
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.accounting import (
    UNWEIGHTED,
    Accounting,
    FileAccounting,
    accounting_of,
    add_steps,
    event_weights,
    is_simulation,
)
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Step
from MLTools.NanoML.terminal import progress
from services.nanoaod import FILES


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("made_v6_mc_underscore", "Runs/genEventSumw_"),
        ("made_v9_mc", "Runs/genEventSumw"),
        ("made_v9_mc_no_runs", "genWeight of the file's events"),
        ("made_v9_mc_skimmed", "Runs/genEventSumw"),
        ("made_v9_mc_zero_events", "Runs/genEventSumw"),
        ("made_v9_data", "number of events (data)"),
        ("made_v12_mc_many_runs", "Runs/genEventSumw"),
    ],
)
def test_sums_of_weights(made_files: dict[str, Path], name: str, source: str) -> None:
    with RootFile(made_files[name]) as file:
        accounting = accounting_of(file)
    made = FILES[name]
    assert accounting.sum_of_weights == pytest.approx(made.sum_of_weights, rel=1e-14)
    assert accounting.sum_of_weights_source == source
    assert (accounting.entries, accounting.selected, accounting.is_data) == (made.events, 0, made.is_data)


def test_weights_of_events_have_their_signs(made_files: dict[str, Path]) -> None:
    expected = FILES["made_v9_mc"].weights.astype(np.float32).astype(np.float64)
    with RootFile(made_files["made_v9_mc"]) as file:
        found = event_weights(file.read(["genWeight"]), file.entries)
    assert found.tolist() == expected.tolist()
    assert 0 < (found < 0).sum() < len(found) / 3


def test_files_without_their_weights_are_told_apart(nano_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "SUM_OF_WEIGHTS", ())
    with RootFile(nano_file) as file:
        file.branches = {key: branch for key, branch in file.branches.items() if key != "genWeight"}
        accounting = accounting_of(file)
        assert is_simulation(file) is not accounting.is_data
    assert accounting.is_data == ("_data" in nano_file.stem)
    assert accounting.sum_of_weights == accounting.entries
    assert accounting.sum_of_weights_source == (
        "number of events (data)" if accounting.is_data else UNWEIGHTED
    )


def _events(path: Path, runs: list[int], rntuple: bool = False, **columns: Any) -> Path:
    """Events of these runs, with columns of the same length."""
    length = len(runs)
    arrays = {
        "run": np.array(runs, "u4"),
        "luminosityBlock": np.ones(length, "u4"),
        "event": np.arange(length, dtype="u8"),
        **{name: np.full(length, value, "f4") for name, value in columns.items()},
    }
    with uproot.recreate(path) as file:
        if rntuple:
            file["Events"] = arrays
        else:
            file.mktree("Events", {name: values.dtype for name, values in arrays.items()}).extend(arrays)
    return path


@pytest.mark.parametrize(
    ("runs", "columns", "is_data"),
    [
        ([1, 1, 1], ["Pileup_nTrueInt"], False),
        ([1, 1, 1], ["Generator_x1"], False),
        ([1, 1, 1], ["LHE_HT"], False),
        ([1, 1, 1], ["genTtbarId"], False),
        ([], ["nGenJet"], False),
        ([1, 1, 1], ["PuppiMET_pt"], True),  # run 1 alone may be an event made by hand
        ([], ["PuppiMET_pt"], True),
        ([1, 1, 315267], ["GenMET_pt"], True),  # seen in the last range of events only
        ([315267] * 3, ["Muon_genPartIdx"], True),
        ([1, 1, 1], ["PV_ndof", "Generic_pt", "myLHE_pt", "GenericJet"], True),
    ],
)
@pytest.mark.parametrize("rntuple", [False, True])
def test_what_counts_as_simulation_without_weights(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runs: list[int],
    columns: list[str],
    is_data: bool,
    rntuple: bool,
) -> None:
    monkeypatch.setattr(accounting_module, "_RUNS_AT_ONCE", 2)
    path = _events(tmp_path / "a.root", runs, rntuple, **dict.fromkeys(columns, 1))
    with RootFile(path) as file:
        accounting = accounting_of(file)
    assert (accounting.is_data, accounting.sum_of_weights) == (is_data, len(runs))


def test_simulation_without_weights_is_mentioned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    for name, runs in (("empty", []), ("a", [1]), ("b", [1, 1])):
        with RootFile(_events(tmp_path / f"{name}.root", runs, GenMET_pt=1)) as file:
            accounting_of(file)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"WARNING: {tmp_path / 'a.root'}: is simulation (its run number is 1, and it has GenMET_pt)"
    )
    assert "Each event counts 1" in line


def _accounting(name: str, events: int, weights: float, is_data: bool = False) -> FileAccounting:
    steps = [Step("all", events, weights), Step("z", events // 2, weights / 2)]
    return FileAccounting(name, events, events // 2, weights, "Runs/genEventSumw", is_data, steps)


def test_accounting_adds_up_and_survives_json() -> None:
    accounting = Accounting([_accounting("a", 10, 5.5), _accounting("b", 0, 0.0), _accounting("c", 4, -1.5)])
    assert (accounting.entries, accounting.selected, accounting.sum_of_weights, accounting.is_data) == (
        14,
        7,
        4.0,
        False,
    )
    assert accounting.cutflow == [Step("all", 14, 4.0), Step("z", 7, 2.0)]
    assert Accounting.from_dict(json.loads(json.dumps(accounting.as_dict()))) == accounting
    assert Accounting([_accounting("a", 1, 1.0), _accounting("b", 1, 1.0, True)]).is_data is None


def test_cut_flows_of_other_cuts_are_joined_by_name() -> None:
    assert add_steps([[Step("all", 2, 2.0)], [Step("all", 3, 3.0), Step("z", 1, 1.0)]]) == [
        Step("all", 5, 5.0),
        Step("z", 1, 1.0),
    ]


def test_event_weights_are_ones_in_data() -> None:
    assert event_weights({}, 3).tolist() == [1, 1, 1]
