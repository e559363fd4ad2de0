"""A CRAB job on the grid: skims and scores its files by nanoAOD-tools, and reports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import traceback
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_processing.crab.report import Processed, write_failure, write_success
from data_processing.crab.settings import OUTPUT, Settings
from data_processing.merge.merge import MergeJob, merge_files
from data_processing.merge.stage import merge_summary
from data_processing.skim.nanoaodtools_engine import postprocess_file
from data_processing.skim.plan import SkimJob
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting, accounting_of
from MLTools.NanoML.nanoaod.lumimask import LumiMask, sections_of
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import say

__all__ = ["CANNOT_OPEN", "CONFIGURATION", "OTHER", "main", "mask_of", "run_job"]

CANNOT_OPEN = 8020
"""Exit code: an input cannot be opened. CRAB tries again, at another site."""

CONFIGURATION = 8009
"""Exit code: something is wrong with what was asked for. It would fail again, so CRAB does not try."""

OTHER = 8002
"""Exit code of all other errors. CRAB does not try again."""

_KINDS = {CANNOT_OPEN: "FileOpenError", CONFIGURATION: "Configuration", OTHER: "StdException"}
"""CMS's words for the codes."""

_REDIRECTORS = ("root://cms-xrd-global.cern.ch/", "root://xrootd-cms.infn.it/", "root://cmsxrootd.fnal.gov/")
_MASK = "sections.json"


class _CannotOpenError(NanoMLError):
    """An input cannot be opened at any place."""


def main(process: Any) -> int:
    """Do what the process of PSet.py and job.json say, in the current directory; return the exit code of the script."""
    directory = Path.cwd()
    try:
        source = process.source
        mask = mask_of(getattr(source, "lumisToProcess", ()))
        run_job(directory, list(source.fileNames), mask)
    except Exception as problem:  # whatever it is, CRAB must be told
        code = _code_of(problem)
        if not isinstance(problem, NanoMLError):
            traceback.print_exc()
        say(f"{code}: {problem}")
        write_failure(directory, code, _KINDS[code], str(problem))
        return 1
    return 0


def _code_of(problem: Exception) -> int:
    if isinstance(problem, _CannotOpenError):
        return CANNOT_OPEN
    return CONFIGURATION if isinstance(problem, ConfigError) else OTHER


def mask_of(ranges: Sequence[str]) -> LumiMask | None:
    """The luminosity sections that CRAB gives to a job, as in "315267:1-315267:88" and "315267:91"; None for all.

    Raises
    ------
    NanoMLError
        One is no range of one run.
    """
    content: dict[str, list[list[int]]] = {}
    for text in ranges:
        found = re.fullmatch(r"(\d+):(\d+)(?:-(\d+):(\d+))?", str(text))
        if found is None or (found[3] or found[1]) != found[1]:
            raise NanoMLError(
                f"PSet.py: lumisToProcess: {text} is no range of luminosity sections of one run."
            )
        content.setdefault(found[1], []).append([int(found[2]), int(found[4] or found[2])])
    return LumiMask.from_dict(content, "PSet.py") if content else None


def run_job(directory: Path, files: Sequence[str], mask: LumiMask | None) -> None:
    """Skim files into one, and write the report.

    Parameters
    ----------
    directory
        Of the job; the output goes there.
    files
        Logical names, paths and URLs.
    mask
        The luminosity sections that are the job's; None for all.

    Raises
    ------
    NanoMLError
        A file cannot be opened or skimmed, or the mask leaves out a part of simulation; there is no output then.
    """
    if not files:
        raise ConfigError("PSet.py: there are no input files.")
    settings = Settings.read(directory)
    certified = LumiMask.read(directory / settings.certified) if settings.certified else None
    with TemporaryDirectory(prefix="nanoml-", dir=directory) as scratch:
        skims, inputs = [], []
        for number, name in enumerate(files):
            folder = Path(scratch, str(number))
            folder.mkdir()
            local = _fetch(name, folder)
            inputs.append(_processed(name, local, mask, certified))
            job = _skim_job(settings, directory, local, folder, _both(mask, certified))
            skims.append(job.output)
            accounting = Accounting.from_dict(postprocess_file(job))
            say(f"{name}: {accounting.selected:,} of {accounting.entries:,} events")
            if folder in local.parents:
                local.unlink()  # the disk of a job is small
        _join(skims, directory / OUTPUT, settings.compression)
    with RootFile(directory / OUTPUT) as output:
        sections = LumiMask()
        for each in inputs:
            sections |= LumiMask.from_dict(each.sections, each.name)
        written = Processed(OUTPUT, output.entries, sections.as_dict())
    write_success(directory, inputs, written, settings.identity)


