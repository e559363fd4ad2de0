"""The corrections of one era, as a YAML file names them: `corrections/2018.yaml`; and where the files that it names are.

They are beside the YAML file, in a directory of the user, on CVMFS, or in the network.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from MLTools.NanoML import extending
from MLTools.NanoML.atomic import cache_directory, replacing, write_text
from MLTools.NanoML.corrections.entries import Entry
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.errors import ConfigError, explain_os_error
from MLTools.NanoML.extending import entries, loaded
from MLTools.NanoML.rootio.remote.file import RemoteFile
from MLTools.NanoML.rootio.remote.server import is_remote, is_xrootd, on_cvmfs
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import build
from MLTools.NanoML.schema.settings import checked, json_schema

CVMFS = (
    "/cvmfs/cms-griddata.cern.ch/cat/metadata",
    "/cvmfs/cms.cern.ch/rsync/cms-nanoAOD/jsonpog-integration",
    "/cvmfs/cms.cern.ch/rsync/cms-nanoAOD/jsonpog-integration/POG",
)
"""Where CMS keeps the files of its object groups."""

VARIABLE = "NANOML_CORRECTIONS"
"""The environment variable with a directory of files of corrections."""


def local_files(path: Path) -> list[Path]:
    """The files that the YAML file of an era names and that are only here: neither on CVMFS nor in the network."""
    entries = Document.read(path).data
    every = entries.values() if isinstance(entries, dict) else ()
    names = [entry.get("file") for entry in every if isinstance(entry, dict)]
    found = [_found(name, path.parent) for name in names if isinstance(name, str) and not is_remote(name)]
    return list(dict.fromkeys(file for file in found if file is not None and not on_cvmfs(file)))


def own_directory() -> str:
    """The directory in the environment variable NANOML_CORRECTIONS, absolute; empty if it is not set."""
    text = os.environ.get(VARIABLE)
    return os.path.abspath(text) if text else ""


def find_file(name: str, base: Path, place: str) -> Path:
    """A file of corrections; `place` is where its name stands. Raises ConfigError if there is no such file.

    The name is a URL, or a path relative to `base`, to the directory in the environment variable NANOML_CORRECTIONS, or to one of CMS's
    directories on CVMFS.
    """
    if is_remote(name):
        return _downloaded(name)
    found = _found(name, base)
    if found is None:
        below = next((os.path.relpath(name, root) for root in CVMFS if name.startswith(f"{root}/")), None)
        if below is not None:
            raise ConfigError(
                f"{place}: there is no file {name}. Where CVMFS is not mounted, write {below}, and copy it into a directory that the "
                f"environment variable {VARIABLE} names."
            )
        for beginning, maker in entries("makers").items():
            if Path(name).name.startswith(beginning):
                raise ConfigError(f"{place}: there is no file {name} yet: {loaded(maker)}.")
        raise ConfigError(
            f"{place}: there is no file {name} in {', '.join(map(str, _roots(base)))}. Where CVMFS is not mounted, copy the files, "
            f"and name their directory in the environment variable {VARIABLE}."
        )
    return found


def _roots(base: Path) -> list[Path]:
    return [base, *map(Path, filter(None, (own_directory(), *CVMFS)))]


def _found(name: str, base: Path) -> Path | None:
    paths = (root / os.path.expanduser(name) for root in _roots(base))
    return next((path for path in paths if path.is_file()), None)


def _downloaded(url: str) -> Path:
    """A copy of a file of the network, which stays in the cache."""
    target = cache_directory() / "corrections" / url.replace("://", "/").lstrip("/")
    if target.is_file():
        return target
    with replacing(target) as aside:
        if is_xrootd(url):
            with RemoteFile(url) as file:
                file.copy(aside)
        else:
            try:
                with urllib.request.urlopen(url, timeout=60) as answer, aside.open("wb") as output:
                    shutil.copyfileobj(answer, output)
            except (OSError, ValueError) as problem:
                raise explain_os_error(problem, url, "download") from None
    return target


OBJECTS = {
    "b_tags": "MLTools.NanoML.corrections.jet_id:BTagEntry",
    "jets": "MLTools.NanoML.corrections.entries:JetEntry",
    "fat_jets": "MLTools.NanoML.corrections.fat_jets:FatJetEntry",
    "electrons": "MLTools.NanoML.corrections.electrons:ElectronEntry",
    "legs": "MLTools.NanoML.corrections.triggers:LegsEntry",
    "met_xy": "MLTools.NanoML.corrections.xy:XYEntry",
    "muons": "MLTools.NanoML.corrections.muons:MuonEntry",
    "photons": "MLTools.NanoML.corrections.photons:PhotonEntry",
    "rochester": "MLTools.NanoML.corrections.rochester:RochesterEntry",
    "taus": "MLTools.NanoML.corrections.taus:TauEntry",
}
"""The entries of objects, by their names in the YAML file; `legs` are all whose names end in `_legs`."""

PINNED = "sha256"
"""The key that is no entry: the SHA-256 of files, by their names."""


def kind_of(key: str) -> type[Entry]:
    """The kind of an entry, by its name."""
    module, _, name = OBJECTS.get("legs" if key.endswith("_legs") else key, "").partition(":")
    kind: type[Entry] = getattr(importlib.import_module(module), name) if module else Entry
    return kind


class Corrections:
    """The corrections of one era.

    `corrections.muon_id(eta, pt)` evaluates the entry `muon_id` for arrays of any shape, with its variations, and returns a
    `Factor`. The entry `jets` is a `JetCorrections`, `electrons` an `ElectronCorrections`, `muons` a `MuonCorrections`.

    Attributes
    ----------
    path
        The YAML file.
    digests
        SHA-256 of each file of corrections, by its name in the YAML file.
    files
        Paths of these files; the URL of one that is in the network.

    Examples
    --------
    >>> c = Corrections.read("examples/corrections/2018.yaml")
    >>> weight = c.muon_id([0.5], [60.0])
    >>> [float(weight[name].round(3)[0]) for name in ("nominal", "up", "down")]
    [0.994, 1.001, 0.987]
    """

    def __init__(self, path: Path, entries: Mapping[str, object], opened: Mapping[str, CorrectionFile]) -> None:
        self.path, self._entries = path, entries
        self.digests = {name: file.digest for name, file in opened.items()}
        self.files = [name if is_remote(name) else str(file.path) for name, file in opened.items()]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Corrections:
        """Read the YAML file of an era, and the files that it names.

        Raises
        ------
        ConfigError
            A file cannot be read or found, or has no such correction; the message has the line.
        """
        document = Document.read(path)
        keys = map(str, document.data) if isinstance(document.data, dict) else ()
        schema = {
            "type": "object",
            "properties": {
                **{key: json_schema(kind_of(key)) for key in keys},
                PINNED: {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "additionalProperties": json_schema(Entry),
        }
        entries: dict[str, object] = {}
        opened: dict[str, CorrectionFile] = {}
        content = checked(document, schema)
        pinned = content.pop(PINNED, {})
        for key, data in content.items():
            kind = kind_of(key)
            entry = build(kind, data)
            place = f"{document.where(key)}: {key}"
            try:
                file = _open(getattr(kind, "opens", CorrectionFile), find_file(entry.file, Path(path).parent, place))
                entries[key] = entry.found_in(file, place)
            except ConfigError as problem:
                text = str(problem)
                raise ConfigError(text if text.startswith(place) else f"{place}: {text}") from None
            opened[entry.file] = file
            if pinned.get(entry.file, file.digest) != file.digest:
                ways = map(extending.loaded, extending.entries("changes of corrections").values())
                raise ConfigError(
                    f"{document.where(PINNED, entry.file)}: {entry.file} has changed: its SHA-256 is {file.digest}. Take the old file, "
                    f"or {' '.join(['see', *ways])} what the change is, and write this SHA-256 here."
                )
        return cls(Path(path), entries, opened)

    @property
    def names(self) -> list[str]:
        """The entries."""
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._entries:
            raise ConfigError(
                f"{self.path}: has no corrections named {name}.{did_you_mean(name, self.names)} "
                f"It has: {', '.join(self.names) or 'none'}."
            )
        return self._entries[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._entries})


def write_flat(path: Path, directory: Path, name: str) -> list[str]:
    """Write the YAML file of an era as `name` into a directory, with copies of the files that are only here.

    Those on CVMFS and in the network are read where they are. Returns the names of what was written.
    """
    document, written = Document.read(path), [name]
    content = {key: dict(entry) for key, entry in document.data.items()}
    pinned = content.pop(PINNED, {})
    for number, (key, entry) in enumerate(content.items()):
        file = find_file(entry["file"], path.parent, f"{document.where(key)}: {key}")
        if is_remote(entry["file"]) or on_cvmfs(file):
            continue
        old, entry["file"] = entry["file"], f"corrections_{number}_{file.name}"
        pinned.update({entry["file"]: pinned[old]} if old in pinned else {})
        with replacing(directory / entry["file"]) as aside:
            shutil.copy(file, aside)
        written.append(entry["file"])
    content.update({PINNED: pinned} if pinned else {})
    write_text(directory / name, json.dumps(content, indent=1) + "\n")  # JSON is YAML
    return written


@functools.lru_cache(maxsize=8)
def read_once(path: str) -> Corrections:
    """`Corrections.read`, of which the result is kept: a selection asks for it again with each chunk of events."""
    return Corrections.read(path)


@functools.lru_cache(maxsize=32)
def _open(kind: type[CorrectionFile], path: Path) -> CorrectionFile:
    return kind(path)
