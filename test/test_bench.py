"""What the benchmarks measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive("what the benchmarks measure")

BENCH = Path(__file__).resolve().parents[1] / "bench"

WORKERS = """
import multiprocessing, time

def work(seconds):
    while time.process_time() < seconds:
        pass

if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        pool.map(work, [1.0, 1.0], 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans come to another process on Linux only")
def test_a_command_takes_the_processor_time_of_its_workers(tmp_path: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    (tmp_path / "workers.py").write_text(WORKERS)
    code = f"""
import sys
sys.path.insert(0, {str(BENCH)!r})
from common import Took
took = Took.by_command([sys.executable, {str(tmp_path / "workers.py")!r}])
assert took.processor > 1, took
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=BENCH.parent)
