"""The framework job report: how a job tells CRAB what it read and wrote, and how it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from MLTools.NanoML.atomic import replacing

__all__ = ["REPORT", "Processed", "write_failure", "write_success"]

REPORT = "FrameworkJobReport.xml"
"""Its name, which CRAB expects."""

_INPUT = {
    "PFN": "",
    "Catalog": "",
    "InputType": "primaryFiles",
    "ModuleLabel": "source",
    "InputSourceClass": "PoolSource",
    "GUID": "",
}


@dataclass(frozen=True)
class Processed:
    """A file that was read or written.

    Attributes
    ----------
    name
        Of an input its logical name, or its path; of the output its path.
    events
        Events that were read, or written.
    sections
        Luminosity sections behind them, as in a luminosity JSON.
    """

    name: str
    events: int
    sections: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)


def write_success(directory: Path, inputs: Sequence[Processed], output: Processed, identity: str) -> None:
    """Write the report of a job that did its work.

    Parameters
    ----------
    directory
        Of the job.
    inputs, output
        What it read and wrote.
    identity
        32 hexadecimal digits that tell one configuration from another: CRAB asks for those of the PSet.
    """
    root = ElementTree.Element("FrameworkJobReport")
    for each in inputs:
        fields = {"LFN": each.name, **_INPUT, "EventsRead": str(each.events)}
        _add(root, "InputFile", fields, each)
    fields = {
        "LFN": "",
        "PFN": output.name,
        "Catalog": "",
        "ModuleLabel": "output",
        "GUID": "",
        "OutputModuleClass": "PoolOutputModule",
        "DataType": "",
        "BranchHash": identity,
        "TotalEvents": str(output.events),
    }
    _add(root, "File", fields, output)
    ElementTree.SubElement(ElementTree.SubElement(root, "Process"), "ParameterSetID").text = identity
    _write(directory, root)


def write_failure(directory: Path, code: int, kind: str, message: str) -> None:
    """Write the report of a job that failed; CRAB shows the code and the message."""
    root = ElementTree.Element("FrameworkJobReport")
    error = ElementTree.SubElement(root, "FrameworkError", ExitStatus=str(code), Type=kind)
    error.text = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in message)
    _write(directory, root)


def _add(root: ElementTree.Element, tag: str, fields: Mapping[str, str], file: Processed) -> None:
    element = ElementTree.SubElement(root, tag)
    for name, value in fields.items():
        ElementTree.SubElement(element, name).text = value
    runs = ElementTree.SubElement(element, "Runs")
    for number, ranges in file.sections.items():
        run = ElementTree.SubElement(runs, "Run", ID=number)
        for first, last in ranges:
            for section in range(first, last + 1):
                ElementTree.SubElement(run, "LumiSection", ID=str(section))


def _write(directory: Path, root: ElementTree.Element) -> None:
    # in ASCII, because CRAB rewrites what is not
    with replacing(directory / REPORT) as aside:
        aside.write_bytes(ElementTree.tostring(root, encoding="us-ascii"))
