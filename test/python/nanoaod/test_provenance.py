from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import uproot
from printing import printed

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.nanoaod import provenance
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, Part, ShiftSums
from MLTools.NanoML.nanoaod.provenance import CertifiedBy, Criteria, MadeColumn, Provenance, ScoredBy
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Step
from services.rootfiles import record_of


def skim(first: int, stop: int, **changes: Any) -> Provenance:
    """The record of a range of entries of a file of ten events, of which the even ones are kept."""
    kept = (stop + 1) // 2 - (first + 1) // 2
    read, part = stop - first, Part(first, 10, float(stop - first), 10.0)
    steps = [Step("all", read, float(read)), Step("even", kept, float(kept))]
    accounting = FileAccounting("a.root", read, kept, 25.0, "Runs/genEventSumw", False, steps, part=part)
    columns = {"x": MadeColumn("float32", "in GeV, or \u00b5m " * 200)}
    record = Provenance("skim", Accounting([accounting]), "a.py:A", columns, criteria=Criteria(cut="x > 1"))
    return replace(record, **changes)


def write(path: Path, rows: Sequence[dict[str, Any]], entries: int, runs: Optional[float] = 25.0) -> Path:
    """A file as something that knows nothing of records has merged it: the rows of trees one after the other."""
    with uproot.recreate(path) as file:
        events = {"genWeight": np.ones(entries, np.float32), "x": np.ones(entries, np.float32)}
        file.mktree("Events", {name: values.dtype for name, values in events.items()}).extend(events)
        if runs is not None:
            file.mktree("Runs", {"genEventSumw": "f8"}).extend({"genEventSumw": np.array([runs])})
        joined = {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}
        types = {name: (values.dtype, values.shape[1:]) for name, values in joined.items()}
        file.mktree("nanoml", types).extend(joined)
    return path


def test_the_records_of_merged_files_are_one(tmp_path: Path) -> None:
    parts = [skim(4, 10), skim(0, 3), skim(3, 4)]
    path = write(tmp_path / "merged.root", [part.rows() for part in parts], 5)
    found = record_of(path)
    assert found == replace(parts[0], accounting=Accounting([part.accounting.files[0] for part in parts]))
    assert (found.accounting.entries, found.accounting.selected, found.accounting.sum_of_weights) == (10, 5, 25)
    assert found.accounting.cutflow == [Step("all", 10, 10.0), Step("even", 5, 5.0)]
    content = inspect_file(path).to_json()
    assert content["warnings"] == content["errors"] == []
    assert (content["sum_of_weights"], content["record"]["books"]["entries"]) == (25, 10)


def test_inspection_tells_the_state_of_a_merged_file(tmp_path: Path) -> None:
    path = write(tmp_path / "gap.root", [skim(0, 3).rows(), skim(4, 10).rows()], 5)
    assert inspect_file(path).warnings == ["The file lacks entry 3 of a.root."]
    assert inspect_file(path).to_json()["sum_of_weights"] == pytest.approx(25 * 0.9)
    text = printed(inspect_file(path))
    assert re.search(r"a.root, entries 0 to 2 +3 +2 +3\n *a.root, entries 4 to 9 +6 +3 +6\n", text)
    path = write(tmp_path / "twice.root", [skim(0, 4).rows(), skim(3, 10).rows()], 5)
    assert "was made from entry 3 of a.root, as" in inspect_file(path).errors[0]
    path = write(tmp_path / "heavy.root", [skim(0, 10).rows()], 5, 50.0)
    assert "has a sum of weights of 50 in its Runs tree, but its record says 25" in inspect_file(path).errors[0]
    other = skim(3, 10, criteria=Criteria(cut="x > 2"))
    path = write(tmp_path / "mixed.root", [skim(0, 3).rows(), other.rows()], 5)
    content = inspect_file(path).to_json()
    assert "some of its events were selected by the cut x > 2, others selected by the cut x > 1" in content["errors"][0]
    assert content["events"] == 5


def test_runs_may_be_elsewhere(tmp_path: Path) -> None:
    """nanoAOD-tools copies Runs with the first entry only, and with a luminosity JSON it copies some rows."""
    certified = skim(0, 10, criteria=Criteria(CertifiedBy("a", "b")))
    for name, record, runs in (("later", skim(4, 10), 0.0), ("none", skim(0, 10), None), ("json", certified, 3.0)):
        path = write(tmp_path / f"{name}.root", [record.rows()], record.accounting.selected, runs)
        with RootFile(path) as file:
            assert record.contradiction(file) is None


def shifted(first: int, stop: int, *columns: str, shifts: Sequence[str] = ("jesUp", "big_jesUp")) -> Provenance:
    """The record of a range that was skimmed with shifts, with these columns beside x."""
    record = skim(first, stop, columns={name: MadeColumn("float32", "") for name in ("x", *columns)})
    record.accounting.files[0].shifts = [ShiftSums(shift, [], []) for shift in shifts]
    return record


