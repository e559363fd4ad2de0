"""`nanoml corrections`: what a file of corrections offers and needs, or whether those of an era are in order."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from MLTools.NanoML.commands.options import command, json_option

if TYPE_CHECKING:
    from MLTools.NanoML.corrections.era import Corrections
    from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile


_SCALE = re.compile(r"(?P<campaign>.+)_L1L2L3Res_(?P<algorithm>AK\w+)")
_SMEARING = re.compile(r"SmearAndSyst|EGMSmearAndSyst_ElePTsplit_\w+|\w*Smearing\w*")
_UNCERTAINTY = "UL-EGM_ScaleUnc"
_MANY = 60  # characters of choices in the table


@command(
    "nanoml corrections POG/MUO/2018_UL/muon_Z.json.gz",
    "nanoml corrections POG/MUO/2018_UL/muon_Z.json.gz NUM_TightID_DEN_TrackerMuons",
    "nanoml corrections corrections/2018.yaml",
)
@click.argument("file", metavar="FILE | ERA.yaml")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def corrections(file: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show what a FILE of correctionlib offers and needs, with lines for the YAML file of an era.

    FILE is a path, a URL, or a path as below CMS's directories on CVMFS. With NAMEs only these corrections are shown, and in
    full. The YAML file of an era is checked: that all of its files are there, and have what it asks for.
    """
    from MLTools.NanoML.corrections.era import Corrections, find_file
    from MLTools.NanoML.corrections.evaluation import CorrectionFile

    if file.endswith((".yaml", ".yml")):
        _show_era(Corrections.read(file), as_json)
        return
    found = CorrectionFile(find_file(file, Path.cwd(), "nanoml corrections"))
    chosen = [found[name] for name in names or found.names]
    if as_json:
        click.echo(json.dumps([_plain(each) for each in chosen], indent=1))
        return
    from rich.console import Console

    from MLTools.NanoML.terminal.page import Page

    page = Page(Console())
    page.title(str(found.path))
    about = found.content.get("description") if not names else None
    page.facts([("SHA-256", found.digest), ("corrections", len(found.names)), ("about", about)])
    if names:
        for correction in chosen:
            _show_inputs(page, correction)
    else:
        _show_all(page, chosen)
    page.heading("For the YAML file of an era")
    for line in _entries(file, found, chosen[:1] if not names else chosen):
        click.echo(f"  {line}")


def _show_all(page: Any, chosen: Iterable[Correction]) -> None:
    from MLTools.NanoML.terminal.page import TableColumn

    rows = []
    for correction in chosen:
        inputs = [f"{axis.name} ({_shortened(axis.domain)})" for axis in correction.axes.values()]
        rows.append((correction.name, "; ".join(inputs)))
    page.table("Corrections", [TableColumn("name", "name"), TableColumn("inputs", "rest")], rows)


def _show_inputs(page: Any, correction: Correction) -> None:
    from MLTools.NanoML.terminal.page import TableColumn

    rows = [(axis.name, axis.type, axis.domain, axis.description) for axis in correction.axes.values()]
    columns = [TableColumn("input"), TableColumn("type"), TableColumn("may be", "rest"), TableColumn("what", "rest")]
    page.table(correction.name, columns, rows)
    if correction.description not in ("", correction.name):
        page.facts([("about", correction.description)])


def _shortened(text: str) -> str:
    return text if len(text) <= _MANY else f"{text[:_MANY].rpartition(',')[0]}, ..."


def _entries(file: str, found: CorrectionFile, chosen: Sequence[Correction]) -> Iterator[str]:
    """Lines of YAML that ask for corrections."""
    scales = [match for match in map(_SCALE.fullmatch, found.names) if match]
    if scales:
        yield from _jet_entry(file, found, scales)
        return
    smearing = next((name for name in found.names if _SMEARING.fullmatch(name)), None)
    if smearing is not None:
        scale = next((name for name in found.names if "Scale" in name), "...")  # products come first
        yield f"electrons: {{file: {file}, scale: {scale}, smearing: {smearing}}}"
        return
    if _UNCERTAINTY in found.names:
        years = found[_UNCERTAINTY].axes["year"].choices
        yield f"electrons: {{file: {file}, uncertainty: {_UNCERTAINTY}, inputs: {{year: {json.dumps(years[0])}}}}}"
        return
    from MLTools.NanoML.corrections.entries import variations_of

    for correction in chosen:
        chooser, _ = variations_of(correction, {})
        texts = {name: axis for name, axis in correction.axes.items() if axis.type == "string" and name != chooser}
        fixed = ", ".join(f"{name}: {json.dumps(str((axis.choices or ('...',))[0]))}" for name, axis in texts.items())
        inputs = f", inputs: {{{fixed}}}" if fixed else ""
        yield f"{correction.name}: {{file: {file}, name: {correction.name}{inputs}}}"
        for name, axis in texts.items():
            yield f"# {name} may be {axis.domain}"


def _jet_entry(file: str, found: CorrectionFile, scales: Sequence[re.Match[str]]) -> Iterator[str]:
    """The entry `jets`, with a place for the ranges of runs."""
    algorithm = scales[0]["algorithm"]
    simulation = next((each["campaign"] for each in scales if each["campaign"].endswith("_MC")), "...")
    data = [each["campaign"] for each in scales if each["campaign"].endswith("_DATA")]
    yield "jets:"
    yield f"  file: {file}"
    yield f"  algorithm: {algorithm}"
    yield "  jec:"
    yield f"    simulation: {simulation}"
    if data:
        yield "    data:  # the first and last run of each"
        yield from (f"      FIRST-LAST: {campaign}" for campaign in data)
    resolutions = [name.partition("_PtResolution_")[0] for name in found.names if "_PtResolution_" in name]
    yield from (f"  jer: {name}" for name in resolutions[:1])
    if "Puppi" in algorithm:
        yield "  missing_momentum: PuppiMET"
        yield "  matched_only: 2.5-3.0  # in Run 3"
    start, end = f"{simulation}_", f"_{algorithm}"
    others = ("L1L2L3Res", "L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")
    sources = [name[len(start) : -len(end)] for name in found.names if name.startswith(start) and name.endswith(end)]
    yield "  sources: [Total]"
    yield f"# sources may be {', '.join(source for source in sources if source not in others)}"


def _plain(correction: Correction) -> dict[str, Any]:
    inputs = [dataclasses.asdict(axis) for axis in correction.axes.values()]
    return {"name": correction.name, "description": correction.description, "inputs": inputs}


def _show_era(era: Corrections, as_json: bool) -> None:
    """The entries of an era, all of which are in order."""
    rows = [(name, *getattr(era, name).described) for name in era.names]
    if as_json:
        keys = ("entry", "correction", "inputs", "variations")
        click.echo(json.dumps({"files": era.digests, "entries": [dict(zip(keys, row)) for row in rows]}, indent=1))
        return
    from rich.console import Console

    from MLTools.NanoML.terminal.page import Page, TableColumn

    page = Page(Console())
    page.title(str(era.path))
    page.facts((file, f"SHA-256 {digest}") for file, digest in era.digests.items())
    columns = [TableColumn("entry"), TableColumn("correction", "rest"), TableColumn("inputs", "rest")]
    page.table("Entries", [*columns, TableColumn("nominal, up, down", "rest")], rows)
