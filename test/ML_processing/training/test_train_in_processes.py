"""Several processes that train give the networks of one, and end when something is wrong."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from ML_processing.training import data as training_data
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
from processes import running
from services.daemons import wait_for
from services.trainings import histories_in, networks_in, same

pytestmark = pytest.mark.exhaustive("networks trained at the same time, and what ends them")
Toy = Callable[..., Path]


def check_same(first: Path, second: Path) -> None:
    networks, others = networks_in(first), networks_in(second)
    assert len(networks) == len(others) == 3
    assert histories_in(first) == histories_in(second)
    assert all(map(same, networks, others))


@pytest.mark.parametrize("special", [{"workers": 2}, {"processes": 2}])
def test_a_failure_in_another_process_is_one_error(
    toy: Toy, quick: Train, tmp_path: Path, capfd: Any, special: Any
) -> None:
    handlers = [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(NanoMLError, match=r"^fold [1-3] of 3: the loss is not a finite number .*learning_rate.$"):
        train([toy()], dataclasses.replace(quick, **special, learning_rate=1e30), tmp_path / "failed")
    assert "Traceback" not in capfd.readouterr().err
    assert [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert logging.getLogger().isEnabledFor(logging.WARNING)


SETTINGS: dict[str, Any] = {"options": {"hidden": [8], "dropout": 0.1}, "batch_size": 500, "folds": 3, "device": "cpu"}
NO_CHANCE = {"hidden": [8], "dropout": 0.0}  # that processes would share
BLOCK = 10_000  # events
SCRIPT = f"""
import signal, sys, time
from pathlib import Path
from ML_processing.training import data as training_data
from MLTools.NanoML.report import figures
from ML_processing.training import loop
from ML_processing.training.train import train
from MLTools.NanoML.terminal.progress import heed_signal
from MLTools.NanoML.config.training import Train

step, left = loop._Loop._between_steps, [9]

def stepped(*arguments):
    step(*arguments)
    left[0] -= 1
    while not left[0]:  # until something ends it
        time.sleep(0.1)

loop._Loop._between_steps = stepped  # also in processes that are spawned
loop._CHECKPOINT_EVERY = 0.0
training_data._BLOCK_EVENTS = {BLOCK}
figures.save = lambda figure, stem: None
if __name__ == "__main__":
    heed_signal(signal.SIGINT, KeyboardInterrupt)
    try:
        train([Path(sys.argv[1])], Train("mlp", **{{**{SETTINGS}, **SPECIAL}}), Path(sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def start(script: Path, file: Path, directory: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    line = [sys.executable, str(script), str(file), str(directory)]
    environment = {**os.environ, "SCRIPT": str(script)}
    return running(line, env=environment, stderr=subprocess.PIPE, text=True)


def is_under_way(process: subprocess.Popen[str], directory: Path) -> bool:
    """Wait until there is a checkpoint that is younger than this call; False where the process ends before."""
    begin = time.time()
    while process.poll() is None:
        for path in directory.glob("checkpoint_*.pt"):
            try:
                if path.stat().st_mtime > begin:
                    return True
            except FileNotFoundError:
                continue
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("special", "count", "number"),
    [
        ({"workers": 2, "epochs": 4}, 6000, signal.SIGKILL),
        ({"workers": 1, "epochs": 2, "memory": 1}, 30_000, signal.SIGINT),
        ({"processes": 2, "epochs": 4, "options": NO_CHANCE, "folds": 1}, 6001, signal.SIGINT),
    ],
    ids=["workers", "memory", "processes"],
)
def test_goes_on_after_a_stop_at_any_moment_and_ends_as_one_after_the_other(
    toy: Toy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    special: dict[str, Any],
    count: int,
    number: signal.Signals,
) -> None:
    file, script = toy(count=count), tmp_path / "script.py"
    script.write_text(SCRIPT.replace("SPECIAL", str(special)))
    with start(script, file, tmp_path / "run") as process:
        assert is_under_way(process, tmp_path / "run")
        time.sleep(random.Random(count).uniform(0, 0.1))
        process.send_signal(number)
        _, said = process.communicate()
        assert process.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[number], said
        assert "Traceback" not in said, said
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", BLOCK)
    wait_for_the_end_of_all(script)
    config = Train("mlp", **{**SETTINGS, **special})
    capfd.readouterr()
    train([file], config, tmp_path / "run")
    said = capfd.readouterr().err
    assert not list((tmp_path / "run").glob("checkpoint*"))
    if "memory" not in special:  # several processes speak once
        told = rf"^train {config.folds} networks: {config.epochs * config.folds} epochs"
        assert len(re.findall(told, said, re.M)) == 1
    train([file], dataclasses.replace(config, processes=1, workers=1), tmp_path / "whole")
    if config.processes == 1:
        check_same(tmp_path / "whole", tmp_path / "run")
        return
    # two processes make sums in another order
    assert said.count("read the events") == 1
    ones, twos = (chain(*histories_in(tmp_path / name)) for name in ("whole", "run"))
    for one, two in zip(ones, twos, strict=True):
        assert two == pytest.approx(one, abs=1e-5)


def test_processes_do_not_outlive_the_one_that_started_them(toy: Toy, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("SPECIAL", str({"processes": 2, "epochs": 20})))
    with start(script, toy(), tmp_path / "run") as process:
        assert is_under_way(process, tmp_path / "run")
        process.kill()
    wait_for_the_end_of_all(script)


def wait_for_the_end_of_all(script: Path) -> None:
    """Until no process of a script is left."""
    wait_for(lambda: not any(_is_of(path, script) for path in Path("/proc").glob("[0-9]*/environ")), "their end")


def _is_of(path: Path, script: Path) -> bool:
    """Whether a process belongs to a script that was started; its environment tells."""
    try:
        return str(script).encode() in path.read_bytes()
    except OSError:
        return False
