"""The notebook, executed from its first cell to its last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("torch")
pytest.importorskip("data_processing.skim.skim")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "trilepton.ipynb"

EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def text(cell: dict[str, Any]) -> str:
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def test_it_is_kept_without_outputs() -> None:
    assert cells(NOTEBOOK)
    for cell in cells(NOTEBOOK):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.exhaustive("pages of the manual")
def test_it_goes_the_whole_way(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "examples",
        tmp_path / "examples",
        ignore=shutil.ignore_patterns("trilepton", "leptons", "opendata_invented", "wz"),
    )
    config = tmp_path / "examples" / "trilepton.yaml"
    config.write_text(config.read_text().replace("  model: mlp\n", "  model: mlp\n  epochs: 3\n"))
    line = [sys.executable, "-c", EXECUTE, "trilepton.ipynb"]
    faster = {**os.environ, "NANOML_CORES": "1", "NANOML_TEST_WHITE_FIGURES": "1"}
    done = subprocess.run(line, cwd=tmp_path / "examples", env=faster, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = cells(tmp_path / "examples" / "trilepton.ipynb")
    assert all(cell["execution_count"] for cell in executed)
    said = "\n".join(map(text, executed))
    for expected in ("three good leptons", "score: 9 of 9 to do", "Better than a BDT?", "CMSSW_14_0_X"):
        assert expected in said
    assert "Traceback" not in said
    pictures = [output for cell in executed for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 5
