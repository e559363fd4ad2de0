"""Which data may be seen: what the configuration says, and the log of who unblinded what, for what is as it was then.

Data are what they are, not what they are called: files by their content, and all that made events of them.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import itertools
import json
import os
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.atomic import file_hash, write_json
from MLTools.NanoML.config.analysis import signal_of, unbinned_channels
from MLTools.NanoML.config.fit import EVERYWHERE, NONE, Blind
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.contracts.blinding import BlindBins, Opened, Place, Unblinding, in_words
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.rootio.remote.server import Url, is_xrootd
from MLTools.NanoML.schema.plain import build, plain
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.terminal.progress import say_once
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.records import Records
from MLTools.NanoML.workflow.task import Record, Stamp, look_up

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

PAGE = "howto/fit.md"
SCHEMA = 3
_OLDER = "was written by an older NanoML, which did not note the data: all is blind again. Use `nanoml unblind`."
_DEFINED_BY = ("cut", "selection", "model")  # beside the data
_LeftOut = Optional[Mapping[str, Sequence[Missing]]]
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


@dataclass(frozen=True)
class Blinded:
    """The data that must not be looked at: those of some regions, and in others those of bins in which the signal may show.

    Attributes
    ----------
    shares
        The share of the events that may be seen in each region and era, where these are not all: 0 if it is blind.
    bins
        The blind bins of histograms, but for what is in `opened`.
    opened
        The regions and eras that are unblinded, and by whom.
    hidden
        The datasets of data, and their parts of classes, of which no message tells how many events pass a cut.
    """

    shares: Mapping[Place, float] = field(default_factory=dict)
    because: str = ""
    bins: Optional[BlindBins] = None
    opened: Mapping[Place, Unblinding] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    log: tuple[Unblinding, ...] = ()

    def in_eras(self, eras: Collection[Optional[str]]) -> dict[str, float]:
        """The share of the events of each region that may be seen in all of some eras, where these are not all."""
        regions = dict.fromkeys(region for region, era in self.shares if era in eras)
        return {it: min(self.shares.get((it, era), 1.0) for era in eras) for it in regions}

    def state(self, place: Place) -> str:
        """The blind part of a region, in words; empty if all may be seen."""
        share = self.shares.get(place)
        if share is not None:
            return f"blind, but for {100 * share:g} % of the events" if share else "blind"
        return f"blind in {self.bins}" if self.bins and place not in self.opened else ""

    def __str__(self) -> str:
        eras, names = {era for _, era in (*self.shares, *self.opened)}, []
        for (region, era), share in self.shares.items():
            is_whole = all(self.shares.get((region, it)) == share for it in eras)
            part = f" but for {100 * share:g} %" if share else ""
            names.append(in_words((region, None if is_whole else era)) + part)
        return f"data in {', '.join(dict.fromkeys(names))} are not looked at, since {self.because}"


def places_of(config: Config) -> list[Place]:
    """All regions in all eras with data; none without data."""
    named = config.blind.regions if isinstance(config.blind, Blind) else []
    regions = dict.fromkeys([*config.regions, *named]) or [EVERYWHERE]
    eras = dict.fromkeys(it.era for it in config.datasets.values() if it.is_data)
    if config.evaluate is not None and config.evaluate.data_in:  # maybe in files that are made elsewhere
        eras = eras or {None: None}
    return [(region, era) for region in regions for era in eras]


def blinded(config: Config, is_retrained: bool = False, left_out: _LeftOut = None) -> Blinded:
    """The data that must not be looked at; what networks show that are about to be trained, nobody has unblinded.

    `left_out` are the files that cannot be read, by dataset; by default those that are noted in the work directory.
    """
    log, known, problem = _log(config)
    if problem:
        say_once("unblinded", problem)
    if not isinstance(config.blind, Blind):
        return Blinded(log=tuple(log))
    named, places = config.blind.regions, places_of(config)
    shares, opened = {it: 0.0 for it in places if not named or it[0] in named}, dict[Place, Unblinding]()
    entries = [] if is_retrained else [(it, one) for it in log if not it.is_declared for one in it.opened]
    noted, now = {(one.region, one.era) for _, one in entries}, DataNow(config, known, left_out)
    closed: dict[str, list[str]] = {}
    for place, found in as_it_is(config, [it for it in places if it in noted]).items():
        mine = [(it, one) for it, one in entries if (one.region, one.era) == place]
        changes = [
            [f"the {it}" for it in _DEFINED_BY if getattr(one, it) != getattr(found, it)]
            + now.changes(one.era, one.data)
            for _, one in mine
        ]
        whole = [it for (it, _), changed in zip(mine, changes) if not changed and (place in shares or it.fraction == 1)]
        if whole:
            opened[place] = max(whole, key=lambda it: it.fraction)
            if place in shares:
                shares[place] = opened[place].fraction
        elif changes[-1]:
            text = f"blind again, since {' and '.join(changes[-1])} changed after this was {mine[-1][0]}."
            closed.setdefault(text, []).append(in_words(place))
    for text, names in closed.items():
        say_once(f"{names} {text}", f"{', '.join(names)}: {text} `nanoml unblind` shows it again.")
    shares = {place: share for place, share in shares.items() if share < 1}
    bins = _bins(config, config.blind)
    eras = {it[1] for it in places if it in shares or (bins and it not in opened)}
    hidden = {name for name, it in config.datasets.items() if it.is_data and it.era in eras}
    hidden.update(part.name for part in config.parts if part.dataset in hidden)
    because = "`blind.regions` names them" if named else "nothing says which regions are blind (blind.regions)"
    return Blinded(shares, because, bins, opened, frozenset(hidden), tuple(log))


def _bins(config: Config, blind: Blind) -> Optional[BlindBins]:
    """The bins of the classes that data are not expected to have; None if none is named, or numbers of events are not known."""
    limit, strengths = blind.signal_over_root_background, config.fit.strengths(None) if config.fit is not None else {}
    signals = [class_ for classes in strengths.values() for class_ in classes]
    simulated = [name for name in config.datasets if config.process_of(name)]
    known = all(None not in (config.cross_section_of(name), config.luminosity_of(name)) for name in simulated)
    found, is_named = signal_of(config), config.train is not None and config.train.signal is not None
    if not signals and found is not None and (config.fit is not None or is_named or found == "signal"):
        signals = [found]
    return BlindBins(signals[0], limit, tuple(signals[1:])) if known and signals and limit is not None else None


def as_it_is(config: Config, places: Collection[Place]) -> dict[Place, Opened]:
    """The definition of the data of each region and era, as it is now."""
    of_era = {era: (_hash(_selection(config, era)), _hash(_model(config, era))) for era in {era for _, era in places}}
    return {(region, era): Opened(region, era, _cut(config, region), *of_era[era]) for region, era in places}


def _cut(config: Config, region: str) -> str:
    return "".join(config.regions.get(region, "").split())


def _selection(config: Config, era: Optional[str]) -> Iterable[Any]:
    """The selection of the data of an era: their datasets, and the skim; of NanoML itself nothing."""
    skim = config.skim
    data = {name: it.triggers for name, it in config.datasets.items() if it.is_data and it.era == era}
    yield data
    if skim is not None:
        sources = import_part("data_processing.skim.stage").skim_job(config, next(iter(data), None)).sources()
        certified = (config.eras[era].certified if era is not None else None) or skim.certified
        yield [skim.cut, *(it.rpartition(":")[2] for it in (skim.selection or "", *skim.modules))]
        yield code_of(*sources, only_own=True) if sources else ""
        yield file_hash(config.path(certified)) if certified else ""


def _model(config: Config, era: Optional[str]) -> Iterable[Any]:
    """The origin of the scores of an era: the networks as they are trained, what is made of their outputs, and other models."""
    layout = Layout.of(config)
    if config.train is not None:
        yield (config.document.data["train"] or {}).get("discriminants")
        yield from map(file_hash, sorted(layout.training(era if config.train.per_era else None).glob("network_*.pt")))
    ratios = (layout.ratios(it.name, ".onnx") for it in unbinned_channels(config) if it.era == era)
    yield from (file_hash(it) for it in ratios if it.is_file())
    others = (config.path(it) for it in (config.score.model if config.score is not None else None) or ())
    yield from (file_hash(it) for it in others if it.is_file() and layout.workdir not in it.parents)


def _hash(parts: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps([*parts]).encode()).hexdigest()[:16]


def unblind(config: Config, opened: Iterable[Opened], because: str, expected: str, **others: Any) -> Unblinding:
    """Append an entry to the log: from now on all stages use these data. An error if the log is damaged."""
    path, (log, known, problem) = Layout.of(config).unblinded, _log(config)
    if problem.endswith(_OLDER):
        places = (path.with_suffix(f".old{number or ''}.json") for number in itertools.count())
        os.replace(path, next(it for it in places if not it.exists()))
    elif problem:
        raise NanoMLError(problem)
    if not others.get("is_declared"):
        opened = [*_with_data(config, opened, known)]
    who, at = f"{getpass.getuser()}@{platform.node()}", datetime.now(timezone.utc).isoformat(timespec="seconds")
    entry = Unblinding(who, at, because, expected, tuple(opened), **others)
    content = {"unblinded": plain([*log, entry]), "data": plain(known)}
    write_json(path, {"schema": SCHEMA, **content, "seal": _seal(config, content)})
    return entry


def _with_data(config: Config, opened: Iterable[Opened], known: dict[str, Data]) -> Iterator[Opened]:
    """With the data as they are now, which are among the `known` ones from then on."""
    now = DataNow(config, known)
    for it in opened:
        name = next((name for name in known if not now.changes(it.era, name)), None)
        if name is None:
            data = now.of(it.era)
            name = _hash([plain(data)])
            known[name] = data
        yield replace(it, data=name, of=str(known[name]))


def record_declared(config: Config) -> None:
    """Note in the log that `blind: none` shows data, before they are: which regions, by whom, and when."""
    now = [Opened(region, era, _cut(config, region)) for region, era in places_of(config)]
    noted = {one for it in _log(config)[0] if it.is_declared for one in it.opened}
    if config.blind == NONE and not noted.issuperset(now):
        unblind(config, now, f"blind: {NONE}", "", is_declared=True)


def _log(config: Config) -> tuple[list[Unblinding], dict[str, Data], str]:
    """All entries and the data that they name, and why there are none if they cannot be trusted."""
    path = Layout.of(config).unblinded
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] in range(1, SCHEMA):
            return [], {}, f"{path}: {_OLDER}"
        log = [build(Unblinding, entry) for entry in content["unblinded"]]
        known = {name: build(Data, it) for name, it in content["data"].items()}
        sealed = {it: content[it] for it in ("unblinded", "data")}
        if content["schema"] != SCHEMA or not log or content["seal"] != _seal(config, sealed):
            raise ValueError
        return log, known, ""
    except FileNotFoundError:
        return [], {}, ""
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        what = "is damaged, was edited, or is of another analysis or a newer NanoML: all is blind"
        return [], {}, f"{path}: {what}. Take it from a copy, or move it away and use `nanoml unblind`."


def _seal(config: Config, content: Any) -> str:
    """By which a log is known to be as it was written, and of this analysis."""
    return _hash([Layout.of(config).workdir.name, content])
