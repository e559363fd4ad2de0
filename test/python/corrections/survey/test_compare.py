from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.corrections.survey.compare import compare
from MLTools.NanoML.corrections.survey.tree import check
from processes import nanoml
from services.invented import binning, category, correction, pileup, write

REAL, SYST = {"eta": "real", "pt": "real"}, {"syst": "string"}
EDGES = (0.0, 1.0, 2.5)


def by_pt(*values: float) -> dict[str, Any]:
    return binning("eta", EDGES, [binning("pt", (20.0, 50.0, 100.0), list(values)), 1.0])


def test_values_that_changed_and_where(tmp_path: Path) -> None:
    same = correction("same", REAL, by_pt(1.0, 0.5))
    old = write(tmp_path / "old.json", correction("sf", REAL, by_pt(1.0, 0.8)), same)
    new = write(tmp_path / "new.json", correction("sf", REAL, by_pt(1.02, 1.0)), same)
    (change,) = compare(old, new)
    assert (change.correction, change.what) == ("sf", "values")
    assert change.largest == pytest.approx(0.25)
    assert change.where == "eta = 0.5, pt = 75"
    assert change.curve is not None
    assert change.curve.axis == "pt"
    np.testing.assert_allclose(change.curve.x, [35.0, 75.0])
    np.testing.assert_allclose(change.curve.bands[:, [0, 2]], [[0.0, 0.02], [0.0, 0.25]], atol=1e-12)


def test_a_new_version_is_compared_and_an_input_that_vanished_is_nominal(tmp_path: Path) -> None:
    keys = category("syst", {"nom": by_pt(1.1, 1.1), "up": by_pt(1.2, 1.2), "down": by_pt(1.0, 1.0)})
    gone, more = (correction(name, REAL, by_pt(1.0, 1.0)) for name in ("gone", "more"))
    before, after = "X_JRV1_MC_ScaleFactor", "X_JRV2_MC_ScaleFactor"
    old = write(tmp_path / "old.json", correction(before, {**REAL, **SYST}, keys), gone)
    new = write(tmp_path / "new.json", correction(after, REAL, by_pt(1.21, 1.21)), more)
    found = {(change.correction, change.what): change for change in compare(old, new)}
    assert set(found) == {("gone", "gone"), ("more", "new"), (after, "inputs"), (after, "values")}
    assert found[after, "inputs"].about == "it was X_JRV1_MC_ScaleFactor; syst is gone"
    assert found[after, "values"].largest == pytest.approx(0.1)


def test_keys_that_came_and_went_and_a_change_of_a_source_alone(tmp_path: Path) -> None:
    usual = {"nom": by_pt(1.0, 1.0), "up": by_pt(1.1, 1.1), "down": by_pt(0.9, 0.9)}
    sources = [{"stat": by_pt(0.1, 0.1), "fit": by_pt(1.0, 1.0)}, {"stat": by_pt(0.1, 0.2), "tag": by_pt(1.0, 1.0)}]
    old, new = (
        write(tmp_path / f"{name}.json", correction("sf", {**REAL, **SYST}, category("syst", {**usual, **more})))
        for name, more in zip(("old", "new"), sources)
    )
    inputs, values = compare(old, new)
    assert inputs.about == "syst lost fit; syst got tag"
    assert values.where == "eta = 0.5, pt = 75, syst = stat"


def test_directories_of_two_dates_and_what_is_damaged(tmp_path: Path) -> None:
    for date, value in (("2030-01-01", 1.0), ("2030-02-02", 1.1)):
        write(tmp_path / date / "both.json", correction("sf", REAL, by_pt(value, value)))
        write(tmp_path / date / f"only_{date}.json", correction("sf", REAL, by_pt(1.0, 1.0)))
        (tmp_path / date / "bad.json").write_text("{")
    done = nanoml("corrections", "compare", "2030-01-01", "2030-02-02", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "bad.json: is not a file of correctionlib" in done.stderr
    found = [(each["file"], each["what"]) for each in json.loads(done.stdout)]
    only = [("only_2030-01-01.json", "gone"), ("only_2030-02-02.json", "new")]
    assert found == [("bad.json", "damaged"), ("both.json", "values"), *only]


def test_figures_of_changes(tmp_path: Path) -> None:
    pytest.importorskip("mplhep")
    write(tmp_path / "old.json", correction("sf", REAL, by_pt(1.0, 0.8)))
    write(tmp_path / "new.json", correction("sf", REAL, by_pt(1.02, 1.0)))
    done = nanoml("corrections", "compare", "old.json", "new.json", "-o", "figures", cwd=tmp_path)
    assert "25.00 %" in done.stdout
    assert [path.name for path in sorted((tmp_path / "figures").iterdir())] == ["changes_1.pdf", "changes_1.png"]
    assert nanoml("corrections", "compare", "old.json", "old.json", cwd=tmp_path).stdout == "Nothing has changed.\n"


def test_a_file_and_a_directory_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "old.json")
    for other in (".", "none.json"):
        done = nanoml("corrections", "compare", "old.json", other, cwd=tmp_path)
        assert done.returncode == 2
        assert "name two files, or two directories" in done.stderr


def fill(folder: Path) -> None:
    """A tree of a file for pile-up weights, one with other corrections, and one that is damaged."""
    pileup("any", folder / "a.json")
    write(
        folder / "b.json",
        correction("fine", {"pt": "real"}, binning("pt", (10.0, 100.0), [1.0])),
        correction("odd", {"moonPhase": "real"}, binning("moonPhase", (0.0, 1.0), [1.0])),
        correction("empty", {"pt": "real"}, binning("pt", (10.0, 100.0), [float("nan")])),
    )
    (folder / "c.json.gz").write_bytes(b"\x1f\x8b nothing")


def test_each_file_says_what_can_be_used_and_why_not(tmp_path: Path) -> None:
    fill(tmp_path)
    a, b, c = check(tmp_path)
    assert (a.entries, a.others, a.unusable) == (("pileup",), 0, ())
    assert (b.entries, b.others) == ((), 3)
    assert b.unusable == ("empty has no value anywhere.", "odd needs moonPhase, which NanoAOD does not have.")
    assert "cannot be read" in c.problem


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    fill(tmp_path)
    done = nanoml("corrections", "check", ".", cwd=tmp_path)
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: c.json.gz: cannot be read")
    assert "pileup" in done.stdout
    (tmp_path / "c.json.gz").unlink()
    assert nanoml("corrections", "check", ".", cwd=tmp_path).returncode == 0


def test_links_that_run_in_a_circle_end(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(list(check(tmp_path))) == 3
