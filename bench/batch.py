"""A thousand jobs, and a plan of a hundred thousand files: what the command line takes, in seconds and memory.

    python bench/batch.py [--jobs 1000] [--files 100000] [--on slurm,condor] [--seconds 1200]

The batch systems and a server of files are real ones on this machine (those of the tests: test/services). The limit that
submitting is compared with is the client of the batch system itself, given as many jobs that do nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import CHECKOUT

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.terminal.progress import say, silence

sys.path.insert(0, str(CHECKOUT / "test"))

from services.condor import CondorPool
from services.slurm import Slurm
from services.xrootd import Cluster

SOURCE = CHECKOUT / "examples" / "nano" / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root"
ANALYSIS = """\
datasets:
  WZ: {{files: {files}}}
skim: {{cut: nMuon >= 0, keep: [Muon_pt]}}
batch: {{files_per_job: {per_job}, time: 20min, memory: 100}}
"""


def make_small(path: Path) -> bytes:
    """A NanoAOD file of a few events."""
    skim_file(SkimJob(str(SOURCE), path, cut="nMuon >= 3 && Muon_pt[0] > 200", keep=("Muon_pt",)))
    return path.read_bytes()


@dataclass(frozen=True)
class Took:
    """What a command took: seconds of time and of the processor, most memory in MB; and what it printed."""

    seconds: float
    processor: float
    memory: float
    printed: str

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor:.1f} s of the processor), {self.memory:.0f} MB"


def timed(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> Took:
    """Run a command."""
    begin = time.monotonic()
    process = subprocess.Popen(
        list(command), cwd=directory, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{printed}")
    return Took(time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed)


def bench_jobs(system: str, service: Any, jobs: int, directory: Path, longest: float) -> None:
    """Submit jobs of a file each, and look at them until all are done, or for some time."""
    nanoml = nanoml_command()
    small = make_small(directory / "small.root")
    (directory / "data").mkdir()
    for number in range(jobs):
        # each with an identifier of its own, which is here in the header: copies would be refused
        content = small[:47] + uuid.uuid4().bytes + small[63:]
        (directory / "data" / f"{number:05d}.root").write_bytes(content)
    (directory / "many.yaml").write_text(ANALYSIS.format(files="data/*.root", per_job=1))
    environment = service.environment
    bare = bare_client(system, jobs, directory, environment)
    took = timed([*nanoml, "submit", "skim", "many.yaml", "--on", system], directory, environment)
    say(f"{system}: {jobs} jobs submitted in {took}; the client alone: {bare.seconds:.1f} s")
    begin, slowest = time.monotonic(), Took(0, 0, 0, "")
    while True:
        took = timed([*nanoml, "status", "--json"], directory, environment)
        slowest = max(slowest, took, key=lambda it: it.processor)
        status = json.loads(took.printed)
        if not status["active"] or time.monotonic() - begin > longest:
            break
        time.sleep(5)
    if status["active"]:
        timed([*nanoml, "kill"], directory, environment)
    done, seconds = status["stages"]["skim"]["done"], time.monotonic() - begin
    say(f"{system}: status in {slowest} at most; {done} of {jobs} done after {seconds:.0f} s")


def bare_client(system: str, jobs: int, directory: Path, environment: Mapping[str, str]) -> Took:
    """Submit as many jobs by the client of the batch system alone, and remove them."""
    script = directory / "nothing.sh"
    script.write_text("#!/bin/bash\n")
    script.chmod(0o755)
    if system == "slurm":
        command = ["sbatch", "--parsable", "--hold", f"--array=0-{jobs - 1}", "--output=/dev/null", str(script)]
        took = timed(command, directory, environment)
        timed(["scancel", took.printed.strip()], directory, environment)
        return took
    (directory / "nothing.sub").write_text(f"executable = nothing.sh\nhold = True\nqueue {jobs}\n")
    took = timed(["condor_submit", "-terse", "nothing.sub"], directory, environment)
    timed(["condor_rm", took.printed.split(".")[0]], directory, environment)
    return took


def bench_plan(files: int, directory: Path) -> None:
    """Plan the skim of files of a server, of which only the first is there: just that one is opened."""
    small = directory / "small.root"
    make_small(small)
    cluster = Cluster(1)
    try:
        cluster.seed({"/store/mc/0.root": small}, (0,))
        cluster.start()
        urls = "".join(f"{cluster.url}/store/mc/{number}.root\n" for number in range(files))
        (directory / "list.txt").write_text(urls)
        (directory / "plan.yaml").write_text(ANALYSIS.format(files="list.txt", per_job=10))
        command = [*nanoml_command(), "submit", "skim", "plan.yaml", "--on", "slurm", "--dry-run"]
        say(f"plan: {files} files in {timed(command, directory, cluster.environment)}")
    finally:
        cluster.close()


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--on", default="slurm,condor")
    parser.add_argument("--seconds", type=float, default=1200, help="after which jobs are ended")
    options = parser.parse_args()
    silence()
    if options.files:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            bench_plan(options.files, Path(folder))
    for system in options.on.split(",") if options.jobs else []:
        service = {"slurm": Slurm, "condor": CondorPool}[system]()
        try:
            service.start()
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                bench_jobs(system, service, options.jobs, Path(folder), options.seconds)
        finally:
            service.stop()


if __name__ == "__main__":
    main()
