"""Many small files: what each costs from the plan to the record, and a run that finds nothing to do.

    python bench/files.py [--files 1000] [--tasks 100000]

`nanoml run` skims files of 1,000 events and 720 branches, which are copies of one with identifiers of their own, in as many processes
as it takes by default. All processes count, with their start. The limit is one process of uproot that opens each file and
decompresses what is read and kept; uproot also reads that as arrays. Both do a hundred files. Baskets that nobody reads are
holes, which take no space: ten thousand files take 8 GB on disk, and as many skims 1.4 GB.

The second run has tasks that are done: NanoML's own functions write their records, and there is nothing in their files. What
is measured is the run after the first one that looked at them. Its limit asks the operating system for the versions of all inputs and
outputs, by which a change shows. `make -q` does the same with as many rules, and compares times only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import uproot
from common import KEEP, READ, SAMPLES, SELECTION, Case, Took, in_turns, make_input, parser, read_with_uproot
from skim_baskets import decompress as decompress_baskets

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.config.load import load
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.terminal.progress import silence
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from MLTools.NanoML.workflow.records import Records
from MLTools.NanoML.workflow.task import Record, stamps

EVENTS = 1000  # of a file
FEW = 100  # files that the other sides do
_UUID = slice(47, 63)  # where a ROOT file has its identifier
_BLOCK = 4096  # bytes of a file that may be a hole
_ADOPT = 36  # PR_SET_CHILD_SUBREAPER


def make_small(path: Path) -> None:
    """A file with all of NanoAOD's trees."""
    make_input(path, EVENTS)
    with uproot.open(SAMPLES[0]) as sample, uproot.update(path) as file:
        for name in ("Runs", "LuminosityBlocks"):
            arrays = sample[name].arrays(library="np")
            file.mktree(name, {branch: values.dtype for branch, values in arrays.items()}).extend(arrays)


def make_copies(small: Path, directory: Path, copies: int) -> None:
    """As many files, each with an identifier of its own, since copies of a file are refused; without what nobody reads."""
    content = bytearray(small.read_bytes())
    with uproot.open(small) as file:
        events = file["Events"]
        read = events.keys(filter_name=[*READ, "n*"])  # with the counters of lists
        for branch in (each for each in events.branches if each.name not in read):
            for seek, size in zip(branch.member("fBasketSeek"), branch.member("fBasketBytes")):
                content[seek : seek + size] = bytes(size)
    filled = [start for start in range(0, len(content), _BLOCK) if any(content[start : start + _BLOCK])]
    directory.mkdir()
    for number in range(copies):
        content[_UUID] = uuid.uuid4().bytes
        with open(directory / f"{number:06d}.root", "wb") as copy:
            copy.truncate(len(content))
            for start in filled:
                copy.seek(start)
                copy.write(content[start : start + _BLOCK])


def write_config(directory: Path, files: Path) -> Path:
    """The configuration of an analysis of files, which works in a directory."""
    path, keep = directory / "many.yaml", ", ".join(f'"{name}"' for name in KEEP)
    path.write_text(
        f'datasets: {{many: {{files: "{files}/*.root"}}}}\nskim: {{selection: {SELECTION}, keep: [{keep}]}}\n'
    )
    return path


def make_done(directory: Path, small: Path, tasks: int) -> None:
    """An analysis of which all tasks are done."""
    (directory / "in").mkdir()
    for number in range(tasks):
        with open(directory / "in" / f"{number:06d}.root", "wb") as file:
            file.truncate(1_000_000_000 + number)  # as real files, they differ in size; they take no space
    config = load(write_config(directory, directory / "in"))
    (stage,) = pipeline_stages(config, ["skim"])
    summary = skim_file(SkimJob(str(small), directory / "one.root", SELECTION, keep=KEEP)).to_json()
    records = Records(Layout.of(config).workdir / RECORDS, config.base)
    for task in stage.tasks:
        task.outputs[0].parent.mkdir(parents=True, exist_ok=True)
        task.outputs[0].write_bytes(b"done")
        with mock.patch("os.fsync"):  # else the disk would take minutes
            records.write(task, Record.of(task, stamps(task), summary, 1.0))
    rules = (f"{task.outputs[0]}: {task.inputs[0]}\n" for task in stage.tasks)
    outputs = " ".join(str(task.outputs[0]) for task in stage.tasks)
    (directory / "Makefile").write_text(f"all: {outputs}\n{''.join(rules)}")
    run_again(directory, tasks)


