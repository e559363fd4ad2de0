from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.loading import load_selection
from MLTools.NanoML.sources import source_files
from MLTools.NanoML.trilepton import Trilepton

SELECTION = "from MLTools.NanoML.selection import Selection\n"


def written(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)


def names(directory: Path, spec: str) -> set[str]:
    found = source_files(load_selection(spec, directory))
    return {path.name for path in found if path.parent == directory}


@pytest.mark.parametrize(
    "line",
    [
        "from cuts_of_mine import PT",
        "from cuts_of_mine import PT as threshold, ETA",
        "import cuts_of_mine",
        "import cuts_of_mine as cuts",
        "from cuts_of_mine import *",
        "def later():\n    from cuts_of_mine import PT",
    ],
)
def test_a_file_of_which_only_constants_are_imported_counts(tmp_path: Path, line: str) -> None:
    written(
        tmp_path, cuts_of_mine="PT = 20\nETA = 2.4\n", mine_a=f"{SELECTION}{line}\nclass A(Selection): pass\n"
    )
    written(tmp_path, unrelated="X = 1\n")
    assert names(tmp_path, "mine_a.py:A") == {"mine_a.py", "cuts_of_mine.py"}


def test_what_stands_behind_a_helper_and_a_base_counts_too(tmp_path: Path) -> None:
    written(
        tmp_path,
        deep_numbers="PT = 20\n",
        deep_helper="from deep_numbers import PT\nimport deep_round\n",
        deep_round="import deep_helper\n",  # in circles
        deep_other="ETA = 2\n",
        deep_base=f"{SELECTION}from deep_other import ETA\nclass Base(Selection): pass\n",
        deep="from deep_base import Base\nimport deep_helper\nclass Deep(Base): pass\n",
    )
    expected = {f"deep{name}.py" for name in ("", "_base", "_other", "_helper", "_numbers", "_round")}
    assert names(tmp_path, "deep.py:Deep") == expected


def test_of_nanoml_itself_only_what_is_imported_counts() -> None:
    found = {path.name for path in source_files(Trilepton())}
    assert {"trilepton.py", "selection.py", "flat.py", "events.py", "cutflow.py"} <= found
    assert not {"rootfile.py", "errors.py"} & found
