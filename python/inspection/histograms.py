"""The content of a file of histograms, of templates of a fit, and of a workspace of pyhf."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.contracts.templates import DATA, KEY, Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import Inspection, finite
from MLTools.NanoML.rootio.access import Access
from MLTools.NanoML.rootio.histograms import is_histogram
from MLTools.NanoML.schema.plain import DAMAGE, build, content_of, parsed, plain
from MLTools.NanoML.terminal.page import Page, TableColumn, amount, file_size

_HISTOGRAMS, _OTHERS, _WORKSPACE = "histograms of an analysis", "histograms by channel and process", "workspace of pyhf"
_VARIED = re.compile("(.+)(?:Up|Down)")
_CHANNEL, _YIELD = 26, 12  # characters


@dataclass(frozen=True)
class Yield:
    """Sum of weights of a process in a channel, underflow and overflow among them, and the names of its variations."""

    histogram: str  # its name; empty where each channel has only one
    channel: str
    process: str
    bins: int  # their number, without underflow and overflow
    events: Optional[float]  # None if some are blind
    variations: tuple[str, ...]
    is_blind: bool = field(default=False, metadata={"sparse": True})  # all of them


@dataclass
class HistogramsInspection(Inspection):
    """The content of a file of histograms."""

    kind = "histograms"
    what: str
    provenance: dict[str, str]  # by what it is
    yields: list[Yield]

    def _content(self) -> dict[str, Any]:
        return {"what": self.what, "provenance": self.provenance, "yields": plain(self.yields)}

    def _show_content(self, page: Page) -> None:
        names = dict.fromkeys(name for each in self.yields for name in each.variations)
        page.facts(
            ("what", self.what),
            ("size", file_size(self.size)),
            *self.provenance.items(),
            ("variations", ", ".join(names) or None),
        )
        for histogram in dict.fromkeys(each.histogram for each in self.yields):
            found = [each for each in self.yields if each.histogram == histogram]
            _show_yields(page, histogram or "Events", found)


def _show_yields(page: Page, title: str, yields: Iterable[Yield]) -> None:
    """Print the events of each channel, in as many tables as the processes need."""
    known = {(each.channel, each.process): each for each in yields}
    channels = {each.channel: each.bins for each in known.values()}
    processes = sorted(dict.fromkeys(process for _, process in known), key=lambda it: it == DATA)
    at_once = max(1, (page.width - _CHANNEL) // _YIELD)
    for start in range(0, len(processes), at_once):
        some = processes[start : start + at_once]
        columns = ["channel", *(TableColumn(name, "number") for name in ("bins", *some))]
        rows = [
            (name, bins, *(_number(known.get((name, process))) for process in some)) for name, bins in channels.items()
        ]
        page.table(title, columns, rows)


def _number(found: Optional[Yield]) -> str:
    if found is None:
        return ""
    return amount(found.events) if found.events is not None else "blind" if found.is_blind else "partly blind"


def inspect(path: str) -> HistogramsInspection:
    """Inspect a workspace of pyhf.

    Raises NanoMLError if it is damaged.
    """
    try:
        content = content_of(Path(path))
        yields = [
            Yield(
                "",
                str(channel["name"]),
                str(sample["name"]),
                len(sample["data"]),
                finite(sum(sample["data"])),
                tuple(dict.fromkeys(it["name"] for it in sample["modifiers"] if it["type"].endswith("sys"))),
            )
            for channel in content["channels"]
            for sample in channel["samples"]
        ]
        yields += [
            Yield("", str(each["name"]), DATA, len(each["data"]), finite(sum(each["data"])), ())
            for each in content["observations"]
        ]
        poi = content["measurements"][0]["config"]["poi"]
    except DAMAGE as problem:
        raise NanoMLError(
            f"{path}: is a damaged workspace of pyhf ({type(problem).__name__}: {problem}). Run `nanoml fit` again."
        ) from None
    return HistogramsInspection(path, os.path.getsize(path), [], [], _WORKSPACE, {"parameter of interest": poi}, yields)


def of_hdf5(path: str) -> HistogramsInspection:
    """Inspect the HDF5 file of `nanoml histogram`."""
    templates = Templates.read(Path(path))
    yields = [
        Yield(
            histogram.name,
            channel.name,
            process,
            math.prod(number - 2 for number in histogram.shape),
            finite(float(template.nominal.sum())),
            tuple(dict.fromkeys([*template.up, *template.down])),
        )
        for histogram in templates.histograms
        for channel in histogram.channels
        for process, template in channel.processes.items()
    ]
    provenance = _provenance(templates)
    return HistogramsInspection(
        path, os.path.getsize(path), [], [], _HISTOGRAMS, provenance, [*yields, *_blind(templates)]
    )


def _blind(templates: Templates) -> Iterator[Yield]:
    """The data that must not be looked at."""
    for it in templates.histograms:
        bins = math.prod(number - 2 for number in it.shape)
        yield from (Yield(it.name, each.name, DATA, bins, None, (), True) for each in it.channels if each.is_blind)


def of_root(path: str) -> Optional[HistogramsInspection]:
    """Inspect a ROOT file with histograms as CHANNEL/PROCESS or HISTOGRAM/CHANNEL/PROCESS; None if it has none of these."""
    access = Access(path)
    try:
        file = access.open()
        classes = file.classnames(cycle=False)
        yields = list(_yields_of(file, classes))
        is_own = classes.get(KEY) == "TObjString"
        described = build(Templates, parsed(str(file[KEY]))) if is_own else None
        provenance = _provenance(described) if described else {}
        yields += _blind(described) if described else []
        what, size = _HISTOGRAMS if is_own else _OTHERS, access.size
    except NanoMLError:
        raise
    except Exception as problem:  # what uproot raises for a damaged file depends on the damage
        access.reject(f"{type(problem).__name__}: {problem}", problem)
        raise
    finally:
        access.close()
    return HistogramsInspection(path, size, [], [], what, provenance, yields) if yields else None


def _yields_of(file: Any, classes: Mapping[str, str]) -> Iterator[Yield]:
    directories: dict[str, list[str]] = {}
    for name, kind in classes.items():
        directory, _, process = name.rpartition("/")
        if is_histogram(kind) and directory:
            directories.setdefault(directory, []).append(process)
    for directory, names in directories.items():
        variations = _variations(names)
        histogram, _, channel = directory.rpartition("/")
        for process, varied in variations.items():
            found = file[f"{directory}/{process}"]
            events = finite(float(found.values(flow=True).sum()))
            yield Yield(histogram, channel, process, found.values().size, events, tuple(varied))


def _variations(names: Sequence[str]) -> dict[str, dict[str, None]]:
    """The nuisance parameters of each process of a channel, which has histograms PROCESS, PROCESS_NUISANCEUp and Down."""
    owners = {name: _owner(name, set(names)) for name in names}
    found: dict[str, dict[str, None]] = {name: {} for name, owner in owners.items() if owner is None}
    for owner in owners.values():
        if owner is not None:
            process, nuisance = owner
            found.setdefault(process, {})[nuisance] = None
    return found


def _owner(name: str, names: Container[str]) -> Optional[tuple[str, str]]:
    """The process and the nuisance parameter of a variation; None if it is not one."""
    match = _VARIED.fullmatch(name)
    parts = match[1].split("_") if match else []
    for number in range(len(parts) - 1, 0, -1):  # W_jets_jesUp is jes of W_jets, if there is that
        process = "_".join(parts[:number])
        if process in names:
            return process, "_".join(parts[number:])
    return None


def _provenance(templates: Templates) -> dict[str, str]:
    """The origin of histograms."""
    luminosity = (
        f"{value:g} /fb{f' ({era})' if era else ''}" for era, value in templates.luminosity.items() if value is not None
    )
    origins = (it for each in templates.histograms for it in each.origins.items())
    facts = {
        "made by": templates.creator,
        "classes": "; ".join(dict.fromkeys(f"{name}: {', '.join(it.datasets)}" for name, it in origins)),
        "signal": templates.signal,
        "luminosity": ", ".join(luminosity),
        "blind": str(templates.blind or ""),
    }
    return {name: text for name, text in facts.items() if text}
