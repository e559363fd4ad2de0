"""Errors name the page of the manual that explains them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from MLTools.NanoML.commands import pages
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Cutflow
from MLTools.NanoML.workflow.stages import STAGES
from processes import nanoml

ROOT = Path(__file__).resolve().parents[3]


def test_all_pages_and_modules_exist() -> None:
    for module, page in pages.PAGES.items():
        assert (ROOT / "doc" / page).is_file(), page
        if (ROOT / module.split(".")[0]).is_dir() or module.startswith("MLTools"):
            assert importlib.util.find_spec(module) is not None, module
    for stage in STAGES:
        assert stage.page is None or (ROOT / "doc" / stage.page).is_file(), stage


def test_the_module_that_raised_it_decides() -> None:
    with pytest.raises(NanoMLError) as caught:
        Cutflow(np.ones(3)).cut("two muons", [True])
    assert pages.page_of(caught.value) == "howto/selection.md"
    assert pages.page_of(NanoMLError("never raised")) is None


def test_a_longer_name_goes_before_a_shorter_one(tmp_path: Path) -> None:
    from MLTools.NanoML.grid.proxy import read_proxy

    with pytest.raises(NanoMLError) as caught:
        read_proxy(tmp_path / "proxy")
    assert pages.page_of(caught.value) == "cern.md"


def test_the_command_line_says_it(tmp_path: Path) -> None:
    pytest.importorskip("data_processing")
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "a.root").touch()
    done = nanoml("skim", "--selection", "mine.py:Mine", "-o", "out", "a.root", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"See doc: {ROOT}/doc/howto/selection.md"


def test_a_mistake_in_a_task_leads_to_the_page_of_its_stage(sample: Path, tmp_path: Path) -> None:
    pytest.importorskip("data_processing")
    (tmp_path / "mine.py").write_text(
        "from MLTools.NanoML.selection import Selection\n\n\n"
        "class Mine(Selection):\n    branches = ('MET_pt',)\n\n    def select(self, events, cutflow):\n        return None\n"
    )
    source = str(sample / "ZGToLLG" / "ZGToLLG_0.root")
    done = nanoml("skim", "--selection", "mine.py:Mine", "-o", "out", source, cwd=tmp_path)
    assert done.returncode == 1
    *_, what, page = done.stderr.splitlines()
    assert "select returned nothing" in what
    assert page.endswith("doc/howto/selection.md")


def test_what_has_no_page_names_none(tmp_path: Path) -> None:
    done = nanoml("run", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "See doc" not in done.stderr


def test_without_a_checkout_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pages.where("skim.md") == str(ROOT / "doc" / "skim.md")
    monkeypatch.setattr(pages, "checkout", lambda: None)
    assert pages.where("skim.md") == "doc/skim.md of NanoML"
