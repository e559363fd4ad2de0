"""Training of one network per fold: in this process, in one process each, or in processes that share the batches."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from ML_processing.events.data import Table
from ML_processing.events.survey import Survey, factors_of_split, split_count
from ML_processing.metrics.measured import Measured, number
from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import Epoch, TrainingDescription, describe
from ML_processing.training.directory import Training, checkpoint_file, initial_network
from ML_processing.training.fold import device_of, is_trained, measure, prepare, train_fold
from ML_processing.training.following import begin, finish, followers, following
from ML_processing.training.result_training import gain
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import begin_worker, usable_cores, worker_pool
from MLTools.NanoML.report.section import PRIVATE_WORK, Style
from MLTools.NanoML.terminal.progress import Bar, progress, say

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from MLTools.NanoML.config.training import Train

_FEW = 20_000  # events without objects that are learned in seconds
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # those that torchrun takes
_AGAIN = "Lower train.workers or train.memory, and run the same command again: it continues."
_queue: SimpleQueue[tuple[int, int, str]] | None = None
# the events in a worker process, which reads them once for all its networks
_events: tuple[TrainingFiles, Table, Survey] | None = None


def train(files: Sequence[Path], config: Train, directory: Path, style: Style = PRIVATE_WORK) -> dict[str, object]:
    """Train the networks of all folds on HDF5 files of the conversion, and describe them in `directory`.

    If the directory holds a training of the same events with the same settings, it is continued where it was
    interrupted: finished folds are kept, an unfinished one continues from its last checkpoint. Any other training
    there is replaced. The files are network_I.pt, history_I.json, training.json, environment.json, loss.png and loss.pdf.

    Returns
    -------
    On events not trained on: AUC of the discriminant (auc) and its error (auc_error), unless it is a regression, and of each
    target the root of the mean squared error (rmse).

    Raises
    ------
    NanoMLError
        The events cannot be trained on, or the loss is not a finite number.
    """
    for it in followers(config):
        it.check()
    device = device_of(config)
    opened = TrainingFiles.open(files, config)
    k, _ = split_count(config.folds)
    table, survey = opened.sample(config.memory, k)
    description = describe(table, survey, files, config, device)
    for note in description.notes:
        say(f"train: {note}")
    folds = range(description.folds.networks)
    for fold in folds:  # what is wrong with any of them is known before the first epoch
        factors_of_split(survey, fold)
    with torch.random.fork_rng(devices=[]):
        initial_network(description)
    prepare(directory, description)
    begin(config, directory, directory.parent, directory.name, description)
    todo = [fold for fold in folds if not is_trained(directory, fold)]
    for fold in sorted(set(folds) - set(todo)):
        checkpoint_file(directory, fold).unlink(missing_ok=True)
        say(f"train: {_named(fold, len(folds))} is trained already.")
    sensible = config.workers or _sensible_workers(table, survey)
    for _ in ("classes", "result"):  # for which all networks wait for each other, if bins are chosen by all
        todo = [fold for fold in todo if not is_trained(directory, fold)]
        workers = min(sensible, len(todo)) if device.type == "cpu" else 1
        if todo and config.processes > 1:
            _train_together(files, config, directory, todo)
        elif workers > 1:
            _train_in_parallel(files, config, directory, todo, workers)
        else:
            for fold in todo:
                with (
                    progress(_named(fold, len(folds)), config.epochs, "epochs") as bar,
                    following(config, directory, fold, partial(_advance, bar, "")) as report,
                ):
                    train_fold(opened, table, survey, config, directory, fold, device, report)
    return _finish(table, description, directory, style)


def _sensible_workers(table: Table, survey: Survey) -> int:
    """1 if the networks are trained before a process has started, else the number of cores."""
    numbers = survey.counts.sum() * sum(it.max * len(it.fields) for it in table.about.collections)
    return usable_cores() if survey.counts.sum() + numbers > _FEW else 1


def _finish(table: Table, description: TrainingDescription, directory: Path, style: Style) -> dict[str, object]:
    """Measure the networks, plot the losses, and mark the training as complete."""
    # matplotlib takes a second, and the processes that train do not need it
    from ML_processing.training.loss_figure import losses
    from MLTools.NanoML.report import figures

    training = Training.of(directory, description)
    found = None if description.config.target is None else gain(training, description.config, directory)
    if found is not None and not found.is_kept:
        training = Training.of(directory, description)
    metrics = measure(training, table)
    figures.save(losses(style, training.histories, training.is_boosted), directory / "loss")
    if found is not None:
        metrics["result"] = asdict(found)
        say(f"train: {found.text}")
    texts = [f"{name} to {value:.4g}" for name, value in metrics.get("rmse", {}).items()]
    if not training.targets:
        measured = Measured(metrics["auc"], metrics["auc_error"])
        texts.insert(0, f"AUC {number(measured)} of the {description.discriminant.text}")
    replace(description, complete=True, metrics=metrics).write(directory)
    finish(description.config, directory, metrics)
    say(f"train: {', '.join(texts)}, on events not trained on.")
    return metrics


def _train_in_parallel(
    files: Sequence[Path], config: Train, directory: Path, folds: Sequence[int], workers: int
) -> None:
    """Train networks at the same time, each in a process of its own on one core, `workers` at a time.

    If one fails, the others are ended, and continue at the next attempt.
    """
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    with (
        progress(f"train {len(folds)} networks", config.epochs * len(folds), "epochs") as bar,
        worker_pool(workers, __name__, _begin, queue) as pool,
    ):
        pending = {pool.submit(_train_alone, files, config, directory, fold) for fold in folds}
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
            bar.advance(0)
            while not queue.empty():
                fold, epochs, note = queue.get()
                bar.advance(epochs, f"fold {fold + 1}: {note}")
            for future in done:
                try:
                    future.result()
                except BrokenProcessPool:
                    raise NanoMLError(
                        f"a process that trained was killed, maybe for lack of memory. {_AGAIN}"
                    ) from None


def _begin(queue: SimpleQueue[tuple[int, int, str]]) -> None:
    global _queue
    _queue = queue
    begin_worker()


def _train_alone(files: Sequence[Path], config: Train, directory: Path, fold: int) -> None:
    def report(epochs: list[Epoch], note: str) -> None:
        assert _queue is not None
        _queue.put((fold, len(epochs), note))

    global _events
    if _events is None:
        _events = _read(files, config)
    with following(config, directory, fold, report) as followed:
        train_fold(*_events, config, directory, fold, torch.device("cpu"), followed)


def _read(files: Sequence[Path], config: Train) -> tuple[TrainingFiles, Table, Survey]:
    opened = TrainingFiles.open(files, config)
    return (opened, *opened.sample(config.memory, split_count(config.folds)[0]))


def _train_together(files: Sequence[Path], config: Train, directory: Path, folds: Sequence[int]) -> None:
    """Train networks one after the other; `config.processes` processes, as torchrun starts them, share the batches.

    If one fails, it continues at the next attempt.
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
            found = [path.read_text(encoding="utf-8") for path in sorted(Path(messages).iterdir())]
            code = problem.get_first_failure()[1].exitcode
            raise NanoMLError(found[0] if found else f"a process that trained ended with {code}. {_AGAIN}") from None


