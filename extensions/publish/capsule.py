"""A capsule: a directory with all that an outsider needs to check an analysis, and to ask for the limit on another signal."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from string import Template
from typing import Any

import yaml

from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import aside_of, file_hash, make_directory, write_json
from MLTools.NanoML.config.analysis import Config, fitted_signal
from MLTools.NanoML.config.data import FIT
from MLTools.NanoML.config.fit import Fit
from MLTools.NanoML.corrections.era import read_once
from MLTools.NanoML.errors import ConfigError, NanoMLError, explain_os_error
from MLTools.NanoML.extensions.publish import reproduce
from MLTools.NanoML.extensions.publish.content import (
    FitEntry,
    Fitted,
    compile_stage,
    figures_of,
    fit_entry,
    fits_of,
    write_model,
)
from MLTools.NanoML.nanoaod.accounting import aligned
from MLTools.NanoML.nanoaod.fileaccounting import Step
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.schema.plain import content_of, plain
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.stages import NAMES
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.analysis import Analysis, Stage, plan, run
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.overview import accounting_of
from MLTools.NanoML.workflow.pipeline import planned

UNKNOWN = "-"
_DATA = "Data"
_LONGEST = 64  # name of a table
PACKAGES = ("numpy", "uproot", "awkward", "onnxruntime", "pyhf")
SCHEMA = 1
_TEXTS = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Table:
    """A table of HEPData: its name, what it shows, its content, its figure if there is one, and HEPData's word for what was measured."""

    name: str
    about: str
    content: Mapping[str, Any]
    figure: Path | None = None
    observable: str = "N"

    @classmethod
    def of_figures(cls, directory: Path, names: Sequence[str], prefix: str, is_blind: bool) -> Iterator[Table]:
        """Those of some figures in a directory that have such a table; if it is blind, without data, also of regions that are not."""
        for path in (directory / f"{name}.json" for name in sorted(names)):
            content = content_of(path)
            if not isinstance(content, dict) or "dependent_variables" not in content or path.stem.endswith("_log"):
                continue
            shown = [it for it in content["dependent_variables"] if not (is_blind and it["header"]["name"] == _DATA)]
            for cell in (cell for it in shown for cell in it["values"]):
                cell["value"] = UNKNOWN if cell["value"] is None else cell["value"]
                if cell.get("errors", [{}])[0].get("symerror") == 0:  # HEPData has no errors that are zero
                    del cell["errors"]
            for header in (it["header"] for it in content["independent_variables"]):  # the unit has a place of its own
                header["name"] = header["name"].removesuffix(f" [{header.get('units')}]")
            is_whole = len(shown) == len(content["dependent_variables"])
            figure = path.with_suffix(".png")
            name = f"{prefix}{path.stem}"
            content = {**content, "dependent_variables": shown}
            yield cls(name, _about(content), content, figure if is_whole and figure.exists() else None)

    @classmethod
    def of_rows(cls, name: str, about: str, first: str, rows: Mapping[str, Mapping[str, object]]) -> Table:
        """A table of numbers by row and column."""
        columns = dict.fromkeys(column for row in rows.values() for column in row)
        dependent = [
            {"header": {"name": column}, "values": [{"value": row.get(column, UNKNOWN)} for row in rows.values()]}
            for column in columns
        ]
        independent = {"header": {"name": first}, "values": [{"value": row} for row in rows]}
        return cls(name, about, {"independent_variables": [independent], "dependent_variables": dependent})


def _about(content: Mapping[str, Any]) -> str:
    """What a table of a figure shows, in a sentence."""
    axis, variables = content["independent_variables"][0]["header"]["name"], content["dependent_variables"]
    said = {it["name"]: it["value"] for it in variables[0]["qualifiers"]}
    what = "Observed and expected" if any(it["header"]["name"] == _DATA for it in variables) else "Expected"
    where = f"region {said['region']}" if "region" in said else f"channel {said['channel']} ({said['fit']})"
    of = (said[it] for it in ("data", "luminosity and energy") if it in said)
    return f"{', '.join([f'{what} numbers of events in bins of {axis} in the {where}', *of])}."


def write_submission(directory: Path, comment: str, tables: Sequence[Table], energies: Sequence[float]) -> None:
    """Write submission.yaml, a file for each table, and the figures; check them if hepdata-validator is installed."""
    directory.mkdir()
    beams = [{"name": "cmenergies", "values": [1000 * it for it in energies]}] if energies else []
    documents: list[dict[str, Any]] = [{"comment": comment}]
    for table in tables:
        (directory / f"{table.name}.yaml").write_text(_yaml(table.content), encoding="utf-8")
        keywords = [{"name": "observables", "values": [table.observable]}, *beams]
        entry = {"name": table.name[:_LONGEST], "description": table.about, "keywords": keywords}
        documents.append({**entry, "data_file": f"{table.name}.yaml"})
        if table.figure is not None:
            shutil.copy(table.figure, directory / f"{table.name}.png")
            documents[-1]["additional_resources"] = [{"location": f"{table.name}.png", "description": "Figure"}]
    text = "---\n".join(map(_yaml, documents))
    (directory / "submission.yaml").write_text(text, encoding="utf-8")
    try:
        from hepdata_validator.full_submission_validator import FullSubmissionValidator
    except ImportError:
        say("hepdata: not checked, since hepdata-validator is missing: pip install hepdata-validator")
        return
    validator = FullSubmissionValidator()
    if not validator.validate(directory=str(directory)):
        found = [str(it.message) for each in validator.get_messages().values() for it in each]
        raise NanoMLError(f"{directory}: is not a submission to HEPData: {found[0]}")


