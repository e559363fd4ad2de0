"""`nanoml corrections` and `efficiencies`: what a file of corrections offers and needs, and one that is made of the simulation."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from MLTools.NanoML.commands.options import (
    command,
    config_argument,
    echo,
    echo_as_is,
    echo_json,
    flag,
    json_option,
    loaded,
    option,
    reading_options,
    workers_option,
)

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
    short="Show what a file of corrections offers and needs.",
)
@click.argument("file", metavar="FILE | ERA.yaml")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def corrections(file: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show what a FILE of correctionlib offers and needs, with lines for the YAML file of an era.

    FILE is a path, a URL, or a path below CMS's directories on CVMFS. With NAMEs only these corrections are shown, and in
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
        echo_json([_plain(each) for each in chosen])
        return
    from MLTools.NanoML.terminal.page import Page

    page = Page()
    page.title(str(found.path))
    about = found.content.get("description") if not names else None
    page.facts(("SHA-256", found.digest), ("corrections", len(found.names)), ("about", about))
    if names:
        for correction in chosen:
            _show_inputs(page, correction)
    else:
        _show_all(page, chosen)
    page.heading("For the YAML file of an era")
    for line in _entries(file, found, chosen[:1] if not names else chosen):
        echo_as_is(f"  {line}")


def _show_all(page: Any, chosen: Iterable[Correction]) -> None:
    from MLTools.NanoML.terminal.page import TableColumn

    rows = []
    for correction in chosen:
        inputs = [f"{axis.name} ({_shortened(axis.domain)})" for axis in correction.axes.values()]
        rows.append((correction.name, "; ".join(inputs)))
    page.table("Corrections", ["name", TableColumn("inputs", "rest")], rows)


def _show_inputs(page: Any, correction: Correction) -> None:
    from MLTools.NanoML.terminal.page import TableColumn

    rows = [(axis.name, axis.type, axis.domain, axis.description) for axis in correction.axes.values()]
    columns = ["input", "type", TableColumn("may be", "rest"), TableColumn("what", "rest")]
    page.table(correction.name, columns, rows)
    if correction.description not in ("", correction.name):
        page.facts(("about", correction.description))


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
    if {"k_mc", "cb_params"} <= set(found.names):
        yield f"muons: {{file: {file}}}"
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
    is_new = any("_SFUncertainty_" in name for name in found.names)
    way = "SFUncertainty, as since" if is_new else "systematic, as before"
    yield from (f"  jer: {name}  # up and down by {way} June 2026" for name in resolutions[:1])
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
        echo_json({"files": era.digests, "entries": [dict(zip(keys, row)) for row in rows]})
        return
    from MLTools.NanoML.terminal.page import Page, TableColumn

    page = Page()
    page.title(str(era.path))
    page.facts(*((file, f"SHA-256 {digest}") for file, digest in era.digests.items()))
    columns = ["entry", TableColumn("correction", "rest"), TableColumn("inputs", "rest")]
    page.table("Entries", [*columns, TableColumn("nominal, up, down", "rest")], rows)


def _edges(text: str) -> tuple[float, ...]:
    """Edges of bins, which increase."""
    try:
        edges = tuple(map(float, text.split(",")))
    except ValueError:
        raise click.BadParameter(f"{text}: write numbers with commas between them, as in 20,50,100.") from None
    if len(edges) < 2 or any(low >= high for low, high in zip(edges, edges[1:])):
        raise click.BadParameter(f"{text}: write two numbers or more that increase, as in 20,50,100.")
    return edges


@command(
    "nanoml efficiencies analysis.yaml",
    "nanoml efficiencies analysis.yaml --per class --pt 20,50,100,200,500",
    short="Measure b-tagging efficiencies in the simulation.",
)
@config_argument
@option("--pt", "Edges of the bins in pt [GeV].", "EDGES", type=_edges, default="20,30,50,70,100,140,200,300,600,1000")
@option("--abseta", "Edges of the bins in |eta|.", "EDGES", type=_edges, default="0,0.8,1.6,2.5")
@option(
    "--least",
    "Bins are joined until each has at least this many effective jets.",
    type=click.FloatRange(1),
    default=100,
)
@option(
    "--per, group",
    "Measure for each dataset, or for the datasets of a class or of an era together.",
    type=click.Choice(("dataset", "class", "era")),
    default="dataset",
)
@workers_option("Files read at once")
@reading_options
@flag("--dry-run", "Say only what would be done, and why.")
@flag("--force", "Count again, even what is up to date.")
def efficiencies(
    config: Path,
    pt: tuple[float, ...],
    abseta: tuple[float, ...],
    reading: Any,
    dry_run: bool,
    force: bool,
    **options: Any,
) -> None:
    """Measure how many jets pass in the simulation of an analysis, up to the place where its selection asks for it.

    The selection says of which jets by `cutflow.count_efficiency(NAME, jets, passed)`. All simulated files are read; jets count
    with generator weights, by dataset, flavour, |eta| and pt. For each era a file of correctionlib is written beside the YAML file
    of its corrections, which can name it: efficiencies_ERA.json.
    """
    from MLTools.NanoML.stages import import_part

    counting, measuring = (import_part(f"data_processing.efficiencies.{name}") for name in ("counting", "measure"))
    how = measuring.Measurement(counting.Bins(abseta, pt), **options)
    for line in measuring.measure(loaded(config, reading), how, dry_run, force):
        echo(line)