@contextmanager
def _quiet_torchrun() -> Iterator[None]:
    """Silence torchrun, and let Ctrl-C raise KeyboardInterrupt, in the meantime and afterwards."""
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


def _train_share(files: Sequence[Path], config: Train, directory: Path, folds: Sequence[int], messages: Path) -> None:
    rank = int(os.environ["RANK"])
    progress_bar = progress(f"train {len(folds)} networks", config.epochs * len(folds), "epochs")
    with progress_bar if rank == 0 else nullcontext() as bar:
        begin_worker()  # after the first process has its bar: no other one shows any
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # by which torchrun ends them
        cuda = config.device != "cpu" and torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
        try:
            events = _read(files, config)
            for fold in folds:
                shown = partial(_advance, bar, f"fold {fold + 1}: ")
                with following(config, directory, fold, shown) as report:
                    train_fold(*events, config, directory, fold, device, report)
        except Exception as problem:
            # a known problem is shown rather than its consequences in other processes
            known = isinstance(problem, NanoMLError)
            text = str(problem) if known else f"a process that trained failed:\n{traceback.format_exc()}"
            (messages / f"{'known' if known else 'unknown'}-{rank}").write_text(text, encoding="utf-8")
            raise SystemExit(1) from None
        torch.distributed.destroy_process_group()


def _named(fold: int, count: int) -> str:
    return f"fold {fold + 1} of {count}" if count > 1 else "the network"


def _advance(bar: Bar | None, prefix: str, epochs: list[Epoch], note: str) -> None:
    if bar is not None:
        bar.advance(len(epochs), f"{prefix}{note}")