def _yaml(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


@dataclass(frozen=True)
class Request:
    """The capsule that is asked for: where it goes, its title and authors, and how many reference events of each dataset it has."""

    output: Path
    title: str
    authors: tuple[str, ...]
    events: int


def ready(config: Config, request: Request) -> Stage:
    """The stage that makes its models; an error if the results are not up to date, or the directory is something else."""
    for name, section in (("train", config.train), ("fit", config.fit)):
        if section is None:
            raise ConfigError(f"{config.where()}: has no section {name}: a capsule has networks and limits.")
    if config.fit is not None and config.fit.of_events is not None:
        what = "a capsule has likelihoods of bins alone, and this fit has channels without. Publish that of all in bins"
        raise config.error("fit", "unbinned", message=what)
    late = [each.stage.name for each in planned(config, NAMES) if each.reasons]
    if late:
        raise NanoMLError(
            f"{', '.join(late)} must be done first: use `nanoml run`. A capsule has the results as they are."
        )
    if request.output.exists() and not (request.output / reproduce.SUMS).exists():
        raise NanoMLError(f"{request.output}: exists and is not a capsule. Name another directory.")
    return compile_stage(config)


def publish(config: Config, request: Request) -> None:
    """Write the capsule aside, and rename it; one of the same name is replaced."""
    stage, workdir = ready(config, request), Layout.of(config).workdir
    with locked(workdir):
        run(plan([stage], workdir, base=config.base), workdir, config.base)
    final = Path(os.path.abspath(request.output))
    aside = aside_of(final)
    make_directory(final.parent)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        _write(config, request, stage, aside)
        old = aside_of(final, "old")
        if final.exists():
            os.replace(final, old)
        os.replace(aside, final)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as problem:
        raise explain_os_error(problem, final, "write") from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(config: Config, request: Request, stage: Stage, directory: Path) -> None:
    analysis, layout = Analysis(config), Layout.of(config)
    fits = [*fits_of(analysis)]
    if not fits:
        raise NanoMLError(f"{layout.fit}: no hypothesis has a fit: there is no result to publish.")
    is_blind, works = any(it.results.unblinded is None for it in fits), list[Any](task.work for task in stage.tasks)
    jobs, first = [it.args[0] for it in works], fits[0].hypothesis
    value = first.value if first else None
    say(f"publish: models and {request.events} reference events of each dataset")
    infos = [job.sources[0].dataset for job in jobs]
    models = {job.sources[0].dataset.era: write_model(directory, job, request.events, value) for job in jobs}
    entries = [fit_entry(analysis, it, models, directory) for it in fits]
    for fitted, entry in zip(fits, entries):
        shutil.copy(fitted.job.directory / "workspace.json", directory / entry.likelihood)
        card = directory / f"datacard{fitted.ending}"
        card.mkdir()
        for name in ("datacard.txt", "templates.root"):
            shutil.copy(fitted.job.directory / name, card / name)
        if entry.why_not:
            say(f"publish: another signal cannot be put into {entry.likelihood}: {entry.why_not}")
    hidden = {name for name, it in config.datasets.items() if is_blind and it.is_data} | analysis.blinded.hidden
    flows = {name: it.cutflow for name, it in accounting_of(analysis).items() if name not in hidden}
    write_json(directory / "cut_flow.json", plain(flows))
    write_json(directory / "corrections.json", {it.era: _corrections(it.corrections_file) for it in infos})
    energies = sorted({it for it in (config.energy, *(era.energy for era in config.eras.values())) if it is not None})
    write_submission(
        directory / "hepdata", request.title, [*_tables(analysis, fits, entries, flows, is_blind)], energies
    )
    shutil.copy(reproduce.__file__, directory / "reproduce.py")
    (directory / "requirements.txt").write_text("".join(f"{it}\n" for it in locked_versions()), encoding="utf-8")
    selection = load_selection(jobs[0].wanted.selection, jobs[0].wanted.base)
    content = {"schema": SCHEMA, "creator": f"NanoML {__version__}", "title": request.title, "is_blind": is_blind}
    content.update(models=plain(models), fits=plain(entries), weights=[*selection.weights])
    content["parts"] = {it.name: it.note for fitted in fits for it in fitted.results.channels if it.note}
    _write_texts(config, request, content, directory)
    names = sorted(str(it.relative_to(directory)) for it in directory.rglob("*") if it.is_file())
    write_json(directory / reproduce.CONTENT, {**content, "files": names})
    sums = (f"{file_hash(directory / name)}  {name}\n" for name in sorted([*names, reproduce.CONTENT]))
    (directory / reproduce.SUMS).write_text("".join(sums), encoding="utf-8")


def _corrections(path: str) -> dict[str, dict[str, Any]]:
    """SHA-256 and date of each file of corrections of an era; none if it is not here."""
    found = read_once(path) if path else None
    return {
        name: {"sha256": digest, "date": _date(os.path.getmtime(file)) if os.path.exists(file) else None}
        for (name, digest), file in (zip(found.digests.items(), found.files) if found else ())
    }


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).date().isoformat()


