"""A CRAB job on the grid: skims and scores its files with nanoAOD-tools, and reports to CRAB.

What it does is in job.json, which travels with it; how it ended is in the framework job report.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from data_processing.merge.merge import MergeJob, merge_files
from data_processing.skim.nanoaodtools_engine import postprocess_file
from data_processing.skim.plan import SkimJob
from MLTools.NanoML.atomic import replacing, write_json
from MLTools.NanoML.batch.job import decode, encode
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError
from MLTools.NanoML.nanoaod.accounting import accounting_of
from MLTools.NanoML.nanoaod.lumimask import LumiMask, sections_of
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.terminal.progress import say

JOB = "job.json"  # says what a job does
OUTPUT = "nano.root"  # of a job, as in crab/PSet.py
REPORT = "FrameworkJobReport.xml"  # CRAB expects this name

CANNOT_OPEN, CANNOT_READ, CONFIGURATION, OTHER = 8020, 8021, 8009, 8002
"""Exit codes: an input cannot be opened, or is damaged, and CRAB tries again, at another site; something is wrong with what
was asked for, or there is any other error, and CRAB does not try again."""

_KINDS = {  # CMS's words
    CANNOT_OPEN: "FileOpenError",
    CANNOT_READ: "FileReadError",
    CONFIGURATION: "Configuration",
    OTHER: "StdException",
}
_REDIRECTORS = ("root://cms-xrd-global.cern.ch/", "root://xrootd-cms.infn.it/", "root://cmsxrootd.fnal.gov/")
_VERSION = 3


def write_job(directory: Path, job: SkimJob) -> None:
    """Write what a job does with each of its files into the directory of a task, which its paths are relative to."""
    write_json(directory / JOB, {"schema": _VERSION, "job": encode(job)})


def read_job(directory: Path) -> SkimJob:
    """Read what `write_job` wrote into the directory of a job; an error if there is nothing, or another version wrote it."""
    path = directory / JOB
    try:
        content = content_of(path)
        if content["schema"] != _VERSION or not isinstance(job := decode(content["job"]), SkimJob):
            raise ValueError("it is from another version")
        corrections = job.dataset.corrections_file and str(directory / job.dataset.corrections_file)
        dataset = replace(job.dataset, corrections_file=corrections)
        return replace(job, base=str(directory), engine="nanoaodtools", dataset=dataset)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NanoMLError) as problem:
        raise ConfigError(f"{path}: is not what `nanoml submit` writes ({problem}): write the task again.") from None


class _CannotOpenError(NanoMLError):
    """An input cannot be opened at any place."""


def main(process: Any) -> int:
    """Do what the process of PSet.py and job.json say, in the current directory; return the exit code."""
    directory = Path.cwd()
    try:
        source = process.source
        run_job(directory, list(source.fileNames), mask_of(getattr(source, "lumisToProcess", ())))
    except Exception as problem:  # whatever it is, CRAB must know
        code = CONFIGURATION if isinstance(problem, ConfigError) else OTHER
        if isinstance(problem, _CannotOpenError):
            code = CANNOT_OPEN
        elif isinstance(problem, UnreadableError):
            code = CANNOT_READ
        if not isinstance(problem, NanoMLError):
            traceback.print_exc()
        say(f"{code}: {problem}")
        write_failure(directory, code, _KINDS[code], str(problem))
        return 1
    return 0


def mask_of(ranges: Sequence[str]) -> LumiMask | None:
    """The luminosity sections that CRAB gives to a job, as in "315267:1-315267:88" and "315267:91"; None for all.

    An error if one is not a range within one run.
    """
    content: dict[str, list[list[int]]] = {}
    for text in ranges:
        found = re.fullmatch(r"(\d+):(\d+)(?:-(\d+):(\d+))?", str(text))
        if found is None or (found[3] or found[1]) != found[1]:
            raise NanoMLError(f"PSet.py: lumisToProcess: {text} is not a range of luminosity sections in one run.")
        content.setdefault(found[1], []).append([int(found[2]), int(found[4] or found[2])])
    return LumiMask.from_dict(content, "PSet.py") if content else None


def run_job(directory: Path, files: Sequence[str], mask: LumiMask | None) -> None:
    """Skim files, by logical name, path or URL, into one output in the directory of the job, and write the report.

    With a mask, the job has only these luminosity sections. Raises NanoMLError if a file cannot be opened or skimmed, or the mask
    leaves out a part of simulation; then there is no output.
    """
    if not files:
        raise ConfigError("PSet.py: there are no input files.")
    asked = read_job(directory)
    certified = LumiMask.read(directory / asked.certified) if asked.certified else None
    kept = certified if mask is None else mask if certified is None else mask & certified
    output, sections = directory / OUTPUT, LumiMask()
    with TemporaryDirectory(prefix="nanoml-", dir=directory) as scratch:
        kept_file = ""
        if kept is not None:
            kept_file = str(Path(scratch, "sections.json"))
            kept.write(kept_file)
        job = replace(asked, certified=kept_file)
        skims, inputs = [], []
        for number, name in enumerate(files):
            report, skim = _skim(name, Path(scratch, str(number)), job, mask, certified)
            inputs.append(report)
            sections |= LumiMask.from_dict(report.sections, name)
            skims.append(skim)
        if len(skims) == 1:
            os.replace(skims[0], output)
        else:
            merging = MergeJob([str(skim) for skim in skims], output, fill=True, compression=asked.compression)
            for line in merge_files(merging).lines(OUTPUT):
                say(line)
    with RootFile(output) as file:
        written = FileReport(OUTPUT, file.entries, sections.as_dict())
    # what distinguishes this configuration from any other
    identity = hashlib.sha256((directory / JOB).read_bytes()).hexdigest()[:32]
    write_success(directory, inputs, written, identity)


def _skim(
    name: str, folder: Path, job: SkimJob, mask: LumiMask | None, certified: LumiMask | None
) -> tuple[FileReport, Path]:
    """Skim an input, from the first place whose copy is not damaged; return what was read, and the skim."""
    problem = UnreadableError(f"{name}: cannot be read.", name)
    for place, local in _copies(name, folder):
        try:
            with RootFile(local) as file:
                report = FileReport(name, file.entries, _sections_read(name, file, mask, certified).as_dict())
            skim = folder / "skim" / local.name
            accounting = postprocess_file(replace(job, source=str(local), output=skim))
        except UnreadableError as found:
            problem = UnreadableError(str(found).replace(str(local), place), name)
            say(str(problem))
            continue
        finally:
            if folder in local.parents:
                local.unlink()  # the disk of a job is small
        say(f"{name}: {'' if accounting.is_data else f'{accounting.written:,} of '}{accounting.entries:,} events")
        return report, skim
    raise problem


def _sections_read(name: str, file: RootFile, mask: LumiMask | None, certified: LumiMask | None) -> LumiMask:
    """The sections that will be read of an input; simulation that another job shares is an error, since both would count all weights."""
    sections = sections_of(file)
    mine = sections if mask is None else sections & mask
    if accounting_of(file).is_data:
        return mine if certified is None else mine & certified
    if mine != sections:
        raise ConfigError(
            f"{name}: the job has {len(mine)} of its {len(sections)} luminosity sections, but the weights of simulation "
            'can only be counted for whole files. Set config.Data.splitting = "FileBased", without a lumi mask.'
        )
    return mine


def _copies(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The places that have an input, and its path: as it is if it is on this machine, otherwise copied into a folder."""
    path = Path(name.removeprefix("file:"))
    if "://" not in name and path.is_file():
        yield name, path
        return
    lfn = name[name.index("/store/") :] if "/store/" in name else ""
    # the accounting keeps the path: that of a copy ends with the logical name
    copy = folder / (lfn.partition("?")[0].lstrip("/") or Path(name.partition("?")[0]).name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    attempts, found = [], False
    for place in _places(name, lfn):
        if "://" not in place:
            if os.path.isfile(place):
                found = True
                yield place, Path(place)
            else:
                attempts.append(f"{place}: no such file")
            continue
        try:
            done = subprocess.run(
                ["xrdcp", "--force", "--nopbar", place, str(copy)], capture_output=True, text=True, check=False
            )
        except OSError as problem:
            attempts.append(f"{place}: xrdcp: {problem.strerror}")
            continue
        if done.returncode == 0:
            found = True
            yield place, copy
        else:
            attempts.append(f"{place}: xrdcp: {done.stderr.strip() or f'exit code {done.returncode}'}")
    if not found:
        raise _CannotOpenError("\n".join([f"{name}: cannot be opened.", *attempts]))


def _places(name: str, lfn: str) -> list[str]:
    """Where a file may be: what was asked for, the site's own storage, and the rest of the world."""
    places = [name.removeprefix("file:")] if "://" in name or not lfn else []
    if lfn:
        if shutil.which("edmFileUtil"):
            done = subprocess.run(["edmFileUtil", "-d", lfn], capture_output=True, text=True, check=False)
            places += [text.removeprefix("file:") for text in done.stdout.split()[:1]]
        places += [redirector + lfn for redirector in _REDIRECTORS]
    return list(dict.fromkeys(places))


@dataclass(frozen=True)
class FileReport:
    """A file that was read or written."""

    name: str  # of an input its logical name or path, of an output its path
    events: int
    # the luminosity sections behind the events, as in a luminosity JSON
    sections: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)

    def add_to(self, root: ElementTree.Element, tag: str, **facts: str) -> None:
        """Add it to a report, with what CMSSW says of such a file."""
        element = ElementTree.SubElement(root, tag)
        for name, value in facts.items():
            ElementTree.SubElement(element, name).text = value
        runs = ElementTree.SubElement(element, "Runs")
        for number, ranges in self.sections.items():
            run = ElementTree.SubElement(runs, "Run", ID=number)
            for first, last in ranges:
                for section in range(first, last + 1):
                    ElementTree.SubElement(run, "LumiSection", ID=str(section))


