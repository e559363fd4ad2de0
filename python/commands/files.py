"""`nanoml inspect`, `validate` and `verify`: what is in a file, and whether it is right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import FILE, PATH, command, echo, flag, json_option
from MLTools.NanoML.terminal.progress import printable

_TITLES = {
    "file": "the file can be read",
    "metadata": "the metadata are complete and consistent",
    "columns": "events have the fields and types of the metadata",
    "collections": "collections have the fields, types and shapes of the metadata",
    "padding": "objects come first, and padding is zero",
    "order": "objects are sorted",
    "truncated": "as many objects are stored as were counted",
    "labels": "labels are those of the datasets",
    "finite": "numbers are finite",
    "unique": "no event is there twice",
    "events": "there are as many events as the accounting says",
    "weights": "weights are those of cross section and luminosity",
    "sums": "weights add up to what the last cut left",
    "cutflow": "cut flows fall from all events to those kept",
    "books": "the accounting of the files adds up",
}
_ADVICE = {
    "finite": "Fix what makes it and convert again, or accept NaN with --allow-nan.",
    "unique": "Look for a file that was given twice, and convert again.",
    "cutflow": "Skim and convert again.",
    "books": "Skim and convert again.",
}
_MARKS = {"passed": ("✓", "ok", "green"), "failed": ("✗", "bad", "red"), "skipped": ("-", "-", "dim")}


@command(
    "nanoml inspect skims/WZ.root",
    "nanoml inspect skims/WZ.root --branches 'Muon_*'",
    "nanoml inspect histograms/histograms.root",
    "nanoml inspect model.onnx --json",
)
@click.argument("file", type=FILE)
@click.option("--branches", metavar="GLOB", help="List the branches of a ROOT file that match, with types and titles.")
@flag("--show-data", "Show also how many events of data are left after cuts, and of what kind: they may be blind.")
@json_option
def inspect(file: str, branches: Optional[str], show_data: bool, as_json: bool) -> int:
    """Show what is in a ROOT, HDF5 or ONNX file of the pipeline, or in the workspace of a fit.

    Of data it says nothing after the first cut, unless --show-data is given. The exit code
    is 1 if the file is damaged, or does not agree with its own metadata.
    """
    from MLTools.NanoML.inspection import inspect_file

    found = inspect_file(file, show_data)
    if as_json:
        echo(json.dumps(found.to_json(), indent=1))
    else:
        found.show(branches)
    return 1 if found.errors else 0


@command("nanoml validate examples/trilepton/hdf5/*.h5", "nanoml validate --json --allow-nan events.h5")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@flag("--allow-nan", "Accept NaN, but nothing infinite, in features and fields of objects.")
@json_option
@click.pass_context
def validate(context: click.Context, files: tuple[str, ...], allow_nan: bool, as_json: bool) -> None:
    """Check HDF5 files against their metadata and accounting.

    All checks are made, even if some fail. The exit code is 0 if all files are valid, and 1 if not.
    """
    from MLTools.NanoML.stages import import_part

    validation, contents = import_part("data_processing.convert.validation"), []
    for file in files:
        found = validation.validate_file(file, allow_nan)
        checks = [_check(found, check) for check in _TITLES]
        valid = not found.faults
        events = None if found.is_data else found.events
        contents.append({"path": found.path, "valid": valid, "events": events, "checks": list(map(asdict, checks))})
        if not as_json:
            _show(found, checks)
    if as_json:
        echo(json.dumps(contents, indent=1))
    if not all(content["valid"] for content in contents):
        context.exit(1)


@dataclass(frozen=True)
class _Fault:
    where: Optional[str]
    row: Optional[int]  # the first
    times: Optional[int]
    message: str


@dataclass(frozen=True)
class _Check:
    """What one check found."""

    check: str
    title: str
    status: str  # "passed", "failed" or "skipped"
    note: Optional[str]  # why it was left out
    faults: list[_Fault]


def _check(found: Any, check: str) -> _Check:
    faults = []
    for (name, where, what), (row, times) in found.faults.items():
        if name == check:
            rows = f" (in row {row})" if times == 1 else f" ({times:,} times, first in row {row})" if times else ""
            message = f"{found.path}: {where}: {what}{rows}. {_ADVICE.get(check, 'Convert again.')}"
            # without a place, the message is complete
            faults.append(_Fault(where or None, row if times else None, times or None, message if where else what))
    note = found.skipped.get(check) if found.complete or check == "file" else "not reached"
    return _Check(check, _TITLES[check], "failed" if faults else "skipped" if note else "passed", note, faults)


def _show(found: Any, checks: Sequence[_Check]) -> None:
    from rich.console import Console
    from rich.text import Text

    from MLTools.NanoML.terminal.page import Page, TableColumn, count

    console = Console()
    page = Page(console)
    faults = [fault.message for check in checks for fault in check.faults]
    if found.events is not None:
        page.title(found.path)
        events = "blind" if found.is_data else count(found.events)
        page.facts([("events", events), ("valid", "no" if faults else "yes")])
        pretty = 0 if console.encoding.startswith("utf") else 1
        rows = []
        for check in checks:
            mark = _MARKS[check.status]
            note = f" ({check.note})" if check.status == "skipped" else ""
            rows.append((Text(mark[pretty], style=mark[2]), check.check, check.title + note))
        page.table("Checks", [TableColumn(""), TableColumn("check"), TableColumn("what", "rest")], rows)
        console.print()
    for fault in faults:
        console.print(Text(printable(fault), style="red"), soft_wrap=True)
    if faults and found.events is not None:
        console.print()


@command(
    "nanoml verify model.onnx",
    "nanoml verify model.onnx --onnxruntime 1.17.1",
    "nanoml verify model.onnx --run examples/trilepton/training",
    short="Check that a model computes what it should.",
)
@click.argument("model", type=PATH, metavar="MODEL.onnx")
@click.option(
    "--onnxruntime",
    "version",
    metavar="VERSION",
    help="Run it with this version of ONNX Runtime, which is installed for this and removed again.",
)
@click.option(
    "--run",
    "training",
    type=PATH,
    metavar="DIR",
    help="Directory of the training: compare with its networks in PyTorch.",
)
def verify(model: Path, version: Optional[str], training: Optional[Path]) -> None:
    """Run a model on its reference events, and on inputs that are known to break models.

    These are unusual numbers of events and objects, also none, NaN, infinities and extreme numbers.
    """
    from MLTools.NanoML.model.verification import verify_model
    from MLTools.NanoML.stages import import_part

    networks = None
    if training is not None:
        networks = import_part("ML_processing.export.export").TrainedNetworks.of(training)
    for line in verify_model(model, version, networks):
        echo(line)
