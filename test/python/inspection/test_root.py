from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from printing import printed, words

from MLTools.NanoML.commands.files import inspect as command
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.inspection.root import RootInspection, group_branches
from MLTools.NanoML.nanoaod.accounting import Accounting, shift_changes
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, ShiftSums
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance, ScoredBy
from MLTools.NanoML.selection import Step
from services.nanoaod import FILES
from services.shifted import SELECTION, SHIFTS
from services.shifted import skim as skim_by


def one_file(sample: Path, dataset: str) -> Path:
    return sorted((sample / dataset).glob("*.root"))[0]


def write(path: Path, columns: dict[str, Any], record: Provenance | None = None, **strings: str) -> Path:
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {name: values.dtype for name, values in columns.items()})
        tree.extend(columns)
        if record is not None:
            rows = record.rows()
            types = {name: (values.dtype, values.shape[1:]) for name, values in rows.items()}
            file.mktree("nanoml", types).extend(rows)
        for name, text in strings.items():
            file[name] = text
    return path


def accounting(files: int = 1, selected: int = 3, is_data: bool = False) -> Accounting:
    steps = [Step("all", 10, 20.0), Step("two [muons]", 6, 15.0), Step("none", 0, 0.0), Step("still none", 0, 0.0)]
    one = FileAccounting("root://x//store/a", 10, selected, 20.0, "Runs/genEventSumw", is_data, steps)
    return Accounting([FileAccounting(**{**vars(one), "file": f"root://x//store/d/{i}.root"}) for i in range(files)])


def skim(path: Path, record: Provenance) -> Path:
    identifiers = {name: np.arange(3, dtype="u4") for name in ("run", "luminosityBlock", "event")}
    return write(path, {**identifiers, "dxy": np.ones(3, "f4")}, record)


def test_a_file_is_described_as_it_is(sample: Path) -> None:
    path = one_file(sample, "WZTo3LNu")
    found = inspect_file(path)
    content = found.to_json()
    with uproot.open(path) as file:
        tree = file["Events"]
        assert content["events"] == tree.num_entries
        assert [branch["name"] for branch in content["branches"]] == tree.keys()
        assert content["objects"].keys() == {"Runs", "LuminosityBlocks"}
        assert content["sum_of_weights"] == file["Runs"]["genEventSumw"].array()[0]
    grouped = [name for names in content["event_level"].values() for name in names]
    listed = [f"{name}_{field}" for name, fields in content["collections"].items() for field in fields]
    assert sorted(grouped + listed) == sorted(tree.keys())
    assert content["record"] is None
    text = printed(found)
    assert "Runs/genEventSumw" in text
    assert "12 HLT" in text
    assert "trigger bits: Mu50, OldMu100" in text


def test_strings_are_shown_and_counters_of_single_branches_are_counters(made_files: dict[str, Path]) -> None:
    found = inspect_file(made_files["made_v15_mc"])
    content = found.to_json()
    assert content["objects"]["tag"] == {"class": "TObjString", "text": "made for v15"}
    assert 'tag (TObjString): "made for v15"' in printed(found)
    assert {"nMuon", "nMuon_pt", "nPSWeight"} <= set(content["event_level"]["counters"])
    assert content["collections"]["PSWeight"] == ["PSWeight"]


def test_without_runs_the_sum_of_weights_is_doubted(made_files: dict[str, Path]) -> None:
    text = printed(inspect_file(made_files["made_v9_mc_no_runs"]))
    expected = f"{FILES['made_v9_mc_no_runs'].sum_of_weights:,.2f}"
    assert f"{expected} by genWeight of the file's events. Right only if" in text


def test_groups() -> None:
    names = ["run", "nMuon", "MET_pt", "HLT_A", "MET_phi", "HLT_B", "PV_z", "MET"]
    of_names = {"HLT": ["HLT_A", "HLT_B"], "MET": ["MET_pt", "MET_phi", "MET"]}
    found = group_branches(names, {"nMuon", "nTau"})
    assert found == {"single": ["run", "PV_z"], "counters": ["nMuon"], **of_names}
    assert group_branches([], []) == {}