def _both(one: LumiMask | None, other: LumiMask | None) -> LumiMask | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _skim_job(
    settings: Settings, directory: Path, local: Path, folder: Path, mask: LumiMask | None
) -> SkimJob:
    certified = folder / _MASK
    if mask is not None:
        mask.write(certified)
    return SkimJob(
        str(local),
        folder / "skim" / local.name,
        settings.selection,
        str(directory),
        settings.keep,
        settings.compression,
        modules=settings.modules,
        cut=settings.cut,
        certified=str(certified) if mask is not None else "",
        branches=settings.branches,
        engine="nanoaodtools",
    )


def _join(skims: Sequence[Path], output: Path, compression: str) -> None:
    if len(skims) == 1:
        os.replace(skims[0], output)
        return
    done = merge_files(MergeJob([str(skim) for skim in skims], output, fill=True, compression=compression))
    for line in merge_summary({output.name: done}):
        say(line)


def _processed(name: str, local: Path, mask: LumiMask | None, certified: LumiMask | None) -> Processed:
    """What will be read of an input.

    Raises
    ------
    ConfigError
        It is simulation of which another job has a part: both would count all its weights.
    """
    with RootFile(local) as file:
        sections, _ = sections_of(file)
        mine = sections if mask is None else sections & mask
        if accounting_of(file).is_data:
            mine = mine if certified is None else mine & certified
        elif mine != sections:
            raise ConfigError(
                f"{name}: the job has {len(mine)} of its {len(sections)} luminosity sections, but the weights of simulation "
                'can only be counted for whole files. Set config.Data.splitting = "FileBased", without a lumi mask.'
            )
        return Processed(name, file.entries, mine.as_dict())


def _fetch(name: str, folder: Path) -> Path:
    """An input as a file on this machine: as it is, or copied into a folder.

    Raises
    ------
    NanoMLError
        It is at none of the places where it may be.
    """
    path = Path(name.removeprefix("file:"))
    if "://" not in name and path.is_file():
        return path
    lfn = name[name.index("/store/") :] if "/store/" in name else ""
    # the accounting keeps the path: of a copy it ends with the logical name
    copy = folder / (lfn.partition("?")[0].lstrip("/") or Path(name.partition("?")[0]).name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    told = []
    for place in _places(name, lfn):
        if "://" not in place:
            if os.path.isfile(place):
                return Path(place)
            told.append(f"{place}: no such file")
            continue
        try:
            done = subprocess.run(
                ["xrdcp", "--force", "--nopbar", place, str(copy)],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as problem:
            told.append(f"{place}: xrdcp: {problem.strerror}")
            continue
        if done.returncode == 0:
            return copy
        told.append(f"{place}: xrdcp: {done.stderr.strip() or f'exit code {done.returncode}'}")
    raise _CannotOpenError("\n".join([f"{name}: cannot be opened.", *told]))


def _places(name: str, lfn: str) -> list[str]:
    """Where a file may be: what was asked for, the site's own storage, and the rest of the world."""
    places = [name.removeprefix("file:")] if "://" in name or not lfn else []
    if lfn:
        if shutil.which("edmFileUtil"):
            done = subprocess.run(["edmFileUtil", "-d", lfn], capture_output=True, text=True, check=False)
            places += [text.removeprefix("file:") for text in done.stdout.split()[:1]]
        places += [redirector + lfn for redirector in _REDIRECTORS]
    return list(dict.fromkeys(places))
