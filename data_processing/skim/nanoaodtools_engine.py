"""Skims by nanoAOD-tools itself: the same job, run by the PostProcessor of PhysicsTools/NanoAODTools.

It runs in a process of its own, in which this module is `__main__`.
"""
# ruff: noqa: N802

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from data_processing.skim.plan import FilterSet, SkimJob, SkimPlan
from data_processing.skim.skim import plan_file, sections_read
from MLTools.NanoML.atomic import aside_of, make_directory, replacing, write_json
from MLTools.NanoML.dependencies import files_behind
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError, explain_os_error
from MLTools.NanoML.installation import TO_GET_NANOAOD_TOOLS, is_found
from MLTools.NanoML.loading import load_module
from MLTools.NanoML.nanoaod.accounting import Accounting, accounting_of, check_declared, weights_in
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance, accounting_of_input, refuse_shifts
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.nanoaodtools.branches import declared
from MLTools.NanoML.nanoaodtools.record import write_tree
from MLTools.NanoML.nanoaodtools.source import input_tree
from MLTools.NanoML.rootio.branches import counters_in
from MLTools.NanoML.rootio.remote.file import RemoteFile
from MLTools.NanoML.rootio.remote.server import is_xrootd
from MLTools.NanoML.rootio.rootfile import PROVENANCE, RootFile
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.selection import Step

PAGE = "skim.md"
_NEEDED = ("ROOT", "PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor")
_LINES = 20  # how many lines an error shows of what nanoAOD-tools printed last
_ERROR = "error.json"  # an error that the user can fix, from the process with ROOT
_ERRORS = {kind.__name__: kind for kind in (UnreadableError, ConfigError, NanoMLError)}
_RULES = "keep_and_drop.txt"
# ROOT only prints a line about what it cannot read or write, and continues with other values
_COMPLAINT = re.compile(r"^(?:SysError|Error) in <T(?:Basket|Branch|File|TreeCache|Tree::Fill).*|^R__unzip.*: .*", re.M)
_LETTERS = {"b": "O", "i": "L", "u": "l", "f": "D"}  # numpy's kind of a number: nanoAOD-tools' widest of that kind


def postprocess_file(job: SkimJob) -> Accounting:
    """Skim one file by nanoAOD-tools, in a process of its own; `chunk` and `memory` of the job do not matter.

    The output has the same events, branches and record as that of `skim_file`, and so has the accounting that is
    returned. It is an error if ROOT or nanoAOD-tools cannot be imported or cannot do the job; nothing is written then.
    """
    missing = [name.partition(".postprocessing")[0] for name in _NEEDED if not is_found(name)]
    if missing:
        what = "skim.modules run in nanoAOD-tools" if job.modules else "skim.engine nanoaodtools"
        raise NanoMLError(
            f"{what}: {' and '.join(missing)} cannot be imported by {sys.executable}. To get them: {TO_GET_NANOAOD_TOOLS}."
            f"{'' if job.modules else ' The engine columnar needs neither.'}"
        )
    make_directory(job.output.parent)
    hidden = aside_of(job.output, "nanoaodtools-").stem
    with replacing(job.output) as aside:
        with TemporaryDirectory(prefix=hidden, dir=job.output.parent) as folder:
            os.replace(_run(job, Path(folder)), aside)
        with RootFile(aside) as file:
            record = Provenance.of(file)
    assert record is not None
    return record.accounting


