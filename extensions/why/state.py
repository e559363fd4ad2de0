"""A state of an analysis: its settings, the files that these need, its events and networks; and the changes from one to another."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.data import FROM_WHERE
from MLTools.NanoML.config.fit import as_list
from MLTools.NanoML.config.load import load
from MLTools.NanoML.dependencies import files_behind, is_our_file
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.loading import file_of
from MLTools.NanoML.model.file import twin_of
from MLTools.NanoML.observing import FILE, state
from MLTools.NanoML.parallel import RECORDS, begin_worker, worker_pool
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.schema.document import Key, dotted
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from MLTools.NanoML.workflow.records import Records, short
from MLTools.NanoML.workflow.task import Record, Stamp

NETWORK = ("convert", "train")
"""The sections that make a network: they are one change."""
READER = "data_processing.histograms.stage"
"""The module that processes have in common: it takes longest to import."""
_IDLE = ("workdir", "energy", "read", "tune", "evaluate", "export", "style", "batch")
"""The sections that move nothing that is expected."""
_ORDER = (
    "corrections",
    "eras",
    "luminosity",
    "skim",
    "datasets",
    "data_driven",
    "regions",
    *NETWORK,
    "score",
    "histogram",
)
_FARTHEST = 3  # directories above that of the YAML file
GONE = "What was there before is no longer there: take git's copy of it (git worktree add DIRECTORY COMMIT), or a copy of the directory"


@dataclass(frozen=True)
class State:
    """A state of an analysis.

    Attributes
    ----------
    config, settings
        The configuration, and the content of its YAML file.
    files
        Code, corrections and tables of the user, by their paths relative to the YAML file.
    events
        The files of each dataset.
    version
        The version of NanoML that made its results; None if it has none.
    has_networks
        Whether it has networks that were trained by its settings.
    """

    config: Config
    settings: Mapping[str, Any]
    files: Mapping[str, Path]
    events: Mapping[str, Sequence[str]]
    version: Optional[str] = None
    has_networks: bool = False

    @classmethod
    def read(cls, path: Path) -> State:
        """The state in a YAML file; an error if a file that it needs is not there."""
        config = load(path)
        if not config.datasets or (config.train is None and config.score is None):
            raise ConfigError(f"{path}: has no datasets, or neither `train` nor `score`: nothing is expected from it.")
        version, observed = _records(Layout.of(config).workdir)
        try:
            files = {os.path.relpath(it, config.base): it for it in _files(config, observed)}
        except NanoMLError as problem:
            raise NanoMLError(f"{path}: {problem} {GONE}.") from None
        near = {key: it for key, it in files.items() if key.split("/").count("..") <= _FARTHEST}
        with worker_pool(1, READER, begin_worker) as pool:  # another state may have modules of the same name
            has_networks = version is not None and pool.submit(_has_networks, path).result()
        return cls(config, _settings(config), near, Analysis(config).files, version, has_networks)

    @property
    def models(self) -> list[Path]:
        """The networks that it trained, with what describes them; none if it has none that are its own."""
        if not self.has_networks:
            return []
        models = (Layout.of(self.config).model(era) for era in self.config.trainings)
        found = [path for model in models for path in (model, twin_of(model))]
        return found if all(path.exists() for path in found) else []


def _has_networks(path: Path) -> bool:
    """Whether its networks have the settings of now, whatever code and events they are from."""
    config = load(path)
    records = Records(Layout.of(config).workdir / RECORDS, config.base)
    tasks = [it for stage in pipeline_stages(config, ("train", "export")) for it in stage.tasks]
    done = [(records.read(it), records.settings(it)[0]) for it in tasks]
    return all(record is not None and record.settings == now for record, now in done)


def _settings(config: Config) -> dict[str, Any]:
    """The content of the YAML file, where models and HDF5 files have paths that hold everywhere."""
    settings = {key: it for key, it in config.document.data.items() if it is not None and not key.startswith("x-")}
    for section, key in (("score", "model"), ("score", "files"), ("train", "files")):
        if settings.get(section, {}).get(key):
            paths = [str(config.path(it)) for it in as_list(settings[section][key])]
            settings[section] = {**settings[section], key: paths}
    return settings


def _records(workdir: Path) -> tuple[Optional[str], dict[str, Optional[str]]]:
    """The version of NanoML that made skims, and what user code touched for them."""
    observed: dict[str, Optional[str]] = {}
    with suppress(OSError, ValueError):
        observed = json.loads((workdir / RECORDS / "skim.txt").read_text(encoding="utf-8").partition("\n")[0])
    for path in (workdir / RECORDS / "skim").rglob("*.json"):
        with suppress(OSError, ValueError):
            return Record.read(path).version, observed
    return None, observed


def _files(config: Config, observed: Mapping[str, Optional[str]]) -> Iterator[Path]:
    """The files of the user beside events: code, corrections, and what code opened."""
    skim, train = config.skim, config.train
    specs = [*([skim.selection] if skim and skim.selection else []), *(skim.modules if skim else ())]
    real = config.base.resolve()
    for spec in [*specs, *([str(train.model)] if train and ".py" in str(train.model) else [])]:
        for each in files_behind(file_of(spec, spec.rpartition(":")[0], config.base), only_own=True).values():
            if not is_our_file(each):
                yield config.base / os.path.relpath(each.resolve(), real)
    yield from (config.base / text for _, text in config.skim_files())
    opened = (key.partition(f"{FILE} ./")[2] for key in observed)
    yield from (config.base / name for name in opened if name and (config.base / name).is_file())


@dataclass(frozen=True)
class Change:
    """A difference between two states that can be switched alone.

    Attributes
    ----------
    kind, name, about
        "input files", "file", "code", "network" or "setting"; what it is, and how it differs.
    settings, files, dataset
        The settings, the files beside the YAML file, and the dataset with other files of events, that it switches.
    """

    kind: str
    name: str
    about: str
    settings: tuple[tuple[Key, ...], ...] = ()
    files: tuple[str, ...] = ()
    dataset: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.about}"


def changes(old: State, new: State) -> list[Change]:
    """The changes from one state to another, in the order in which they are made: that of the analysis."""
    if not {*old.settings["datasets"]} & {*new.settings["datasets"]}:
        names = (str(it.config.document.name) for it in (old, new))
        raise NanoMLError(
            f"{' and '.join(names)} have no dataset in common: these are two analyses. Name two states of one."
        )
    found = [
        Change("input files", f"files of {name}", f"{len(files)} -> {len(new.events[name])} files", dataset=name)
        for name, files in old.events.items()
        if name in new.events and not same_events(files, new.events[name])
    ]
    differing = [it for it, path in old.files.items() if it in new.files and _content(path) != _content(new.files[it])]
    code = tuple(it for it in differing if it.endswith(".py"))
    found += [Change("file", it, "another content", files=(it,)) for it in differing if it not in code]
    found += [Change("code", listed(code), "other code", files=code)] if code else []
    settings, network = [], []
    for keys, before, after in _differences(old.settings, new.settings):
        if keys[0] in NETWORK:
            network.append((keys, f"{dotted(keys)} {_from_to(before, after)}"))
        elif keys[0] not in _IDLE:
            settings.append(Change("setting", dotted(keys), _from_to(before, after), (keys,)))
    networks = [[file_hash(it) for it in state.models if it.suffix == ".onnx"] for state in (old, new)]
    if network or (all(networks) and networks[0] != networks[1]):
        about = "; ".join(text for _, text in network) or "trained again"
        settings.append(Change("network", "network", about, tuple(keys for keys, _ in network) or (("train",),)))
    rank = {name: number for number, name in enumerate(_ORDER)}
    return [*found, *sorted(settings, key=lambda it: rank.get(str(it.settings[0][0]), len(rank)))]


def notes(old: State, new: State) -> Iterator[str]:
    """Other differences: those that move nothing that is expected, and those that cannot be switched."""
    idle = [dotted(keys) for keys, *_ in _differences(old.settings, new.settings) if keys[0] in _IDLE]
    if idle:
        yield f"what also differs moves nothing that is expected: {listed(idle)}"
    if None not in (old.version, new.version) and old.version != new.version:
        yield f"results are by NanoML {old.version} and by {new.version}: here both states are run by this version"


def _content(path: Path) -> Optional[str]:
    return state(f"{FILE} {path}")


def _version(path: str) -> tuple[object, ...]:
    if is_remote(path):
        return (path,)
    found = Stamp.of(path).as_recorded()
    return os.path.basename(path), found.size, found.content or found.modified


def same_events(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether two lists of files of events are the same files, maybe elsewhere."""
    return list(old) == list(new) or sorted(map(_version, old), key=str) == sorted(map(_version, new), key=str)


def _differences(old: Any, new: Any, keys: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Any, Any]]:
    """The settings that differ, but for those that say where events are read; what only one has, as a whole."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            if len(keys) != 2 or keys[0] != "datasets" or key not in FROM_WHERE:
                yield from _differences(old.get(key), new.get(key), (*keys, key))
    elif old != new:
        yield keys, old, new


def _from_to(before: Any, after: Any) -> str:
    if before is None or after is None:
        return f"new: {short(after)}" if before is None else f"removed: {short(before)}"
    return f"{short(before)} -> {short(after)}"
