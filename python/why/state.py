"""A state of an analysis: its settings, the files that these need, its events and networks; and the changes from one to another."""

from __future__ import annotations

import copy
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.data import FROM_WHERE
from MLTools.NanoML.config.load import load
from MLTools.NanoML.dependencies import files_behind, is_our_file
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.loading import file_of
from MLTools.NanoML.model.file import twin_of
from MLTools.NanoML.observe import FILE, VARIABLE, state
from MLTools.NanoML.parallel import RECORDS, begin_worker, worker_pool
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.schema.document import Key, dotted
from MLTools.NanoML.stages import NAMES
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from MLTools.NanoML.workflow.record import Record, Records, short
from MLTools.NanoML.workflow.runner import plan

NETWORK = ("convert", "train", "export")
"""The sections that make a network: they are one change."""
READER = "data_processing.histograms.stage"
"""The module that processes have in common: it takes longest to import."""
_IDLE = ("workdir", "energy", "read", "tune", "evaluate", "style", "blind", "batch")
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
_LARGE = 1 << 26  # bytes of a file of events, which is not hashed: as in records
_FARTHEST = 3  # directories above that of the YAML file
_GONE = (
    "What was there before is no longer there: take git's copy of it (git worktree add DIRECTORY COMMIT), or a copy of "
    "the directory, and name its YAML file as OLD"
)


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
    version, variables
        The version of NanoML and the environment variables that made its results; none if it has none.
    has_networks, is_done
        Whether it has networks that were trained by its settings, and whether all of its results are up to date.
    """

    config: Config
    settings: Mapping[str, Any]
    files: Mapping[str, Path]
    events: Mapping[str, Sequence[str]]
    version: Optional[str] = None
    variables: Mapping[str, Optional[str]] = field(default_factory=dict)
    has_networks: bool = False
    is_done: bool = False

    @classmethod
    def read(cls, path: Path) -> State:
        """The state in a YAML file; an error if a file that it needs is not there."""
        config = load(path)
        if not config.datasets or (config.train is None and config.score is None):
            raise ConfigError(f"{path}: has no datasets, or neither `train` nor `score`: nothing is expected from it.")
        version, observed = _records(Layout.of(config).workdir)
        files = {os.path.relpath(it, config.base): Path(it) for it in _files(config, observed)}
        missing = [str(it) for it in files.values() if not it.is_file()]
        if missing:
            raise NanoMLError(f"{listed(missing, 3)}: no such file, but {path} needs it. {_GONE}.")
        variables = {key.partition(" ")[2]: it for key, it in observed.items() if key.startswith(VARIABLE)}
        near = {key: it for key, it in files.items() if key.split("/").count("..") <= _FARTHEST}
        with worker_pool(1, READER, begin_worker) as pool:  # another state may have modules of the same name
            made = pool.submit(_made, path).result() if version else (False, False)
        return cls(config, _settings(config), near, Analysis(config).files, version, variables, *made)

    @property
    def models(self) -> list[Path]:
        """The networks that it trained, with what describes them; none if it has none that are its own."""
        if not self.has_networks:
            return []
        models = (Layout.of(self.config).model(era) for era in self.config.trainings)
        found = [path for model in models for path in (model, twin_of(model))]
        return found if all(path.exists() for path in found) else []


def _made(path: Path) -> tuple[bool, bool]:
    """Whether its networks have the settings of now, whatever code and events they are from; and whether all results are up to date."""
    config = load(path)
    workdir = Layout.of(config).workdir
    records = Records(workdir / RECORDS, config.base)
    networks = [it for stage in pipeline_stages(config, ("train", "export")) for it in stage.tasks]
    done = [(records.read(it), records.settings(it)[0]) for it in networks]
    is_current = all(record is not None and record.settings == now for record, now in done)
    todo = plan(pipeline_stages(config, NAMES), workdir, base=config.base)
    return is_current, not any(it.reasons for it in todo if it.stage.name not in ("evaluate", "draw"))


def _settings(config: Config) -> dict[str, Any]:
    """The content of the YAML file, with the name of the model, and paths of models and HDF5 files that hold everywhere."""
    settings: dict[str, Any] = copy.deepcopy(config.document.data)
    settings = {key: it for key, it in settings.items() if it is not None and not key.startswith("x-")}

    def absolute(value: Any) -> Any:
        if isinstance(value, (dict, list)):
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            made = {key: absolute(it) for key, it in entries}
            return made if isinstance(value, dict) else list(made.values())
        is_file = (
            isinstance(value, str) and value.endswith((".onnx", ".h5", ".pt")) and glob.glob(str(config.path(value)))
        )
        return str(config.path(value)) if is_file else value

    settings.update((key, absolute(settings[key])) for key in ("score", "train") if key in settings)
    if config.train is not None:
        settings["export"] = {**settings.get("export", {}), "name": Layout.of(config).name}
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


def _files(config: Config, observed: Mapping[str, Optional[str]]) -> Iterator[str]:
    """The files of the user beside events: code, what it opened, corrections."""
    skim, train = config.skim, config.train
    specs = [*([skim.selection] if skim and skim.selection else []), *(skim.modules if skim else ())]
    for spec in [*specs, *([str(train.model)] if train and ".py" in str(train.model) else [])]:
        try:
            path = file_of(spec, spec.rpartition(":")[0], config.base)
        except ConfigError as problem:
            raise NanoMLError(f"{config.document.name}: {problem} {_GONE}.") from None
        for each in files_behind(path, only_own=True).values():
            if not is_our_file(each):
                yield str(
                    each
                    if config.base not in path.parents
                    else config.base / os.path.relpath(each, config.base.resolve())
                )
    yield from (str(config.base / text) for _, text in config.skim_files())
    for key in observed:
        kind, _, name = key.partition(" ")
        if kind == FILE and name.startswith("./") and (config.base / name).exists():
            yield str(config.base / name[2:])


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
        Change("input files", f"files of {name}", _other_files(old.events[name], new.events[name]), dataset=name)
        for name in old.events
        if name in new.events and not same_events(old.events[name], new.events[name])
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
        about = "; ".join(text for _, text in network if not text.startswith("export.name")) or "trained again"
        settings.append(Change("network", "network", about, tuple(keys for keys, _ in network) or (("train",),)))
    rank = {name: number for number, name in enumerate(_ORDER)}
    return [*found, *sorted(settings, key=lambda it: rank.get(str(it.settings[0][0]), len(rank)))]


def notes(old: State, new: State) -> Iterator[str]:
    """What else differs: what moves nothing that is expected, and what cannot be switched."""
    idle = [dotted(keys) for keys, *_ in _differences(old.settings, new.settings) if keys[0] in _IDLE]
    if idle:
        yield f"{listed(idle)} differ, and move nothing that is expected"
    if None not in (old.version, new.version) and old.version != new.version:
        yield f"results are by NanoML {old.version} and by {new.version}: here both states are run by this version"
    for name in sorted({*old.variables} & {*new.variables}):
        if old.variables[name] != new.variables[name]:
            yield f"results are with another environment variable {name}: here both states are run with its value of now"


def _content(path: Path) -> Optional[str]:
    return state(f"{FILE} {path}")


def _version(path: str) -> tuple[str, ...]:
    if is_remote(path):
        return (path,)
    size = os.path.getsize(path)
    return os.path.basename(path), str(size), file_hash(path) if size <= _LARGE else str(os.stat(path).st_mtime_ns)


def same_events(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether two lists of files of events are the same files, maybe elsewhere."""
    return list(old) == list(new) or sorted(map(_version, old)) == sorted(map(_version, new))


def _other_files(old: Sequence[str], new: Sequence[str]) -> str:
    names = [{os.path.basename(it) for it in files} for files in (old, new)]
    lost, more = sorted(names[0] - names[1]), sorted(names[1] - names[0])
    parts = [f"{word} {listed(it, 3)}" for word, it in (("without", lost), ("with", more)) if it]
    return ", ".join(parts) or "another content"


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
