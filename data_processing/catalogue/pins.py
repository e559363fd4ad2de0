"""Lists of files that stay the same while an analysis goes on: WORKDIR/.nanoml/datasets/NAME.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from data_processing.catalogue.answers import FileInfo, Site
from data_processing.catalogue.catalogue import FileList
from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import RECORDS

__all__ = ["Pins"]

_SCHEMA = 1


@dataclass
class Pins:
    """What has been found for a dataset, and is not looked for again.

    Attributes
    ----------
    path
        The file.
    names
        For wildcards with their instance, the names that they stand for.
    lists
        For names of the catalogue with their instance, and for patterns on servers, the files.
    """

    path: Path
    names: dict[str, list[str]] = field(default_factory=dict)
    lists: dict[str, FileList] = field(default_factory=dict)

    @classmethod
    def of(cls, workdir: Path, dataset: str) -> Pins:
        """Those of a dataset; none if nothing was found yet.

        Raises
        ------
        NanoMLError
            The file is damaged.
        """
        pins = cls(workdir / RECORDS / "datasets" / f"{dataset}.json")
        try:
            content = json.loads(pins.path.read_text(encoding="utf-8"))
            if content["schema"] != _SCHEMA:
                raise ValueError
            pins.names = {key: [str(name) for name in names] for key, names in content["names"].items()}
            pins.lists = {key: _list(value) for key, value in content["lists"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise NanoMLError(
                f"{pins.path}: cannot be read. It has the list of files of {dataset}: bring it back from a copy, or "
                "remove it to ask the catalogue anew."
            ) from None
        return pins

    def write(self) -> None:
        """Keep them.

        Raises
        ------
        NanoMLError
            The file cannot be written.
        """
        lists = {key: _plain(value) for key, value in self.lists.items()}
        write_text(self.path, json.dumps({"schema": _SCHEMA, "names": self.names, "lists": lists}) + "\n")


def _plain(found: FileList) -> dict[str, Any]:
    sites: Optional[Sequence[Any]] = None
    if found.sites is not None:
        sites = [[site.name, site.kind, site.share] for site in found.sites]
    return {
        "date": found.date.isoformat(),
        "source": found.source,
        "invalid": found.invalid,
        "sites": sites,
        "files": [[file.name, file.events, file.size, file.adler32, file.block] for file in found.files],
    }


def _list(content: Any) -> FileList:
    sites = content["sites"]
    return FileList(
        [
            FileInfo(name, events, size, adler32, True, (), block)
            for name, events, size, adler32, block in content["files"]
        ],
        content["invalid"],
        None if sites is None else [Site(*site) for site in sites],
        datetime.fromisoformat(content["date"]),
        content["source"],
    )
