"""Checks a configuration against the real files, before any long work starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_processing.datasets.datasets import resolve_datasets
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import plan_file
from data_processing.skim.stage import skim_settings
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.document import Key
from MLTools.NanoML.contracts.hdf5 import RESERVED
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.remote.client import adopt_settings
from MLTools.NanoML.rootio.rootfile import RootFile

_MOST_TRIED = 3  # files of a dataset


@dataclass(frozen=True)
class _Columns:
    """The branches that conversion will find, and where they come from."""

    dataset: str
    file: str
    place: str
    branches: Mapping[str, Branch]


def check(config: Config) -> list[str]:
    """Check branches, features and objects against the first file of each dataset.

    Returns
    -------
    What was checked, a sentence for each dataset.

    Raises
    ------
    ConfigError
        All that is missing, one per line.
    """
    adopt_settings(config.read)
    done = []
    problems: list[str] = []
    for name, files in resolve_datasets(config).items():
        with _first(files) as file:
            try:
                columns = _columns(config, name, file)
                problems += _missing(config, columns)
                done.append(
                    f"{name}: {len(files)} files; {file.path} has {file.entries} events, {len(file.branches)} branches"
                )
            except ConfigError:
                raise
            except NanoMLError as problem:
                problems.append(f"{config.where('skim')}: {problem}")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return done


def _first(files: Sequence[str]) -> RootFile:
    """The first file that can be read; others are reported by the stage that reads them."""
    problems: list[UnreadableError] = []
    for file in files[:_MOST_TRIED]:
        try:
            return RootFile(file)
        except UnreadableError as problem:
            problems.append(problem)
    raise problems[0]


def _columns(config: Config, dataset: str, file: RootFile) -> _Columns:
    if config.skim is None:
        return _Columns(dataset, file.path, "file", file.branches)
    job = SkimJob(file.path, Path(), base=str(config.base), **skim_settings(config.skim))
    return _Columns(dataset, file.path, "skim", plan_file(job, file).written)


def _missing(config: Config, columns: _Columns) -> list[str]:
    if config.convert is None:
        return []
    problems = []
    for number, feature in enumerate(config.convert.features):
        actual = versions.resolve(feature, columns.branches)
        if feature in RESERVED:
            message = f"{feature} cannot be a feature: every file has it anyway, and a network must not learn from it"
            problems.append(str(config.error("convert", "features", number, message=message)))
        elif actual is None:
            problems.append(_absent(config, columns, ("convert", "features", number), feature, columns.branches))
        elif columns.branches[actual].shape not in ("flat", "fixed"):
            message = (
                f"{feature} is a list of objects in each event, not one number: give its collection in convert.objects"
            )
            problems.append(str(config.error("convert", "features", number, message=message)))
    for collection, objects in config.convert.objects.items():
        members = {b.field for b in columns.branches.values() if b.is_jagged and b.collection == collection}
        if not members:
            known = {branch.collection for branch in columns.branches.values() if branch.collection}
            problems.append(_absent(config, columns, ("convert", "objects", collection), collection, known))
            continue
        wanted = [*objects.fields, *([objects.order.lstrip("-")] if objects.order else [])]
        keys = ("convert", "objects", collection)
        problems += [
            _absent(config, columns, keys, f"{collection}_{field}", columns.branches)
            for field in wanted
            if field not in members
        ]
    return problems


def _absent(config: Config, columns: _Columns, keys: tuple[Key, ...], name: str, known: Collection[str]) -> str:
    where = f"is in no {columns.place} of dataset {columns.dataset} (first file: {columns.file})."
    hint = versions.did_you_mean(name, known)
    if not hint and columns.place == "skim":
        hint = " A branch of the input must be listed in skim.keep."
    return str(config.error(*keys, message=f'"{name}" {where}{hint}'.rstrip(".")))