def _run(job: SkimJob, folder: Path) -> Path:
    """Run nanoAOD-tools; return the file that it wrote."""
    # a process for each file: ROOT confuses the tree of the next file with that of the last one at the same address
    done = subprocess.run(
        [sys.executable, "-m", "data_processing.skim.nanoaodtools_engine"],
        input=pickle.dumps((job, folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    printed = done.stdout.decode(errors="replace")
    check_printed(printed, job)
    if (folder / _ERROR).exists():
        told = content_of(folder / _ERROR)
        problem = _ERRORS[told["kind"]](told["message"])
        vars(problem).update(told["more"])
        raise problem
    if done.returncode:
        lines = printed.strip().split("\n")[-_LINES:]
        raise NanoMLError(
            f"{job.source}: nanoAOD-tools failed (exit code {done.returncode}). Its last lines:\n"
            + "\n".join(f"  {line}" for line in lines)
        )
    [output] = (folder / "out").iterdir()
    return output


def check_printed(text: str, job: SkimJob) -> None:
    """Look for ROOT's complaints in what nanoAOD-tools printed; an error if the input could not be read or the output written."""
    complaints = _COMPLAINT.findall(text)
    written = [line for line in complaints if re.search(r"[wW]rit|Fill", line)]
    if written:
        # this has the system's reason
        reason = next((line for line in written if line.startswith("SysError")), written[0])
        raise explain_os_error(OSError(reason), job.output, "write")
    if complaints:
        why = f"cannot be read ({complaints[0]}). It may be truncated or damaged: fetch it again."
        raise UnreadableError(f"{job.source}: {why}", job.source)


def main() -> int:
    """Run the job that comes by standard input, with its folder; the output is the one file in `folder/out`."""
    job, folder = pickle.load(sys.stdin.buffer)
    try:
        _skim(job, folder)
    except Exception as problem:  # whatever a user's code raises, its line is what helps
        told = problem if isinstance(problem, NanoMLError) else _explained(problem, job)
        if told is None:
            raise
        kind = next(name for name, it in _ERRORS.items() if isinstance(told, it))
        write_json(folder / _ERROR, {"kind": kind, "message": str(told), "more": vars(told)})
        return told.exit_code
    return 0


def _explained(problem: Exception, job: SkimJob) -> NanoMLError | None:
    """An error with the innermost line of the user's code in a traceback; None if there is none."""
    own = set(files_behind(*job.sources(), only_own=True).values())
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        if Path(frame.filename).resolve() in own:
            return NanoMLError(f"{frame.filename}:{frame.lineno}: {type(problem).__name__}: {problem}")
    return None


def compression_of(text: str) -> str:
    """A compression "ALGORITHM:LEVEL", or "none", as nanoAOD-tools writes it; an error for anything else."""
    found = text.upper()
    if found == "NONE":
        return "none"
    if not re.fullmatch(r"[A-Z0-9]+:[1-9]", found):
        raise ConfigError(f'compression "{text}": write ALGORITHM:LEVEL, as in ZLIB:5, or none.')
    return found


def write_rules(path: Path, names: Sequence[str]) -> None:
    """Write a branch selection file of nanoAOD-tools that keeps the branches of these names and no others."""
    path.write_text("".join(f"{rule}\n" for rule in ("drop *", *(f"keep {name}" for name in names))))


class _Output:
    """The last module: keeps the branches of the plan and those that modules make, and writes the plan's constants."""

    keeps_all = True  # events; so it needs no line of its own in the cut flow

    def __init__(self, rules: Path, plan: SkimPlan) -> None:
        self._rules, self._plan = rules, plan
        self.is_begun = False

    def beginJob(self) -> None:
        pass

    def endJob(self) -> None:
        pass

    def beginFile(self, input_file: Any, output_file: Any, input_tree: Any, output_tree: Any) -> None:
        # all modules have declared their branches by now
        from PhysicsTools.NanoAODTools.postprocessing.framework.branchselection import BranchSelection

        for name, value in self._plan.defaults.items():
            output_tree.branch(name, _LETTERS[np.asarray(value).dtype.kind])
        write_rules(self._rules, [*self._plan.kept, *declared(output_tree)])
        output_tree.outputbranchSelection = BranchSelection(str(self._rules))
        self._fill = output_tree.fillBranch
        self.is_begun = True

    def analyze(self, event: Any) -> bool:
        for name, value in self._plan.defaults.items():
            self._fill(name, value)
        return True

    def endFile(self, *_: object) -> None:
        del self._fill  # ROOT's objects must not outlive the file


def _modules(job: SkimJob) -> list[Any]:
    """The selection as a module, and the modules of the job, found as `nano_postproc.py -I module NAME` does."""
    selection = job.load()
    made: list[Any] = [PostprocModule(selection)] if selection else []
    for spec in job.modules:
        place, _, names = spec.rpartition(":")
        found = load_module(f'module "{spec}"', place, "nanoml_user", job.base)
        for name in names.split(","):
            if not hasattr(found, name):
                hint = did_you_mean(name, vars(found))
                raise ConfigError(f'module "{spec}": {place} has no {name}.{hint}')
            made += _made(spec, getattr(found, name))
    return made


def _made(spec: str, thing: Any) -> list[Any]:
    """The modules that a name stands for: a class or a function without arguments, a module itself, or a list of these."""
    if isinstance(thing, list):
        return [module for part in thing for module in _made(spec, part)]
    module = thing if hasattr(thing, "analyze") and not isinstance(thing, type) else thing()
    if not hasattr(module, "analyze"):
        raise ConfigError(f'module "{spec}": it gives {type(module).__name__}, which has no method analyze.')
    return [module]


def _skim(job: SkimJob, folder: Path) -> None:
    with RootFile(job.source) as file:
        if file.format == "RNTuple":
            instead = "Skim it without modules first, as a TTree" if job.modules else "Use the engine columnar"
            raise NanoMLError(f"{job.source}: its events are an RNTuple, which nanoAOD-tools cannot read. {instead}.")
        if "," in job.source:
            raise NanoMLError(
                f"{job.source}: nanoAOD-tools takes what follows a comma for another file. Rename the file."
            )
        accounting = accounting_of_input(file)
        check_declared(job.dataset.name, accounting, job.dataset.is_data)
        refuse_shifts(accounting)
        # the branches that modules make are only known when they run
        plan, _ = plan_file(replace(job, cut=""), file)
        mask = LumiMask.read(Path(job.base, job.certified)) if job.certified and accounting.is_data else None
        output = _postprocess(replace(job, source=_on_disk(job.source, folder)), folder, plan, mask)
        record = _record(job, plan, file, accounting, mask, output)
    import ROOT

    target = ROOT.TFile.Open(str(output), "UPDATE")
    write_tree(target, record)
    target.Close()


def _on_disk(source: str, folder: Path) -> str:
    """The path of a file for ROOT: of a copy if it is remote, for ROOT would not retry when a server fails."""
    if not is_xrootd(source):
        return source
    target = make_directory(folder / "in") / f"{Path(source.partition('?')[0]).stem}.root"
    with RemoteFile(source) as file:
        file.copy(target)
    return str(target)


def _postprocess(job: SkimJob, folder: Path, plan: SkimPlan, mask: LumiMask | None) -> Path:
    """Run nanoAOD-tools; return the file that it wrote."""
    import ROOT
    from PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor import PostProcessor

    ROOT.gROOT.SetBatch()
    name_algorithms(ROOT)
    rules, last = folder / _RULES, _Output(folder / _RULES, plan)
    modules = _modules(job)
    write_rules(rules, list(plan.kept))
    try:
        PostProcessor(
            str(folder / "out"),
            [job.source],
            cut=_cut(ROOT, job),
            modules=[*modules, last] if modules or plan.defaults else [],
            compression=compression_of(job.compression),
            jsonInput=None if mask is None else mask.as_dict(),
            outputbranchsel=str(rules),
        ).run()
    except RuntimeError as problem:
        if not str(problem).startswith("Unsupported compression"):
            raise
        raise ConfigError(
            f'compression "{job.compression}": this nanoAOD-tools does not know it. It knows ZLIB, LZMA, LZ4, and none.'
        ) from problem
    [output] = (folder / "out").iterdir()
    if (modules or plan.defaults) and not last.is_begun:
        _declare(ROOT, job, output, last)
    return output


def name_algorithms(root: Any) -> None:
    """Give the compression algorithms the names that nanoAOD-tools knows; newer ROOT has them elsewhere."""
    for name in ("kZLIB", "kLZMA", "kLZ4"):
        if not hasattr(root.ROOT, name):
            setattr(root.ROOT, name, getattr(root.ROOT.RCompressionSetting.EAlgorithm, name))


def _cut(root: Any, job: SkimJob) -> str | None:
    """The cut, if there is one; an error if ROOT does not understand it: nanoAOD-tools would keep all events then."""
    if not job.cut:
        return None
    file = root.TFile.Open(job.source)
    tree = file.Get("Events")

    def chosen(found: re.Match[str]) -> str:
        return found[1 if tree.GetBranch(found[1]) else 2]

    # nanoAOD-tools replaces this in it
    cut = re.sub(r"AltBranch\$\(\s*(\w+)\s*,\s*(\w+)\s*\)", chosen, job.cut)
    is_understood = root.TTreeFormula("cut", cut, tree).GetNdim() > 0
    file.Close()
    if not is_understood:
        raise NanoMLError(
            f"{job.source}: cut `{job.cut}`: ROOT does not understand it, or a branch in it is not there."
        )
    return cut


def _declare(root: Any, job: SkimJob, output: Path, last: _Output) -> None:
    """Let the modules declare their branches in an output without events, for which nanoAOD-tools calls none."""
    from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import eventLoop
    from PhysicsTools.NanoAODTools.postprocessing.framework.output import OutputTree

    source, target = root.TFile.Open(job.source), root.TFile.Open(str(output), "UPDATE")
    tree = target.Get("Events")
    modules = [*_modules(job), last]
    for module in modules:
        module.beginJob()
    given = input_tree(source.Get("Events"))
    eventLoop(modules, source, target, given, OutputTree(target, tree, given), eventRange=range(0))
    for module in modules:
        module.endJob()
    target.cd()
    tree.Write("", root.TObject.kOverwrite)
    target.Close()
    source.Close()


def _record(
    job: SkimJob, plan: SkimPlan, file: RootFile, accounting: FileAccounting, mask: LumiMask | None, output: Path
) -> Provenance:
    """The record of the output, checked against it."""
    with RootFile(output) as result:
        _count(job, accounting, file, result)
        accounting.absent = plan.absent
        if accounting.is_data:
            accounting.luminosity_sections = sections_read(file, mask)
        _check(job, plan, accounting, result)
        known = {*plan.kept, *plan.defaults, *counters_in(result.branches.values())}
        columns = {name: MadeColumn.of(branch) for name, branch in result.branches.items() if name not in known}
        gone = (it for it in file.keys.items() if it[0] not in {*result.keys, PROVENANCE} and it[1] != "TDirectory")
        left_out = [f"{name} ({kind})" for name, kind in gone]
    criteria = FilterSet.of(replace(job, cut="")).criteria(job, accounting.is_data)
    return Provenance(
        "skim", Accounting([accounting]), job.selection or None, columns, not_copied=left_out, criteria=criteria
    )


def _count(job: SkimJob, accounting: FileAccounting, file: RootFile, result: RootFile) -> None:
    """Take over what the selection's module recorded; without a selection, the events of input and output."""
    if job.selection:
        record = Provenance.of(result)
        assert record is not None
        [recorded] = record.accounting.files
        accounting.selected, accounting.only_shifted = recorded.selected, recorded.only_shifted
        accounting.cutflow, accounting.weights, accounting.shifts = recorded.cutflow, recorded.weights, recorded.shifts
    else:
        both = (("all", file), ("nanoAOD-tools", result))
        accounting.cutflow = [Step(name, each.entries, float(weights_in(each).sum())) for name, each in both]
        accounting.selected = result.entries


def _check(job: SkimJob, plan: SkimPlan, accounting: FileAccounting, result: RootFile) -> None:
    """Compare the output with what the cut flow counted and with the input."""
    if accounting.cutflow[0].events != accounting.entries or result.entries != accounting.written:
        raise NanoMLError(
            f"{job.source}: has {accounting.entries} events, of which nanoAOD-tools read {accounting.cutflow[0].events}; "
            f"{accounting.written} passed, but {result.entries} were kept. Nothing was written."
        )
    lost = [name for name in (*plan.kept, *plan.defaults) if name not in result.branches]
    if lost:
        raise NanoMLError(f"{job.source}: nanoAOD-tools did not keep {', '.join(lost)}. Nothing was written.")
    if accounting.sum_of_weights_source.startswith("Runs/"):
        found = accounting_of(result).sum_of_weights
        if found != accounting.sum_of_weights:
            raise NanoMLError(
                f"{job.source}: its sum of weights is {accounting.sum_of_weights}, but nanoAOD-tools wrote {found}. "
                "Nothing was written."
            )


if __name__ == "__main__":
    sys.exit(main())