def test_columns_with_values_under_shifts() -> None:
    record = shifted(0, 10)
    assert (record.shifts, skim(0, 10).shifts) == (["jesUp", "big_jesUp"], [])
    assert (record.flags, skim(0, 10).flags) == (["selected", "selected_jesUp", "selected_big_jesUp"], [])
    names = ["x", "y_big", *record.flags, "x_jesUp", "z_jesUp", "y_big_jesUp", "x_jesDown", "x_big_jesUp", "jesUp"]
    assert record.shifted(names) == {"x_jesUp": "x", "y_big_jesUp": "y_big", "x_big_jesUp": "x"}
    assert skim(0, 10).shifted(names) == {}


def test_a_column_that_only_some_ranges_name_was_not_filled_in(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", [shifted(0, 3, "x_jesUp").rows(), shifted(3, 10).rows()], 5)
    message = "a.root: was merged from files of which only some .*: x_jesUp. .* `nanoml merge`"
    with pytest.raises(NanoMLError, match=message):
        record_of(path)
    # not if it has no events, as those of entry 3; but then the file may have lost the column
    path = write(tmp_path / "b.root", [shifted(0, 3, "x_jesUp").rows(), shifted(3, 4).rows()], 2)
    with RootFile(path) as file:
        found = record_of(path).contradiction(file)
    assert "has lost columns with values under shifts, which its record names: x_jesUp." in str(found)
    path = write(tmp_path / "c.root", [shifted(0, 3).rows(), shifted(3, 10, shifts=["jesUp"]).rows()], 5)
    said = "selected under the shifts jesUp, others selected under the shifts jesUp, big_jesUp"
    with pytest.raises(NanoMLError, match=said):
        record_of(path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"selection": "b.py:B"}, "selected by b.py:B, others selected by a.py:A"),
        ({"criteria": Criteria(cut="x > 1", modules=("m",))}, "selected by the modules m, others selected without"),
        ({"criteria": Criteria(CertifiedBy("j", "1"), "x > 1")}, "certified by j 1, others not certified"),
        ({"kind": "scores"}, "were scores by NanoML, others skim by NanoML"),
        ({"model": ScoredBy("m", "1")}, "were scored by a model, others scored by another one"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.root", [skim(0, 3).rows(), skim(3, 10, **other).rows()], 5)
    with pytest.raises(NanoMLError, match=f"a.root: was merged from .* {message}.*Merge them separately"):
        record_of(path)


def test_triggers_are_compared_by_their_names(tmp_path: Path) -> None:
    def merged(*triggers: tuple[str, ...]) -> Provenance:
        parts = zip(((0, 3), (3, 10)), triggers)
        rows = [skim(*part, criteria=Criteria(cut="x > 1", triggers=names)).rows() for part, names in parts]
        return record_of(write(tmp_path / "a.root", rows, 5))

    assert sorted(merged(("HLT_A", "HLT_B"), ("HLT_B", "HLT_A")).criteria.triggers) == ["HLT_A", "HLT_B"]
    with pytest.raises(NanoMLError, match="taken by the triggers HLT_B, others taken by the triggers HLT_A"):
        merged(("HLT_A",), ("HLT_B",))


def test_a_damaged_record_is_explained(tmp_path: Path) -> None:
    rows = skim(0, 10).rows()
    # a long text is cut into pieces of one length
    assert (rows["piece"].tolist(), {*rows["pieces"].tolist()}, rows["text"].shape) == ([0, 1, 2], {3}, (3, 2000))
    picked = {"begin": [1, 2], "end": [0, 1], "middle": [0, 2], "order": [0, 2, 1]}
    damaged = {
        **{name: {key: values[places] for key, values in rows.items()} for name, places in picked.items()},
        "newer": {**rows, "schema": rows["schema"] + 1},
        "text": {**rows, "text": rows["text"] // 2},
        "branches": {name: values for name, values in rows.items() if name != "piece"},
    }
    for name, content in damaged.items():
        path = write(tmp_path / f"{name}.root", [content], 5)
        with pytest.raises(NanoMLError, match=f"{name}.root: its record `nanoml` cannot be understood .*again"):
            record_of(path)


def test_a_part_is_no_input_of_a_skim(tmp_path: Path) -> None:
    path = write(tmp_path / "part.root", [skim(0, 3).rows()], 2)
    with RootFile(path) as file, pytest.raises(NanoMLError, match=r"part.root: lacks entries 3 to 9 of a.root"):
        provenance.accounting_of_input(file)
    path = write(tmp_path / "all.root", [skim(0, 3).rows(), skim(3, 10).rows()], 5)
    with RootFile(path) as file:
        found = provenance.accounting_of_input(file)
    assert (found.entries, found.sum_of_weights) == (5, 25)
