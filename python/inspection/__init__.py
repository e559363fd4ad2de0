"""Inspection of a file of the pipeline: ROOT, HDF5, ONNX or a workspace of pyhf, by its content.

Inspections of all kinds are printed or given as JSON, and show the accounting of events with its cut flow.
"""

from __future__ import annotations

import codecs
import importlib
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from rich.console import Console

from MLTools.NanoML.errors import ConfigError, NanoMLError, explain_os_error
from MLTools.NanoML.nanoaod.accounting import Accounting, shift_changes
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, FileAccounting, Step, WeightSums
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.schema.plain import parsed, plain
from MLTools.NanoML.terminal.page import Page, TableColumn, amount, count, share

if TYPE_CHECKING:
    from MLTools.NanoML.nanoaod.provenance import Criteria

_FILES_SHOWN = 8
_ONNX_VERSION = 0x08  # tag of ir_version, the first field of an ONNX file
_ONNX_NEXT = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"  # tags of the fields that may follow it
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MEANT = {".root": "a ROOT file", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file", ".onnx": "an ONNX file"}


@dataclass
class Inspection:
    """The content of a file; each kind of file has a class of its own."""

    kind: ClassVar[str]  # "root", "hdf5", "onnx" or "histograms"
    path: str
    size: int | None  # bytes; None for a URL
    warnings: list[str]
    errors: list[str]  # for which the file must not be used: it was damaged, or changed after it was made

    def _content(self) -> dict[str, object]:
        """The content that is particular to this kind of file, as JSON holds it."""
        raise NotImplementedError

    def _show_content(self, page: Page) -> None:
        """Print it, between the title and the warnings."""
        raise NotImplementedError

    def _show_branches(self, page: Page, pattern: str) -> None:
        """Print the branches that a pattern names; only ROOT files have any."""
        raise ConfigError(f"{self.path}: is not a ROOT file: it has no branches to be listed. Leave --branches out.")

    def to_json(self) -> dict[str, object]:
        """Plain content, fit for JSON (no NaN)."""
        common = {"kind": self.kind, "path": self.path, "size": self.size}
        return {**common, **self._content(), "warnings": self.warnings, "errors": self.errors}

    def show(self, pattern: str | None = None, console: Console | None = None) -> None:
        """Print what was found, or only the branches that match a glob (or are of this collection), to the console.

        Raises
        ------
        NanoMLError
            No branch matches.
        ConfigError
            There is a pattern, but the file is not a ROOT file.
        """
        page = Page(console)
        if pattern is not None:
            self._show_branches(page, pattern)
            return
        page.title(self.path)
        self._show_content(page)
        page.warnings(self.warnings, self.errors)


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _Cut:
    """A step of a cut flow, with the shares of the events that the step before left, of all events, and of all weights."""

    cut: str
    events: int
    of_previous: float | None
    of_all: float | None
    weights: float
    weights_of_all: float | None


def _cuts(steps: Sequence[Step]) -> Iterator[_Cut]:
    def ratio(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    for before, step in zip([*steps[:1], *steps], steps):
        of_previous, of_all = ratio(step.events, before.events), ratio(step.events, steps[0].events)
        yield _Cut(step.cut, step.events, of_previous, of_all, step.weights, ratio(step.weights, steps[0].weights))


BEFORE_CUTS = "How many events of data pass the first cut and others may be blind: --show-data shows it."


def before_cuts(accounting: Accounting) -> Accounting:
    """The accounting of data as if there had been no cut; that of simulation as it is."""
    start: dict[str, Any] = {"duplicates": 0, "shifts": [], "weights": []}
    return Accounting([
        replace(it, selected=it.entries, cutflow=it.cutflow[:1], **start) if it.is_data else it for it in accounting.files
    ])  # fmt: skip


def accounting_content(accounting: Accounting, is_blind: bool = False) -> dict[str, object]:
    """Accounting with its sums, and each file's numbers without its cut flow, as JSON holds it; `is_blind` as in `show_accounting`."""
    others = accounting.written - accounting.selected

    def kept(of: FileAccounting | Accounting) -> dict[str, int | None]:
        hides = is_blind and of.is_data is not False
        return {key: None if hides else getattr(of, key) for key in ("selected", "duplicates")}

    return {
        "entries": accounting.entries,
        **kept(accounting),
        "is_data": accounting.is_data,
        "sum_of_weights": finite(accounting.sum_of_weights),
        "sum_of_weights_sources": weight_sources(accounting),
        "cutflow": plain(list(_cuts(accounting.cutflow))),
        **({"weights": plain(accounting.weights)} if accounting.weights else {}),
        **({"shifts": plain(accounting.shifts), "only_shifted": others} if accounting.shifts or others else {}),
        "files": [
            {
                "file": file.file,
                "entries": file.entries,
                **kept(file),
                "sum_of_weights": finite(file.sum_of_weights),
                "sum_of_weights_source": file.sum_of_weights_source,
                "part": plain(file.part),
            }
            for file in accounting.files
        ],
    }


def weight_sources(accounting: Accounting) -> list[str]:
    """Where the sum of weights comes from."""
    return sorted({file.sum_of_weights_source for file in accounting.files})


def kind_of_events(is_data: bool | None) -> str:
    """Data or simulation, in words."""
    return {True: "data", False: "simulation"}.get(is_data, "data and simulation, mixed")  # type: ignore[arg-type]


def sum_of_weights(accounting: Accounting) -> str:
    """The sum, and where it comes from."""
    return f"{amount(finite(accounting.sum_of_weights))} by {', '.join(weight_sources(accounting))}"


def criteria_facts(criteria: Criteria) -> list[tuple[str, str | None]]:
    """The criteria beside the selection by which a skim has its events and branches; a fact is None if there is none."""
    certified = criteria.certified
    return [
        ("certified by", f"{certified.file} (SHA-256 {certified.sha256[:8]})" if certified else None),
        ("cut", criteria.cut or None),
        ("modules", ", ".join(criteria.modules) or None),
        ("code", criteria.code or None),
        ("branches kept", ", ".join(criteria.keep) or None),
    ]


def duplicates_fact(
    accounting: Accounting, own: str = "", owners: Mapping[str, int] = MappingProxyType({})
) -> tuple[str, str | None]:
    """How many events of a dataset were left out as copies, and how many of them each of the `owners` has."""
    if not accounting.duplicates:
        return "duplicates", None
    also = "".join(
        f", {many:,} which {owner} has" if owner != own else f", {many:,} copies of its own events"
        for owner, many in owners.items()
    )
    return "duplicates", f"{accounting.duplicates:,} left out{also}"


def shift_facts(accounting: Accounting) -> list[tuple[str, str | None]]:
    """How many events were kept under shifts of objects alone, and how each shift changes the number of selected events."""
    others, changes = accounting.written - accounting.selected, shift_changes(accounting)
    kept = f"{count(others)} of the events" if changes or others else None
    return [("under shifts alone", kept), ("events under shifts", changes or None)]


def only_file(accounting: Accounting) -> str | None:
    """The file that events were read from, if it is one; `show_accounting` prints several."""
    return _named(accounting.files[0]) if len(accounting.files) == 1 else None


def show_accounting(page: Page, accounting: Accounting, is_blind: bool = False) -> None:
    """Print the cut flow, if there was a selection, and the files that events were read from, if there are several.

    If it `is_blind`, not how many events of data were kept.
    """
    numbers = ("events", "of\nprevious", "of all", "sum of\nweights", "of all")
    rows = []
    for number, cut in enumerate(_cuts(accounting.cutflow)):
        shares = [share(each) if number else "" for each in (cut.of_previous, cut.of_all, cut.weights_of_all)]
        rows.append((cut.cut, count(cut.events), *shares[:2], amount(cut.weights), shares[2]))
    page.table("Cut flow", [TableColumn("cut", "rest"), *(TableColumn(name, "number") for name in numbers)], rows)
    columns = ["weight", "given after", TableColumn("mean", "number"), TableColumn("of variations", "rest")]
    page.table("Weights", columns, map(_weight, accounting.weights if not accounting.is_data else ()))
    files = accounting.files
    if len(files) < 2:
        return
    directory = os.path.commonprefix([file.file for file in files])  # noqa: RUF071 (not all are paths)
    directory = directory[: directory.rfind("/") + 1]
    named = [(_named(file)[len(directory) :], *_numbers(file, is_blind)) for file in files[:_FILES_SHOWN]]
    if len(files) > _FILES_SHOWN:
        named.append((f"... and {len(files) - _FILES_SHOWN:,} more", "", "", ""))
    named.append((f"all {len(files):,} files", *_numbers(accounting, is_blind)))
    columns = [TableColumn("events", "number"), TableColumn("kept", "number"), TableColumn("sum of\nweights", "number")]
    page.table(f"Made from {directory}".rstrip(), [TableColumn("file", "rest"), *columns], named)


def _weight(sums: WeightSums) -> tuple[str, str, str, str]:
    """A row of the table of weights."""
    nominal = f"{sums.means[NOMINAL]:.4f}" if sums.means else ""
    varied = sums.varied_means(4)
    return sums.weight, sums.cut, nominal, f"{varied} (before it is normalised)" if sums.keeps_yield else varied


def _named(file: FileAccounting) -> str:
    """The file, with its range of entries if it was not read whole."""
    if file.part is None:
        return file.file
    if file.part.first is None:
        return f"{file.file}, some entries"
    return f"{file.file}, entries {file.part.first:,} to {file.part.first + file.entries - 1:,}"


def _numbers(accounting: FileAccounting | Accounting, is_blind: bool) -> tuple[str, str, str]:
    """Events and weights. A range of entries shows the sum of its own events; the file's sum counts once in all."""
    part = accounting.part if isinstance(accounting, FileAccounting) else None
    weights = part.weights if part else accounting.sum_of_weights
    kept = "blind" if is_blind and accounting.is_data is not False else count(accounting.selected)
    return count(accounting.entries), kept, amount(finite(weights))


def inspect_file(path: str | os.PathLike[str], show_data: bool = True) -> Inspection:
    """Inspect a ROOT, HDF5 or ONNX file, a workspace of pyhf, or the URL of a ROOT file. The content decides, not the name.

    Without `show_data`, nothing is said of data after the first cut: they may be blind.

    Raises NanoMLError if there is no such file, it is of no known kind, or it is damaged.
    """
    name = os.fspath(path)
    # each kind needs packages that take long to import, and that not every machine has
    kind = kind_of(name)
    inspect = importlib.import_module(f"{__name__}.{kind}").inspect
    return inspect(name, show_data) if kind in ("root", "hdf5") else inspect(name)


def kind_of(path: str | os.PathLike[str]) -> str:
    """Kind of a file: "root", "hdf5", "onnx" or, for a workspace of pyhf, "histograms"; a URL counts as "root".

    Raises NanoMLError if there is no such file, it cannot be opened, or it is of no known kind.
    """
    name = os.fspath(path)
    if is_remote(name):
        return "root"
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            with open(name, "rb") as file:
                return _kind_of_content(file, name, os.path.getsize(name))
    except FileNotFoundError:
        raise NanoMLError(f"{name}: no such file.") from None
    except OSError as problem:
        raise explain_os_error(problem, name, "read") from None
    what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
    raise NanoMLError(f"{name}: is {what}. Name a ROOT, HDF5 or ONNX file.")


def _kind_of_content(file: BinaryIO, name: str, size: int) -> str:
    head = file.read(256)
    if not head:
        raise NanoMLError(f"{name}: is empty (0 bytes): fetch or make it again.")
    if head.startswith(b"root") and not _is_text(head):  # a version number follows, which may be negative
        return "root"
    if _is_hdf5(file, size):
        return "hdf5"
    # a small IR version, then another field of a model
    if len(head) >= 2 and head[0] == _ONNX_VERSION and 0 < head[1] < 128 and head[2:3] in _ONNX_NEXT:
        return "onnx"
    suffix = os.path.splitext(name)[1].lower()
    meant = f" Its name says {_MEANT[suffix]}: fetch or make it again." if suffix in _MEANT else ""
    what, advice = "a text file" if _is_text(head) else "a binary file of another kind", meant
    if head.startswith(b"version https://git-lfs"):
        what, advice = "a Git LFS pointer", " Run `git lfs pull`."
    elif head.lstrip()[:1] == b"<":
        what = "an HTML or XML file"
    elif head.lstrip()[:1] == b"{":
        if _is_workspace(file):
            return "histograms"
        what, advice = "a JSON file", meant or " If it belongs to a model, name the .onnx file beside it."
    raise NanoMLError(f"{name}: is {what}, not a ROOT, HDF5 or ONNX file.{advice}")


def _is_hdf5(file: BinaryIO, size: int) -> bool:
    """The signature stands at the beginning, or after a user block of 512, 1024, 2048, ... bytes."""
    offset = 0
    while offset + len(_HDF5) <= size:
        file.seek(offset)
        if file.read(len(_HDF5)) == _HDF5:
            return True
        offset = max(512, 2 * offset)
    return False


def _is_workspace(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        content = parsed(file.read().decode())
    except ValueError:
        return False
    return {"channels", "observations", "measurements"} <= content.keys()


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
