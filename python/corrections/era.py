"""The corrections of one era, as a YAML file names them: `corrections/2018.yaml`."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import replacing, write_text
from MLTools.NanoML.corrections.entries import OBJECTS, Entry
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.corrections.files import find_file
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio.remote.server import is_remote, on_cvmfs
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import build
from MLTools.NanoML.schema.settings import checked, json_schema


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
    """

    def __init__(self, path: Path, entries: Mapping[str, Any], opened: Mapping[str, CorrectionFile]) -> None:
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
        schema = {
            "type": "object",
            "properties": {key: json_schema(kind) for key, kind in OBJECTS.items()},
            "additionalProperties": json_schema(Entry),
        }
        entries: dict[str, Any] = {}
        opened: dict[str, CorrectionFile] = {}
        for key, data in checked(document, schema).items():
            entry: Any = build(OBJECTS.get(key, Entry), data)
            place = f"{document.where(key)}: {key}"
            file = _open(find_file(entry.file, Path(path).parent, place))
            opened[entry.file] = file
            try:
                entries[key] = entry.found_in(file, place)
            except ConfigError as problem:
                text = str(problem)
                raise ConfigError(text if text.startswith(place) else f"{place}: {text}") from None
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
    for number, (key, entry) in enumerate(content.items()):
        file = find_file(entry["file"], path.parent, f"{document.where(key)}: {key}")
        if is_remote(entry["file"]) or on_cvmfs(file):
            continue
        entry["file"] = f"corrections_{number}_{file.name}"
        with replacing(directory / entry["file"]) as aside:
            shutil.copy(file, aside)
        written.append(entry["file"])
    write_text(directory / name, json.dumps(content, indent=1) + "\n")  # JSON is YAML
    return written


@functools.lru_cache(maxsize=8)
def read_once(path: str) -> Corrections:
    """`Corrections.read`, of which the result is kept: a selection asks for it again with each chunk of events."""
    return Corrections.read(path)


@functools.lru_cache(maxsize=32)
def _open(path: Path) -> CorrectionFile:
    return CorrectionFile(path)
