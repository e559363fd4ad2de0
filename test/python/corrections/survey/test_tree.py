from __future__ import annotations

from pathlib import Path

from MLTools.NanoML.corrections.survey.tree import check
from processes import nanoml
from services.invented import binning, correction, pileup, write


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
