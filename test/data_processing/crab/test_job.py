from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from data_processing.crab.job import (
    CANNOT_OPEN,
    CANNOT_READ,
    CONFIGURATION,
    OTHER,
    REPORT,
    FileReport,
    main,
    mask_of,
    read_job,
    write_failure,
    write_job,
    write_success,
)
from data_processing.skim.plan import SkimJob
from MLTools.NanoML.errors import ConfigError, NanoMLError


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


def test_luminosity_sections_that_are_none() -> None:
    for text in ("1:2-3:4", "1", "1:a", "1:5-1:2"):
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
    write_job(tmp_path, SkimJob("", Path(), "no.such.module:Selection"))
    assert code_of()[0] == CONFIGURATION
    code, text = code_of("/nowhere/x.root")
    assert code == CANNOT_OPEN
    assert "/nowhere/x.root: no such file" in text
    assert not (tmp_path / "nano.root").exists()
    assert code_of(None)[0] == OTHER
    assert "Traceback" in capsys.readouterr().err
    code, text = code_of(f"file:{source}", lumisToProcess=["1:14001-1:14001"])
    assert code == CONFIGURATION
    assert "the weights of simulation can only be counted for whole files" in text
    (tmp_path / "broken.root").write_bytes(source.read_bytes()[:2000])
    assert code_of("broken.root")[0] == CANNOT_READ
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("nanoml-")] == []


IDENTITY = "0123456789abcdef0123456789abcdef"


def test_what_was_read_and_written(tmp_path: Path) -> None:
    inputs = [FileReport("/store/mc/<a>&b.root", 1000, {"1": [[14001, 14003]]}), FileReport("/store/mc/c.root", 0)]
    write_success(tmp_path, inputs, FileReport("nano.root", 12, {"1": [[14001, 14003]]}), IDENTITY)
    root = ElementTree.parse(tmp_path / REPORT).getroot()
    assert [each.findtext("LFN") for each in root.iter("InputFile")] == [each.name for each in inputs]
    assert [each.findtext("EventsRead") for each in root.iter("InputFile")] == ["1000", "0"]
    output = root.find("File")
    assert output is not None
    assert (output.findtext("PFN"), output.findtext("TotalEvents")) == ("nano.root", "12")
    assert [each.get("ID") for each in output.iter("LumiSection")] == ["14001", "14002", "14003"]
    assert root.findtext("Process/ParameterSetID") == IDENTITY
    assert root.find("FrameworkError") is None


def test_a_failure_in_plain_ascii(tmp_path: Path) -> None:
    message = "größer <than> it\nshould & be \x1b[31mred\x00"
    write_failure(tmp_path, 8020, "FileOpenError", message)
    data = (tmp_path / REPORT).read_bytes()
    assert data.isascii()
    error = ElementTree.fromstring(data).find("FrameworkError")
    assert error is not None
    assert (error.get("ExitStatus"), error.get("Type")) == ("8020", "FileOpenError")
    assert error.text == "größer <than> it\nshould & be ?[31mred?"


def test_a_damaged_job(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"schema": 2}', '{"schema": 1, "cut": ""}'):
        (tmp_path / "job.json").write_text(text)
        with pytest.raises(ConfigError, match=r"job.json: is not what `nanoml submit` writes"):
            read_job(tmp_path)
