from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from data_processing.crab.job import CANNOT_OPEN, CONFIGURATION, OTHER, main, mask_of
from data_processing.crab.report import REPORT
from data_processing.crab.settings import Settings
from MLTools.NanoML.errors import NanoMLError


def process(*files: Any, **more: Any) -> Any:
    return SimpleNamespace(source=SimpleNamespace(fileNames=files, **more))


def failure(directory: Path) -> tuple[int, str]:
    error = ElementTree.parse(directory / REPORT).getroot().find("FrameworkError")
    assert error is not None
    return int(error.get("ExitStatus", "0")), error.text or ""


def test_luminosity_sections_of_a_job() -> None:
    assert mask_of([]) is None
    mask = mask_of(["315267:1-315267:88", "315267:91", "315268:5-315268:5"])
    assert mask is not None
    assert mask.as_dict() == {"315267": [[1, 88], [91, 91]], "315268": [[5, 5]]}


@pytest.mark.parametrize("text", ["1:2-3:4", "1", "1:a", "1:5-1:2"])
def test_luminosity_sections_that_are_none(text: str) -> None:
    with pytest.raises(NanoMLError, match=r"PSet.py: "):
        mask_of([text])


def test_codes_of_what_goes_wrong(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root"

    def code_of(*files: Any, **more: Any) -> tuple[int, str]:
        assert main(process(*files, **more)) == 1
        return failure(tmp_path)

    assert code_of(str(source)) == (CONFIGURATION, failure(tmp_path)[1])
    assert "job.json: is not what" in failure(tmp_path)[1]
    Settings("no.such.module:Selection").write(tmp_path)
    assert code_of()[0] == CONFIGURATION
    code, text = code_of("/nowhere/x.root")
    assert code == CANNOT_OPEN
    assert "/nowhere/x.root: no such file" in text
    assert code_of(None)[0] == OTHER
    assert "Traceback" in capsys.readouterr().err
    code, text = code_of(f"file:{source}", lumisToProcess=["1:14001-1:14001"])
    assert code == CONFIGURATION
    assert "the weights of simulation can only be counted for whole files" in text
    (tmp_path / "broken.root").write_bytes(source.read_bytes()[:2000])
    assert code_of("broken.root")[0] == OTHER
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("nanoml-")] == []
