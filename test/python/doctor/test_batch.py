from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from MLTools.NanoML.doctor import batch, gpu
from services.condor import CondorPool

Program = Callable[[str, str], Path]


def test_nothing_is_there(nothing: Path) -> None:
    for check in (batch.htcondor, batch.slurm, batch.crab, gpu.gpu):
        finding = check()
        assert not finding.fine
        assert finding.mend


@pytest.mark.service
def test_a_queue_that_answers_and_one_that_does_not(
    condor_pool: CondorPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in condor_pool.environment.items():
        monkeypatch.setenv(name, value)
    assert batch.htcondor().found == "the queue answers"
    monkeypatch.setenv("CONDOR_CONFIG", "/nonexistent")
    finding = batch.htcondor()
    assert not finding.fine
    assert finding.found.startswith("condor_q: ")


def test_a_queue_that_is_down(program: Program) -> None:
    program("sbatch", "exit 0")
    program("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    finding = batch.slurm()
    assert finding.found == "squeue: slurm_load_jobs error: Unable to contact slurm controller"
    program("squeue", "exit 0")
    assert batch.slurm().fine


def test_gpus(program: Program) -> None:
    program("nvidia-smi", "printf 'NVIDIA A100, 40960 MiB\\nNVIDIA A100, 40960 MiB\\n'")
    assert gpu.gpu().found == "NVIDIA A100, 40960 MiB; NVIDIA A100, 40960 MiB"
    program("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert not gpu.gpu().fine
