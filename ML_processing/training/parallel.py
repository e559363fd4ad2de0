"""Several processes that train: each a network of its own, or all together one after the other."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from ML_processing.events.data import Data
from ML_processing.events.splits import split_count
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import begin_worker, worker_pool
from MLTools.NanoML.terminal.progress import Bar, progress

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from MLTools.NanoML.config.training import Train

__all__ = ["train_in_parallel", "train_together"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # those that torchrun takes
_AGAIN = "Lower train.workers or train.memory, and run the same command again: it goes on where it was."
_queue: SimpleQueue[tuple[int, int, str]] | None = None
_events: tuple[Data, Table, Survey] | None = (
    None  # of this process, which reads them once for all its networks
)


def train_in_parallel(
    files: Sequence[Path], config: Train, directory: Path, folds: Sequence[int], workers: int
) -> None:
    """Train networks at the same time, each in a process and on a core of its own.

    Parameters
    ----------
    files, config, directory
        As for `train`.
    folds
        Their numbers.
    workers
        How many at a time.

    Raises
    ------
    NanoMLError
        A training failed; the others are ended, and go on at the next attempt.
    """
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    with (
        progress(f"train {len(folds)} networks", config.epochs * len(folds), "epochs") as bar,
        worker_pool(workers, __name__, _begin, queue) as pool,
    ):
        pending = {pool.submit(_train_alone, files, config, directory, fold) for fold in folds}
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
            _show(queue, bar)
            for future in done:
                _check(future)


def _show(queue: SimpleQueue[tuple[int, int, str]], bar: Bar) -> None:
    bar.advance(0)
    while not queue.empty():
        fold, epochs, note = queue.get()
        bar.advance(epochs, f"network {fold + 1}: {note}")


def _check(future: Future[None]) -> None:
    try:
        future.result()
    except BrokenProcessPool:
        raise NanoMLError(f"a process that trained was killed, maybe for lack of memory. {_AGAIN}") from None


def _begin(queue: SimpleQueue[tuple[int, int, str]]) -> None:
    global _queue
    _queue = queue
    begin_worker()


def _train_alone(files: Sequence[Path], config: Train, directory: Path, fold: int) -> None:
    from ML_processing.tracking import following
    from ML_processing.training.fold import train_fold

    def report(entries: list[dict[str, Any]], note: str) -> None:
        assert _queue is not None
        _queue.put((fold, len(entries), note))

    global _events
    if _events is None:
        _events = _read(files, config)
    with following(config.tracking, directory, fold, report) as followed:
        train_fold(*_events, config, directory, fold, torch.device("cpu"), followed)


def _read(files: Sequence[Path], config: Train) -> tuple[Data, Table, Survey]:
    data = Data.open(files, config)
    return (data, *data.sample(config.memory, split_count(config.folds)[0]))


def train_together(files: Sequence[Path], config: Train, directory: Path, folds: Sequence[int]) -> None:
    """Train networks one after the other, their batches shared by `config.processes` processes, as torchrun does.

    Parameters
    ----------
    files, config, directory
        As for `train`.
    folds
        Their numbers.

    Raises
    ------
    NanoMLError
        A training failed; it goes on at the next attempt.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=config.processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    with TemporaryDirectory() as messages, _quiet_torchrun():
        try:
            elastic_launch(launch, _train_share)(files, config, directory, list(folds), Path(messages))
        except ChildFailedError as problem:
            told = [path.read_text(encoding="utf-8") for path in sorted(Path(messages).iterdir())]
            code = problem.get_first_failure()[1].exitcode
            raise NanoMLError(
                told[0] if told else f"a process that trained ended with {code}. {_AGAIN}"
            ) from None


@contextmanager
def _quiet_torchrun() -> Iterator[None]:
    """Let torchrun say nothing, and Ctrl-C be a KeyboardInterrupt, in the meantime and afterwards."""
    from torch.distributed.elastic.multiprocessing import SignalException

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    level = logging.root.manager.disable
    logging.disable()
    try:
        yield
    except SignalException as problem:
        if problem.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + problem.sigval) from None
    finally:
        logging.disable(level)
        for number, handler in before.items():
            signal.signal(number, handler)


def _train_share(
    files: Sequence[Path], config: Train, directory: Path, folds: Sequence[int], messages: Path
) -> None:
    from ML_processing.tracking import following
    from ML_processing.training.fold import train_fold

    rank = int(os.environ["RANK"])
    shown = progress(f"train {len(folds)} networks", config.epochs * len(folds), "epochs")
    with shown if rank == 0 else nullcontext() as bar:
        begin_worker()  # now, that only the first process has a bar, and no other
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # by which torchrun ends them
        cuda = config.device != "cpu" and torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
        try:
            events = _read(files, config)
            for fold in folds:
                with following(config.tracking, directory, fold, partial(_advance, bar, fold)) as report:
                    train_fold(*events, config, directory, fold, device, report)
        except Exception as problem:
            known = isinstance(problem, NanoMLError)  # is told before what it led to in other processes
            text = str(problem) if known else f"a process that trained failed:\n{traceback.format_exc()}"
            (messages / f"{'known' if known else 'unknown'}-{rank}").write_text(text, encoding="utf-8")
            raise SystemExit(1) from None
        torch.distributed.destroy_process_group()


def _advance(bar: Bar | None, fold: int, entries: list[dict[str, Any]], note: str) -> None:
    if bar is not None:
        bar.advance(len(entries), f"network {fold + 1}: {note}")