def write_success(directory: Path, inputs: Sequence[FileReport], output: FileReport, identity: str) -> None:
    """Write the report of a job that did its work.

    The identity is 32 hexadecimal digits that distinguish one configuration from another: CRAB asks for those of the PSet.
    """
    root = ElementTree.Element("FrameworkJobReport")
    for each in inputs:
        each.add_to(
            root,
            "InputFile",
            LFN=each.name,
            PFN="",
            Catalog="",
            InputType="primaryFiles",
            ModuleLabel="source",
            InputSourceClass="PoolSource",
            GUID="",
            EventsRead=str(each.events),
        )
    output.add_to(
        root,
        "File",
        LFN="",
        PFN=output.name,
        Catalog="",
        ModuleLabel="output",
        GUID="",
        OutputModuleClass="PoolOutputModule",
        DataType="",
        BranchHash=identity,
        TotalEvents=str(output.events),
    )
    ElementTree.SubElement(ElementTree.SubElement(root, "Process"), "ParameterSetID").text = identity
    _write(directory, root)


def write_failure(directory: Path, code: int, kind: str, message: str) -> None:
    """Write the report of a job that failed; CRAB shows the code and the message."""
    root = ElementTree.Element("FrameworkJobReport")
    error = ElementTree.SubElement(root, "FrameworkError", ExitStatus=str(code), Type=kind)
    error.text = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in message)
    _write(directory, root)


def _write(directory: Path, root: ElementTree.Element) -> None:
    # in ASCII, because CRAB rewrites what is not
    with replacing(directory / REPORT) as aside:
        aside.write_bytes(ElementTree.tostring(root, encoding="us-ascii"))