def test_branches_are_found_and_shown_with_type_shape_and_title(sample: Path) -> None:
    found = inspect_file(one_file(sample, "WZTo3LNu"))
    assert isinstance(found, RootInspection)
    jets = [f"GenJet_{name}" for name in ("eta", "mass", "phi", "pt")]
    for pattern, names in (("Muon_pt*", ["Muon_pt", "Muon_ptErr"]), ("PFMET_pt", ["MET_pt"]), ("GenJet", jets)):
        assert sorted(branch.name for branch in found.matching(pattern)) == names
        assert all(name in printed(found, pattern) for name in names)
    muon = next(line.split(maxsplit=3) for line in printed(found, "*dz").splitlines() if "Muon_dz" in line)
    assert [word.strip() for word in muon] == ["Muon_dz", "float32", "list", "dz (with sign) wrt first PV, in cm"]
    for pattern, hint in (("Muon_ptt", 'Did you mean "Muon_pt"'), ("Muons", 'Did you mean "Muon"'), ("Q_*", "")):
        with pytest.raises(NanoMLError, match=f"no branch matches.*{hint}"):
            found.show(pattern)


def test_long_names_are_whole_on_a_narrow_terminal(made_files: dict[str, Path]) -> None:
    name = "HLT_Mu8_TrkIsoVVL_Ele23_CaloIdL_TrackIdL_IsoVL_DZ_PFDiJet30"
    text = printed(inspect_file(made_files["made_v9_mc"]), name, 80)
    assert "bool" in text
    assert name in "".join(line[2:43].strip() for line in text.splitlines()[4:])


def test_a_skim_tells_where_it_comes_from(tmp_path: Path) -> None:
    columns = {"dxy": MadeColumn("float32", "distance [cm]")}
    record = Provenance("skim", accounting(), "my.selection:DiMuon", columns, not_copied=["Meta (TTree)"])
    found = inspect_file(skim(tmp_path / "a.root", record))
    content = found.to_json()
    assert content["warnings"] == []
    assert content["sum_of_weights"] == 20
    assert "nanoml" not in content["objects"]
    assert "dxy" not in content["event_level"]["single"]
    flow = content["record"]["books"]["cutflow"]
    assert [step["of_previous"] for step in flow] == [1, 0.6, 0, None]
    assert [step["of_all"] for step in flow] == [1, 0.6, 0, 0]
    assert [step["weights_of_all"] for step in flow] == [1, 0.75, 0, 0]
    text = printed(found)
    for said in (
        *("skim, simulation, TTree", "20 by Runs/genEventSumw", "root://x//store/d/0.root", "my.selection:DiMuon"),
        *("Meta (TTree)", "distance [cm]", "two [muons]", "60.00 %", "75.00 %"),
    ):
        assert said in text


def test_many_files_are_summarised(tmp_path: Path) -> None:
    lines = printed(inspect_file(skim(tmp_path / "a.root", Provenance("skim", accounting(30, 0))))).splitlines()
    assert "Made from root://x//store/d/" in lines
    assert len(lines) < 50
    more = next(i for i, line in enumerate(lines) if "... and 22 more" in line)
    assert lines[more - 1].split()[0] == "7.root"
    assert lines[more + 1].split() == ["all", "30", "files", "300", "0", "600"]


@pytest.mark.parametrize(
    ("kind", "title"),
    [("skim", "Columns of the selection"), ("scores", "Columns of the model"), ("attached", "Attached columns")],
)
def test_columns_and_model_are_of_what_made_them(tmp_path: Path, kind: str, title: str) -> None:
    columns = {"dxy": MadeColumn("float32", "distance [cm]")}
    record = Provenance(kind, accounting(), columns=columns, model=ScoredBy("trilepton", "abc123"))
    text = printed(inspect_file(skim(tmp_path / "a.root", record)))
    assert all(said in text for said in (f"\n{title}\n", f"{kind}, simulation, TTree", "trilepton", "abc123"))


