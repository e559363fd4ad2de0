from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from data_processing.crab.report import REPORT, Processed, write_failure, write_success

IDENTITY = "0123456789abcdef0123456789abcdef"


def test_what_was_read_and_written(tmp_path: Path) -> None:
    inputs = [
        Processed("/store/mc/<a>&b.root", 1000, {"1": [[14001, 14003]]}),
        Processed("/store/mc/c.root", 0),
    ]
    write_success(tmp_path, inputs, Processed("nano.root", 12, {"1": [[14001, 14003]]}), IDENTITY)
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
