from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.dependencies import files_behind, source_of
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.selection import load_selection


def test_a_selection_is_found_in_a_module_and_in_a_file(tmp_path: Path) -> None:
    assert type(load_selection("MLTools.NanoML.trilepton:Trilepton")).__name__ == "Trilepton"
    (tmp_path / "helper_of_mine.py").write_text("CUT = 5\n")
    imports = "import helper_of_mine\nfrom MLTools.NanoML.selection import Selection\n"
    (tmp_path / "mine.py").write_text(f"{imports}class Mine(Selection):\n    cut = helper_of_mine.CUT\n")
    mine = load_selection("mine.py:Mine", tmp_path)
    assert mine.cut == 5  # type: ignore[attr-defined]
    files = files_behind(source_of(mine)).values()
    assert tmp_path / "mine.py" in files
    assert tmp_path / "helper_of_mine.py" in files


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "module:Class or file.py:Class"),
        ("no.such.module:Thing", "ModuleNotFoundError"),
        ("absent.py:Thing", "no such file"),
        ("MLTools.NanoML.trilepton:Trilepto", 'Did you mean "Trilepton"'),
        ("MLTools.NanoML.trilepton:good_leptons", "is not a class made from"),
        ("broken.py:Thing", r"SyntaxError.*broken.py:2"),
        ("raises.py:Thing", r"ZeroDivisionError.*raises.py:1"),
        ("reads.py:Thing", r'^selection "reads.py:Thing": absent.onnx: [^()]*$'),
    ],
)
def test_a_selection_that_cannot_be_found_is_explained(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "reads.py").write_text("from MLTools.NanoML.model import Model\nModel('absent.onnx')\n")
    with pytest.raises(ConfigError, match=message):
        load_selection(spec, tmp_path)