def test_data_and_simulation_may_be_mixed(tmp_path: Path) -> None:
    mixed = Accounting([*accounting().files, *accounting(is_data=True).files])
    found = inspect_file(skim(tmp_path / "a.root", Provenance("scores", mixed)))
    assert found.to_json()["is_data"] is None
    assert "data and simulation, mixed" in printed(found)


def test_a_file_that_was_changed_is_doubted(tmp_path: Path) -> None:
    record = Provenance("skim", accounting(selected=5), columns={"gone": MadeColumn("float32", "")})
    found = inspect_file(skim(tmp_path / "a.root", record))
    content = found.to_json()
    assert "has 3 events, but its record says 5" in content["errors"][0]
    assert "columns that the file lacks: gone" in content["errors"][1]
    assert "error: The file has 3 events" in printed(found)
    assert CliRunner().invoke(command, [str(tmp_path / "a.root")], standalone_mode=False).return_value == 1


def test_a_record_that_cannot_be_read_does_not_hide_the_rest(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"genWeight": "f8"}).extend({"genWeight": np.array([1.5, -0.5])})
        file.mktree("nanoml", {"version": "i4"}).extend({"version": np.ones(1, "i4")})
    content = inspect_file(tmp_path / "a.root").to_json()
    assert "cannot be understood" in content["errors"][0]
    assert content["events"] == 2
    assert content["sum_of_weights"] == 1
    assert "nanoml" in content["objects"]


def test_bad_weights_are_told(tmp_path: Path) -> None:
    found = inspect_file(write(tmp_path / "a.root", {"genWeight": np.array([1.5, np.nan])}))
    content = found.to_json()
    assert content["sum_of_weights"] is None
    assert "not a finite number" in content["warnings"][0]
    assert "- by genWeight" in printed(found)


def test_a_skim_with_shifts(sample: Path, tmp_path: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    (tmp_path / "shifted.py").write_text(SELECTION)
    found = inspect_file(skim_by(str(one_file(sample, "WZTo3LNu_Pt100")), "Shifted", tmp_path))
    content = found.to_json()
    books = content["record"]["books"]
    assert (content["events"], content["errors"]) == (books["selected"] + books["only_shifted"], [])
    assert content["warnings"] == []
    assert [each["shift"] for each in books["shifts"]] == list(SHIFTS)
    assert books["only_shifted"] > 0
    up, down, *_ = (each["cutflow"][-1]["events"] / books["selected"] - 1 for each in books["shifts"])
    text = words(found)
    assert f"under shifts alone {books['only_shifted']} of the events" in text
    assert f"events under shifts jes {100 * up:+.1f} % / {100 * down:+.1f} %, jer" in text
    assert "columns under shifts nGoodJet_jesUp, Good_sumPt_jesUp, MET_jesUp and 29 more" in text
    # the table of columns has none of them, and no flag but one
    assert "the event passes the selection" in text
    assert "selected_jesUp" not in text
    assert text.count("scalar sum of the transverse momenta of muons") == 1


def with_shifts(selected: int, **events: int) -> Accounting:
    shifts = [ShiftSums(shift, [Step("all", 1000, 0.0), Step("cut", each, 0.0)], []) for shift, each in events.items()]
    return Accounting([FileAccounting("a.root", 1000, selected, 1.0, "", False, shifts=shifts)])


def test_changes_by_shifts_are_told_in_a_line() -> None:
    assert shift_changes(with_shifts(100)) == ""
    found = shift_changes(with_shifts(200, jesUp=203, jesDown=198, hemDown=180, scale=200))
    assert found == "hemDown -10.0 %, jes +1.5 % / -1.0 %, scale +0.0 %"
    assert shift_changes(with_shifts(0, jesUp=2, jesDown=0)) == "jes +2 / +0"
    many = {f"jes{number}{end}": 200 - number for number in range(40) for end in ("Up", "Down")}
    found = shift_changes(with_shifts(200, **many))
    assert found.startswith("jes39 -19.5 % / -19.5 %, jes38 ")
    assert found.endswith(", jes34 -17.0 % / -17.0 %, and 34 more, at most 16.5 %")