def _tables(
    analysis: Analysis, fits: list[Fitted], entries: list[FitEntry], flows: Mapping[str, list[Step]], is_blind: bool
) -> Iterator[Table]:
    rows, cuts = dict[str, dict[str, float]](), dict[str, dict[str, int]]()
    for it in entries:
        row = rows.setdefault(it.signal, {})
        row.update({} if it.observed is None else {"observed": it.observed})
        row.update(zip(reproduce.BANDS, it.expected))
    for name, flow in aligned(flows).items():
        for step in flow:
            cuts.setdefault(step.cut, {})[name] = step.events
    what = "Expected" if is_blind else "Observed and expected"
    about = f"{what} upper limits at 95 % CL on the signal strength, by the CLs method in the asymptotic approximation."
    yield replace(Table.of_rows("limits", about, "Signal", rows), observable="CLS")
    about = "Numbers of events of each dataset that pass all cuts up to this one, without weights."
    yield Table.of_rows("cut_flow", about, "Cut", cuts)
    histograms = Layout.of(analysis.config).histograms(".h5").parent
    yield from Table.of_figures(histograms, figures_of(analysis, "draw", "all"), "", is_blind)
    for each in fits:
        names = figures_of(analysis, "plot", each.ending[1:] or "all")
        yield from Table.of_figures(each.job.directory, names, f"fit{each.ending}_", is_blind)


def locked_versions() -> list[str]:
    """The packages that `reproduce.py` needs, and those that these need, in the versions of today."""
    found, todo = dict[str, str](), [*PACKAGES]
    while todo:
        name = todo.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or Python
        if found.setdefault(name, distribution.version) and distribution.requires:
            needed = (re.match(r"[\w.-]+", it) for it in distribution.requires if "extra ==" not in it)
            todo += [it[0].lower() for it in needed if it is not None and it[0].lower() not in found]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _write_texts(config: Config, request: Request, content: Mapping[str, Any], directory: Path) -> None:
    """Write what is made of a template, last the list of all files."""
    results, eras = list[str](), [f"{era}=" if era else "" for era in content["models"]]
    for it in content["fits"]:
        low, middle, high = it["expected"][1:4]
        observed = "" if it["observed"] is None else f"observed {it['observed']:.3g}, "
        limit = f"{observed}expected {middle:.3g} (+{high - middle:.2g} -{middle - low:.2g})"
        results.append(f"| {it['signal']}{f' (`--fit {name}`)' if (name := it['name']) else ''} | {limit} |")
    fit, members = config.fit or Fit(), config.members(FIT)
    fitted = next(iter(fit.strengths(fitted_signal(config, fit)).values()), [])  # of the first strength
    sigmas = {it: config.cross_section_of(it) for it in config.datasets if members.get(it) in fitted}
    corrected = sorted({name for it in content["models"].values() for name in it["corrected"]})
    parts = "; ".join(f"{name}: {note}" for name, note in content["parts"].items())
    parts = f". **Not all data are used ({parts})**" if parts else ""
    top = sorted({it.name for it in (*directory.iterdir(), *_TEXTS.iterdir())} | {reproduce.CONTENT, reproduce.SUMS})
    texts = {
        "title": request.title,
        "quoted_title": json.dumps(request.title),
        "creator": content["creator"],
        "date": _date(time.time()),
        "state": f"{'. **It is blind: all data in it are expected, not observed**' * content['is_blind']}{parts}",
        "results": "\n".join(results),
        "cross_sections": ", ".join(f"{name} {value:.6g} pb" for name, value in sigmas.items() if value) or "unknown",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "example": " ".join(f"--signal {it}FILE.root --cross-section {it}0.001" for it in eras),
        "weights": ", ".join(content["weights"]) or "none",
        "corrected": f" of {', '.join(corrected)}, which are taken as they are in the files" if corrected else "",
        "authors": "\n".join(
            f"  - name: {json.dumps(it)}" for it in request.authors or [f"The authors of {request.title}"]
        ),
        "files": "\n".join(f"    - {it}" for it in top if not (directory / it).is_dir()),
        "directories": "\n".join(f"    - {it}" for it in top if (directory / it).is_dir()),
    }
    for path in _TEXTS.iterdir():
        text = Template(path.read_text(encoding="utf-8")).substitute(texts)
        (directory / path.name).write_text(text, encoding="utf-8")
