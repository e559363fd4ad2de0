"""Several processes that train give the networks of one, and end when something is wrong."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
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
import torch

from ML_processing import plots
from ML_processing.train import train
from MLTools.NanoML.config import Train
from MLTools.NanoML.errors import NanoMLError
from processes import heed_interrupts, running

Toy = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plot takes longer than these trainings."""
    monkeypatch.setattr(plots, "save", lambda figure, stem: None)


def results(directory: Path) -> tuple[list[Any], list[dict[str, torch.Tensor]]]:
    histories = [json.loads(path.read_text()) for path in sorted(directory.glob("history_*.json"))]
    return histories, [torch.load(path, weights_only=True) for path in sorted(directory.glob("network_*.pt"))]


def check_same(first: Path, second: Path) -> None:
    (histories, networks), (others, other_networks) = results(first), results(second)
    assert len(networks) == 3
    assert histories == others
    for one, other in zip(networks, other_networks, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_networks_at_the_same_time_are_those_of_one_after_the_other(
    toy: Toy, quick: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = toy()
    train([file], dataclasses.replace(quick, workers=1), tmp_path / "one")
    capsys.readouterr()
    train([file], dataclasses.replace(quick, workers=2), tmp_path / "two")
    assert "train 3 networks: 18 epochs" in capsys.readouterr().err
    check_same(tmp_path / "one", tmp_path / "two")
    with pytest.raises(NanoMLError, match=r"training of network \d: the loss is not a finite number"):
        train([file], dataclasses.replace(quick, workers=2, learning_rate=1e30), tmp_path / "failed")


@pytest.mark.slow
def test_processes_that_share_the_batches(
    toy: Toy, quick: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = toy(count=601)
    exact = dataclasses.replace(quick, options={"hidden": [8], "dropout": 0.0}, epochs=3)
    train([file], exact, tmp_path / "one")
    handlers = [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM)]
    capfd.readouterr()
    train([file], dataclasses.replace(exact, processes=2), tmp_path / "two")
    said = capfd.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("train 3 networks: 9 epochs")]) == 1
    assert len([line for line in said if line.startswith("read the events")]) == 1
    (ones, _), (twos, _) = results(tmp_path / "one"), results(tmp_path / "two")
    for one, two in zip(chain(*ones), chain(*twos), strict=True):
        assert two == pytest.approx(one, abs=1e-5)
    with pytest.raises(
        NanoMLError, match=r"^training of network 0: the loss is not a finite number .*learning_rate.$"
    ):
        train([file], dataclasses.replace(exact, processes=2, learning_rate=1e30), tmp_path / "failed")
    assert "Traceback" not in capfd.readouterr().err
    assert [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert logging.getLogger().isEnabledFor(logging.WARNING)


SCRIPT = """
import signal, sys
from pathlib import Path
from ML_processing import data, loop, plots
from ML_processing.train import train
from MLTools.NanoML import interrupt
from MLTools.NanoML.config import Train

loop._CHECKPOINT_EVERY = 0.0  # also in processes that are spawned
data._BLOCK_EVENTS = 10_000
plots.save = lambda figure, stem: None
if __name__ == "__main__":
    interrupt.heed()
    options = {"hidden": [8], "dropout": 0.1}
    config = Train(options=options, batch_size=500, epochs=EPOCHS, folds=3, device="cpu", SETTINGS)
    try:
        train([Path(sys.argv[1])], config, Path(sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def start(script: Path, file: Path, directory: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    line = [sys.executable, str(script), str(file), str(directory)]
    return running(line, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "count", "number"),
    [
        ("workers=2", 6000, signal.SIGKILL),
        ("workers=1, memory=1", 30_000, signal.SIGINT),
        ("processes=2", 6000, signal.SIGINT),
    ],
)
def test_goes_on_after_a_stop_at_any_moment(
    toy: Toy, tmp_path: Path, settings: str, count: int, number: signal.Signals
) -> None:
    file, script = toy(count=count), tmp_path / "script.py"
    script.write_text(SCRIPT.replace("SETTINGS", settings).replace("EPOCHS", "4" if count > 6000 else "20"))
    stops, chance = 0, random.Random(1)
    for _ in range(20):
        with start(script, file, tmp_path / "run") as process:
            if stops < 2 and is_under_way(process, tmp_path / "run"):
                time.sleep(chance.uniform(0, 0.2))
                process.send_signal(number)
                _, said = process.communicate()
                stops += process.returncode != 0
                if number == signal.SIGINT:
                    assert process.returncode in (0, 130), said
                    assert "Traceback" not in said, said
                continue
            _, said = process.communicate()
            assert process.returncode == 0, said
            break
    assert stops == 2
    if settings.startswith("processes"):
        return  # sums are made in another order: see above
    with start(script, file, tmp_path / "whole") as process:
        _, said = process.communicate()
        assert process.returncode == 0, said
    check_same(tmp_path / "whole", tmp_path / "run")
    assert not list((tmp_path / "run").glob("checkpoint*"))


@pytest.mark.slow
def test_no_process_is_left(toy: Toy, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    for settings in ("workers=2", "processes=2"):
        script.write_text(SCRIPT.replace("SETTINGS", settings).replace("EPOCHS", "100_000, patience=100_000"))
        with start(script, toy(), tmp_path / settings) as process:
            assert is_under_way(process, tmp_path / settings)
            process.kill()
        time.sleep(1)
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _is_of(path, process.pid)]
        assert left == []


def _is_of(path: Path, pid: int) -> bool:
    """Whether a process was spawned by another one; its command line tells."""
    try:
        return f"parent_pid={pid}," in path.read_text()
    except (OSError, UnicodeDecodeError):
        return False
