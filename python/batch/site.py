"""What is special at a place where jobs run: a YAML file, which a user may write for a cluster of their own."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from MLTools.NanoML.batch.resources import duration
from MLTools.NanoML.config.batch import ENVIRONMENTS, SYSTEMS, TIME
from MLTools.NanoML.config.document import Document
from MLTools.NanoML.config.schema import json_schema, parse
from MLTools.NanoML.errors import ConfigError

__all__ = ["Site", "load_site"]

_FOLDER = Path(__file__).parent / "sites"


@dataclass(frozen=True)
class Site:
    """A place where jobs run."""

    on: Optional[str] = field(
        default=None, metadata={"doc": "The batch system, if the analysis does not say it.", "enum": SYSTEMS}
    )
    shared: bool = field(
        default=True,
        metadata={"doc": "Whether workers see the same files as the machine that jobs are submitted from."},
    )
    environment: str = field(
        default="here",
        metadata={"doc": "As batch.environment, if the analysis does not say it.", "enum": ENVIRONMENTS},
    )
    storage: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "doc": "Regular expressions of the beginnings of paths, and the URLs by which workers reach these files."
        },
    )
    not_from: dict[str, str] = field(
        default_factory=dict,
        metadata={"doc": "Beginnings of paths from which jobs cannot be submitted, and why."},
    )
    flavours: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "doc": "Queues (CERN's job flavours) and the longest time that each allows, shortest first.",
            "items": TIME,
        },
    )
    setup: list[str] = field(
        default_factory=list, metadata={"doc": "Lines of shell that a job runs first, before those of batch."}
    )
    lines: list[str] = field(
        default_factory=list, metadata={"doc": "Lines for the description of jobs, before those of batch."}
    )
    name: str = field(default="", metadata={"hidden": True})

    def flavour(self, time: int) -> Optional[str]:
        """The shortest queue that allows so many seconds; None where there are none.

        Raises
        ------
        ConfigError
            None is long enough.
        """
        for flavour, longest in self.flavours.items():
            if time <= duration(longest):
                return flavour
        if self.flavours:
            longest = list(self.flavours.values())[-1]
            raise ConfigError(
                f"site {self.name}: no queue allows {time} s, the longest {longest}: lower batch.time or batch.job_time."
            )
        return None


def load_site(name: Optional[str], base: Path) -> Site:
    """The site of this name, or that of a YAML file.

    Parameters
    ----------
    name
        "cern", "shared", or the path of a file; None to tell by the name of this machine.
    base
        Directory that the path is relative to.

    Raises
    ------
    ConfigError
        There is no such site, or its file is wrong.
    """
    if name is None:
        name = "cern" if socket.getfqdn().endswith(".cern.ch") else "shared"
    shipped = _FOLDER / f"{name}.yaml"
    own = base / name
    if "/" in name or name.endswith((".yaml", ".yml")) or not shipped.is_file():
        if not own.is_file():
            known = ", ".join(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
            raise ConfigError(f'batch.site: "{name}" is no site, and no YAML file in {base}. Known: {known}.')
        shipped = own
    document = Document.read(shipped)
    site = parse(Site, document, json_schema(Site))
    problems = [(("storage", pattern), why) for pattern, why in _bad_patterns(site.storage)]
    if problems:
        raise document.error(problems)
    return replace(site, name=Path(name).stem)


def _bad_patterns(storage: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for pattern, url in storage.items():
        try:
            # a pattern that matches anything has the same groups
            found = re.compile(f"(?:{pattern})?").match("")
            assert found is not None
            found.expand(url)
        except (re.error, IndexError) as problem:
            yield pattern, f"is no regular expression, or its URL names a group that it has not: {problem}"