def took_by(command: Sequence[str]) -> Took:
    """Measure a command with all processes that it starts, also those that it leaves behind."""
    ctypes.CDLL(None).prctl(_ADOPT, 1, 0, 0, 0)
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    passed = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    try:
        while True:
            os.wait()
    except ChildProcessError:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(passed, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def run(directory: Path, _: int) -> Took:
    """All files, in a new work directory."""
    with tempfile.TemporaryDirectory(dir=directory) as work:
        took = took_by([*nanoml_command(), "run", str(write_config(Path(work), directory / "in"))])
        assert len(list(Path(work).glob("**/skims/many/*.root"))) == len(list((directory / "in").iterdir()))
    return took


def decompress(directory: Path, files: int) -> Took:
    """Uproot opens files and decompresses what is read and kept."""

    def work() -> None:
        for path in sorted((directory / "in").iterdir())[:files]:
            decompress_baskets(str(path), READ)

    return Took.by(work)


def read(directory: Path, files: int) -> Took:
    """Uproot reads it as arrays."""

    def work() -> None:
        for path in sorted((directory / "in").iterdir())[:files]:
            read_with_uproot(path, READ)

    return Took.by(work)


def run_again(directory: Path, _: int) -> Took:
    """A run with nothing to do."""
    return took_by([*nanoml_command(), "run", str(directory / "many.yaml")])


def stat(directory: Path, _: int) -> Took:
    """The versions of all inputs and outputs."""

    def work() -> None:
        for folder in (directory / "in", next(directory.glob("**/skims/many"))):
            for name in os.listdir(folder):
                os.stat(os.path.join(folder, name))

    return Took.by(work)


def make(directory: Path, _: int) -> Took:
    """Make finds nothing to do."""
    return took_by(["make", "-q", "-r", "-f", str(directory / "Makefile"), "all"])


SIDES: dict[str, Callable[[Path, int], Took]] = {
    "nanoml run": run,
    "uproot decompresses": decompress,
    "uproot reads": read,
    "nanoml run again": run_again,
    "os.stat": stat,
    "make -q": make,
}
MANY, NOTHING = ("nanoml run", "uproot decompresses", "uproot reads"), ("nanoml run again", "os.stat", "make -q")


def compare(names: Sequence[str], title: str, setting: str, directory: Path, amount: int, few: int, unit: str) -> None:
    """Measure sides in turn, the first of which is ours and the second the limit."""
    amounts = dict.fromkeys(names[1:], few)
    best = in_turns(__file__, {name: (name, directory, amounts.get(name, amount)) for name in names})
    Case(title, setting, amount, unit, best, names[0], names[1], amounts=amounts).tell()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both cases, and print them."""
    options_of = parser(__doc__)
    options_of.add_argument("--files", type=int, default=1000, help="0 to leave this out")
    options_of.add_argument("--tasks", type=int, default=100_000, help="that are done; 0 to leave this out")
    options = options_of.parse_args(arguments)
    if options.only:
        side, directory, number = options.only
        SIDES[side](Path(directory), int(number)).tell()
        return
    silence()
    with tempfile.TemporaryDirectory() as folder:
        small, many, done = Path(folder, "small.root"), Path(folder, "many"), Path(folder, "done")
        make_small(small)
        if options.files:
            many.mkdir()
            make_copies(small, many / "in", options.files)
            setting = f"{options.files:,} files of {EVENTS:,} events of 720 branches"
            compare(MANY, "Many small files", setting, many, options.files, min(options.files, FEW), "files")
            shutil.rmtree(many)
        if options.tasks:
            done.mkdir()
            make_done(done, small, options.tasks)
            setting = f"nanoml run with {options.tasks:,} tasks that are done"
            compare(NOTHING, "Nothing to do", setting, done, options.tasks, options.tasks, "tasks")


if __name__ == "__main__":
    main()
