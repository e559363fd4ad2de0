"""Dask: the jobs are tasks of a cluster, to which a process in the background of this machine gives them.

The cluster is that of an address, or that process starts one for each stage: on this machine, or by a class such as
`dask_jobqueue.SLURMCluster`. Its workers import nothing of NanoML: a task starts job.sh, as every batch system does.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.batch.local import Local, Start
from MLTools.NanoML.batch.submission import JOBS, JobEntry, JobOptions, Submission
from MLTools.NanoML.errors import NanoMLError, plural
from MLTools.NanoML.extending import Resources, settings_of
from MLTools.NanoML.extensions.dask.settings import DaskCluster, DaskSettings
from MLTools.NanoML.installation import how_to_install
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.schema.plain import build, plain
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

_PATIENCE = 10.0  # seconds in which a scheduler must answer
_EVERY = 0.5  # seconds between two looks which tasks are running, and whether one has been cancelled
_LOG = 1 << 20  # bytes of a log that come back
_CONFIGURATION = {  # Dask begins with few workers, until it knows how long tasks take, and gives each more than it can do
    "distributed.scheduler.unknown-task-duration": "1h",
    "distributed.adaptive.target-duration": "1s",
    "distributed.scheduler.worker-saturation": 1.0,
}
_DASHBOARD = "127.0.0.1:0"  # Dask would show the address of the scheduler instead


class Dask(Local):
    """A Dask cluster."""

    where = "cluster"
    extra = "dask"
    sends_files = True
    brings_python = True  # Dask itself asks for that

    def kept(self, config: Config) -> Mapping[str, Any]:
        """The cluster."""
        wanted = settings_of(config.batch, DaskSettings).dask
        return dict(plain(wanted)) if wanted else {}

    def submit(self, submission: Submission) -> None:
        """Start the process, if the scheduler answers or the class of the cluster is there."""
        kind = _kind_of(_wanted(submission.options))
        if isinstance(kind, str):
            _client(kind).close()
        super().submit(submission)

    @contextlib.contextmanager
    def starter(self, submission: Submission, entries: Sequence[JobEntry]) -> Iterator[tuple[Start, int]]:
        """As tasks of the cluster; if it is started here, each of its workers does one job at a time."""
        options, stage, number = submission.options, entries[0].stage, len(entries)
        needs = Resources(*(max(getattr(it.resources, name.name) for it in entries) for name in fields(Resources)))
        kind, most = _kind_of(_wanted(options)), min(number, options.at_once or number)
        if isinstance(kind, str):
            with _client(kind) as client:
                yield _Tasks(client, submission).start, most * needs.cores
            return
        is_here = kind.__name__ == "LocalCluster"
        if is_here and not options.at_once:
            most = max(1, min(number, usable_cores() // needs.cores))
        needs = replace(needs, time=needs.time * -(-number // most))
        arguments = _arguments(kind, options, stage, needs, most)
        listens = {**arguments, **(arguments.get("scheduler_options") or {})}.get("dashboard_address")
        link = {"distributed.dashboard.link": "http://127.0.0.1:{port}/status"} if listens == _DASHBOARD else {}
        with (
            importlib.import_module("dask").config.set({**_CONFIGURATION, **link}),
            _started(kind, arguments) as cluster,
            _client(cluster) as client,
        ):
            if not is_here:
                cluster.adapt(minimum=0, maximum=most)
            say(f"{stage}: {plural(most, 'worker')}, {cluster.dashboard_link}")
            yield _Tasks(client, submission).start, number * needs.cores


def _wanted(options: JobOptions) -> DaskCluster:
    return build(DaskCluster, options.kept)


def _kind_of(wanted: DaskCluster) -> Any:
    """The address of a scheduler, or a class of clusters; an error if there is no such class."""
    try:
        importlib.import_module("distributed")
        # where facilities note the address
        given = wanted.cluster or importlib.import_module("dask").config.get("scheduler-address", None)
        if given and "://" in given:
            return given
        module, _, name = (given or "distributed.LocalCluster").rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, type):
            raise AttributeError(f"{given} is not a class")
        return found
    except (ImportError, AttributeError) as problem:
        raise NanoMLError(
            f"batch.dask: {problem}: {how_to_install('dask')} (Dask and dask-jobqueue), or what has this class, or name another."
        ) from None


def _started(kind: Any, arguments: Mapping[str, object]) -> Any:
    try:
        return kind(**arguments)
    except (TypeError, ValueError, RuntimeError, OSError) as problem:
        raise NanoMLError(
            f"batch.dask: {kind.__name__} does not start ({problem}). Check cluster and options."
        ) from None


def _client(cluster: Any) -> Any:
    """A client of a cluster, or of an address; an error if it does not answer. A busy scheduler may close a connection."""
    distributed: Any = importlib.import_module("distributed")
    end = time.monotonic() + _PATIENCE

    class Client(distributed.Client):
        def start(self, **options: object) -> None:
            try:  # Dask itself waits for ever where somebody listens, but says nothing
                super().start(callback_timeout=2 * _PATIENCE, **options)
            except BaseException:
                self.status = "closed"  # or the end of this process waits for its end
                raise

    while True:
        try:
            return Client(cluster, timeout=_PATIENCE, set_as_default=False)
        except Exception as problem:  # whatever somebody sends who is no scheduler
            if type(problem) is not distributed.comm.CommClosedError or time.monotonic() > end:
                is_tls = str(cluster).startswith("tls")
                tls = " Dask's own configuration names the certificates for tls://." if is_tls else ""
                what = str(problem) or f"{type(problem).__name__} after {_PATIENCE:g} s"
                raise NanoMLError(f"batch.dask: the scheduler {cluster} does not answer ({what}).{tls}") from None
        time.sleep(_EVERY)


def _arguments(kind: type, options: JobOptions, stage: str, needs: Resources, most: int) -> Mapping[str, Any]:
    names, found = {it.__name__ for it in kind.__mro__}, dict[str, Any]()
    if "LocalCluster" in names:
        found = {"n_workers": most, "threads_per_worker": 1, "processes": False, "memory_limit": 0}
        found.update(dashboard_address=_DASHBOARD, worker_dashboard_address=_DASHBOARD)
    elif "JobQueueCluster" in names:
        found = {"cores": needs.cores, "processes": 1, "memory": f"{needs.memory + 500}MB"}  # 500 for itself
        found.update(worker_extra_args=["--nthreads", "1"], log_directory="logs", shared_temp_directory=os.getcwd())
        found["scheduler_options"] = {"dashboard_address": _DASHBOARD}
    if "SLURMCluster" in names:
        found.update(queue=options.partitions.get(stage), account=options.account, walltime=str(needs.time // 60 + 1))
    if "HTCondorCluster" in names:
        found["disk"] = f"{needs.disk}MB"
    given = _wanted(options).options
    if found and given.get("processes", found["processes"]):
        found["security"] = True  # other users must not be able to give it tasks, as they cannot to threads
    return {**found, **given}


class _Tasks:
    """Jobs as tasks of a cluster."""

    def __init__(self, client: Any, submission: Submission) -> None:
        self._client, self._submission = client, submission
        self._archives: Any = None
        self._running: set[str] = set()
        self._asked = 0.0
        # workers need not have NanoML
        importlib.import_module("cloudpickle").register_pickle_by_value(sys.modules[__name__])

    def start(self, entry: JobEntry) -> Callable[[], str]:
        options, name = self._submission.options, entry.name
        submit = functools.partial(self._client.submit, pure=False)
        files = None if options.shared else self._files(name)
        if files and self._archives is None:  # by a task, which another worker repeats if the one that has them is lost
            self._archives = submit(dict, {it: Path(it).read_bytes() for it in options.sent[entry.stage]})
        command = [*options.launch, "bash", "job.sh", name, str(entry.resources.cores)]
        gpus = {"GPU": entry.resources.gpus} if entry.resources.gpus and self._client.cluster is None else None
        key = f"{name}-{self._submission.tag}-{time.time_ns()}"
        future = submit(_do, name, command, os.getcwd(), files, self._archives, key=key, resources=gpus)
        return functools.partial(self._state, name, future)

    def _files(self, name: str) -> dict[str, bytes]:
        proxy, token = self._submission.options.proxy, self._submission.options.token
        if (proxy or token) and not self._client.scheduler.address.startswith(("inproc://", "tls://")):
            what = f"your {'proxy' if proxy else 'token'}, which must travel encrypted: by tls://, not tcp://"
            raise NanoMLError(f"batch.dask: jobs need {what}.")
        names = {it: it for it in ("job.sh", f"{JOBS}/{name}.json", f"results/{name}.json")}
        secret = {"proxy": proxy, os.path.basename(token or ""): token}  # job.sh names the file of the token
        return {it: Path(path).read_bytes() for it, path in {**names, **secret}.items() if path}

    def _state(self, name: str, future: Any) -> str:
        try:
            if time.monotonic() > self._asked + _EVERY:
                self._running = {str(key) for keys in self._client.processing().values() for key in keys}
                self._asked = time.monotonic()
            if future.status == "pending":
                return "running" if future.key in self._running else "waiting"
            if future.status == "error":
                return f"{type(future.exception()).__name__}: {future.exception()}"
            code, result, log = future.result()
        except (OSError, CancelledError):
            raise NanoMLError(f"the scheduler {self._client.scheduler.address} does not answer any more") from None
        if result is not None:
            write_text(f"results/{name}.json", result.decode())
            with open(f"logs/{name}.log", "ab") as file:
                file.write(log)
        return str(code)


def _do(
    name: str,
    command: Sequence[str],
    directory: str,
    files: Optional[Mapping[str, bytes]],
    archives: Mapping[str, bytes],
) -> tuple[int, Optional[bytes], Optional[bytes]]:
    """Do a job, as long as the worker lives and its task is wanted; exit code, and result and log if its files came with it."""
    worker = importlib.import_module("distributed").get_worker()
    key, own = worker.get_current_task(), os.path.dirname(sys.executable)
    place = Path(directory if files is None else tempfile.mkdtemp(dir=worker.local_directory))
    if not place.is_dir():
        raise FileNotFoundError(f"worker {worker.address} does not see {place}: say by batch.site what it sees")
    try:
        environment = {**os.environ, "NANOML_BATCH_ID": key, "PATH": f"{own}:{os.environ.get('PATH', os.defpath)}"}
        for path, content in {**(files or {}), **(archives or {})}.items():
            (place / path).parent.mkdir(exist_ok=True)
            (place / path).touch(mode=0o600)
            (place / path).write_bytes(content)
            environment.update({"X509_USER_PROXY": str(place / path)} if path == "proxy" else {})
        (place / "logs").mkdir(exist_ok=True)
        heir = functools.partial(ctypes.CDLL(None).prctl, 1, signal.SIGTERM) if sys.platform == "linux" else None
        with open(place / "logs" / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=heir
            )
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_EVERY)
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing":
                process.terminate()
                process.wait()
        if files is None:
            return process.returncode, None, None
        result, printed = ((place / it).read_bytes() for it in (f"results/{name}.json", f"logs/{name}.log"))
        return process.returncode, result, printed[-_LOG:]
    finally:
        if files is not None:  # also on a full disk: proxy and token must not stay
            shutil.rmtree(place, ignore_errors=True)
