"""The data of an analysis as what they are, not as what they are called: files by their content, and all that made events of them."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.contracts import missing
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.rootio.remote.server import Url, is_xrootd
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.record import Record, Records
from MLTools.NanoML.workflow.task import Stamp, look_up

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

_NAMED = 3  # files in a message


@dataclass(frozen=True)
class DataFile:
    """A file of data: its version, and ROOT's identifier of it, which copies share."""

    dataset: str
    stamp: Stamp
    uuid: str = ""
    events: Optional[int] = None  # None if it cannot be read

    @classmethod
    def of(cls, dataset: str, path: str, records: Records) -> DataFile:
        """A file as it is now."""
        from MLTools.NanoML.rootio.rootfile import RootFile  # most runs open none

        stamp, uuid, events = Stamp(path), "", None
        with suppress(OSError, NanoMLError):  # reported by the stage that reads it
            stamp = Stamp.of(path).as_recorded()
            with RootFile(path) as file:
                uuid, events = file.uuid, file.entries
        return cls(dataset, replace(stamp, path=records.relative(path)), uuid, events)

    @property
    def name(self) -> tuple[str, str]:
        """Its dataset, and its path; or its logical name, whichever server has it."""
        path = self.stamp.path
        return self.dataset, (is_xrootd(path) and Url.parse(path.partition("|")[0]).logical_name) or path

    @property
    def content(self) -> tuple[str, str]:
        """Its dataset, and by what copies are found."""
        return self.dataset, self.uuid or self.stamp.content or ""

    def is_copy_of(self, other: DataFile) -> bool:
        """Whether both have the same content, as far as that is known."""
        pairs = [(getattr(self.stamp, it), getattr(other.stamp, it)) for it in ("size", "content")]
        is_same = (self.content, self.events) == (other.content, other.events) and self.content[1] != ""
        return is_same and all(None in pair or pair[0] == pair[1] for pair in pairs)


@dataclass(frozen=True)
class Data:
    """The data of an era: all files that are read, and what user code touched when it skimmed them, as records have it."""

    files: tuple[DataFile, ...] = ()
    touched: dict[str, Optional[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Mapping[str, Sequence[str]], records: Records) -> Data:
        """The data that are read now; `files` are those of each dataset."""
        output_names = import_part("data_processing.datasets.datasets").output_names
        found, touched = list[DataFile](), set[str]()
        for dataset, paths in files.items():
            found += (DataFile.of(dataset, path, records) for path in paths)
            for stage, name in itertools.product(("skim", "score"), output_names([*paths], ".json").values()):
                with suppress(OSError, ValueError):
                    touched.update(Record.read(records.directory / stage / dataset / name).observed)
        return cls(tuple(found), {it: records.state(it) for it in sorted(touched)})

    def __str__(self) -> str:
        counts = Counter(it.dataset for it in self.files).items()
        return ", ".join(f"{name} ({count} file{'s' * (count > 1)})" for name, count in counts)

    def changes(self, files: Mapping[str, Sequence[str]], records: Records) -> list[str]:
        """What is not as it was, in words: files that are new, gone or have another content, and what user code touches.

        A file may have another name: one that is not found by name and version is opened, unless others are known to be new.
        """
        named, moved = {it.name: it for it in self.files}, dict[tuple[str, str], str]()
        for dataset, path in ((dataset, path) for dataset, paths in files.items() for path in paths):
            name = DataFile(dataset, Stamp(records.relative(path))).name
            with suppress(OSError):  # reported by the stage that reads it
                if name in named and named[name].stamp.is_at(path):
                    del named[name]
                    continue
            moved[name] = path
        left = {it.content: it for it in named.values()}
        for name, path in [*moved.items()]:
            it = DataFile.of(name[0], path, records)
            if it.content not in left or not it.is_copy_of(left[it.content]):
                break
            del left[it.content], moved[name]
        changed = dict.fromkeys(name[1].removeprefix("./") for name in (*moved, *(it.name for it in left.values())))
        states = (
            it.partition(" ")[2].removeprefix("./") for it, was in self.touched.items() if records.state(it) != was
        )
        return [f"the data ({listed(changed, _NAMED)})"] * bool(changed) + [*states]


class DataNow:
    """The data of each era as they are now, compared with what is known of some earlier time.

    Attributes
    ----------
    known
        Earlier data, by a name for each.
    left_out
        The files that cannot be read, by dataset; by default those that are noted in the work directory.
    """

    def __init__(
        self, config: Config, known: Mapping[str, Data], left_out: Optional[Mapping[str, Sequence[Missing]]] = None
    ) -> None:
        self.known, self._config, self._left_out = known, config, left_out
        self._records = Records(Layout.of(config).workdir / RECORDS, config.base)
        self._changes: dict[tuple[Optional[str], str], list[str]] = {}

    @functools.cached_property
    def _files(self) -> dict[str, list[str]]:
        of_data = {name: it for name, it in self._config.datasets.items() if it.is_data}  # simulation may be gone
        config = replace(self._config, datasets=of_data)
        found = import_part("data_processing.datasets.datasets").resolve_datasets(config)
        gone = missing.read(self._records.directory.parent) if self._left_out is None else self._left_out
        lost = {(name, it.file) for name, each in gone.items() for it in each}
        data = {name: [it for it in found[name] if (name, it) not in lost] for name in found}
        look_up(path for paths in data.values() for path in paths)
        return data

    def files(self, era: Optional[str]) -> dict[str, list[str]]:
        """The files of data of an era, by dataset."""
        return {name: self._files[name] for name, it in self._config.datasets.items() if it.is_data and it.era == era}

    def of(self, era: Optional[str]) -> Data:
        """The data of an era."""
        return Data.of(self.files(era), self._records)

    def changes(self, era: Optional[str], name: str) -> list[str]:
        """What is not as in some known data, in words."""
        if (era, name) not in self._changes:
            self._changes[era, name] = self.known.get(name, Data()).changes(self.files(era), self._records)
        return self._changes[era, name]
