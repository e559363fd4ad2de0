"""Events of collision data that are there more than once, as in two primary datasets: the first copy is kept.

Events are dealt by a hash to buckets on disk, and those of one bucket are compared by their run, luminosity section and
event number. No more than one bucket is in memory, and two events are the same only if all three numbers are. Shuffling
deals its rows to the same kind of buckets.
"""

from __future__ import annotations

import glob
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.expressions import BoundExpression
from MLTools.NanoML.atomic import aside_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.rootio.lists import Picker
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.rootio.versions import IDENTIFIERS

_RECORD = np.dtype([("lumi", "u8"), ("event", "u8"), ("position", "i8")])
_BUCKETS = 1024
_BYTES = 150  # memory for an event that is compared, with what sorting needs
_BLOCK = 500_000  # events read at once
_SIMULATED = 1  # the run of simulated events, whose numbers repeat from sample to sample


def identify(path: str, arrays: Any) -> NDArray[np.generic]:
    """Identifiers as two numbers that can be sorted: `lumi` (of run and luminosityBlock) and `event`."""
    run, block, event = (np.asarray(ak.to_numpy(arrays[name])).astype(np.uint64) for name in IDENTIFIERS)
    for name, values in (("run", run), ("luminosityBlock", block)):
        if (values >> np.uint64(32)).any():
            raise NanoMLError(f"{path}: has a {name} that is negative or larger than 32 bits: is it damaged?")
    found = np.empty(len(run), [("lumi", "u8"), ("event", "u8")])
    found["lumi"] = run << np.uint64(32) | block
    found["event"] = event
    return found


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """A hidden directory for temporary files beside a file that is being made; it is removed at the end.

    Leftovers of killed processes are removed first. It is an error if another process is making the same file.
    """
    hidden = aside_of(output, "scratch")
    with locked(hidden):
        for path in output.parent.glob(aside_of(Path(glob.escape(output.name)), "*").name):
            if path.is_file():
                path.unlink()
        directory = hidden / "buckets"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


class Buckets:
    """Records that are dealt to buckets: a raw file for each, in an empty directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def deal(self, records: NDArray[np.generic], counts: NDArray[np.integer]) -> None:
        """Add contiguous records to the buckets: the first ones to the first, and so on, as many as `counts` says of each."""
        cuts = [0, *np.cumsum(counts).tolist()]
        for bucket in np.flatnonzero(counts).tolist():
            self.append(bucket, records[cuts[bucket] : cuts[bucket + 1]])

    def append(self, bucket: int, records: NDArray[np.generic]) -> None:
        """Add contiguous records to a bucket."""
        # not kept open: there may be more files than a process may have open
        with open(self._directory / str(bucket), "ab") as file:
            file.write(records.view(np.uint8).data)

    def read(self, bucket: int, into: NDArray[np.generic]) -> NDArray[Any]:
        """Read the records of a bucket in the order in which they came.

        It is an error if there are not as many as there is room for: somebody else changed the file.
        """
        path, found = self._directory / str(bucket), 0
        if path.exists():
            with open(path, "rb") as file:  # with a buffer, whose reads are whole beyond 2 GB, too
                found = file.readinto(into.view(np.uint8).data) + len(file.read(1))
        if found != into.nbytes:
            raise NanoMLError(f"{path}: has {found} bytes of {into.nbytes}. Run the same command again.")
        return into

    def remove(self, bucket: int) -> None:
        """Remove the file of a bucket; its disk may still be writing it, and it takes until that is done."""
        (self._directory / str(bucket)).unlink(missing_ok=True)


class DuplicateEvents:
    """Which events are copies of earlier ones. Events are counted from the first of all parts to the last.

    `sizes` are the numbers of events of the parts.
    """

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self._ends = np.cumsum(sizes, dtype=np.int64)
        total = int(self._ends[-1]) if sizes else 0
        self._copies = np.zeros(-(-total // 8), np.uint8)  # a bit for each event
        self._counts: Counter[tuple[int, int]] = Counter()

    def add(self, copies: NDArray[np.int64], originals: NDArray[np.int64]) -> None:
        """Add positions of copies, each with that of the first event of the same numbers."""
        np.bitwise_or.at(self._copies, copies >> 3, (128 >> (copies & 7)).astype(np.uint8))
        part, original = (self._ends.searchsorted(each, side="right") for each in (copies, originals))
        pairs, times = np.unique(part * len(self.sizes) + original, return_counts=True)
        for pair, many in zip(pairs.tolist(), times.tolist()):
            self._counts[divmod(pair, len(self.sizes))] += many

    def is_first(self, part: int, start: int, stop: int) -> NDArray[np.bool_]:
        """Whether each event of a range of a part is the first of its numbers, shape (stop - start,)."""
        begin = int(self._ends[part]) - self.sizes[part]
        start, stop = begin + start, begin + stop
        skipped = start // 8 * 8
        bits = np.unpackbits(self._copies[start // 8 : -(-stop // 8)])
        return bits[start - skipped : stop - skipped] == 0

    def without_copies(self, part: int, start: int, arrays: dict[str, Any], length: int) -> tuple[dict[str, Any], int]:
        """The events of a block that are the first of their numbers, and how many they are.

        The block has `length` events and begins at `start` in its part.
        """
        first = self.is_first(part, start, start + length)
        kept = int(first.sum())
        pick = Picker(np.flatnonzero(first))
        return arrays if kept == length else {name: pick(each) for name, each in arrays.items()}, kept

    def copies(self, part: int) -> dict[int, int]:
        """How many events of a part are copies, by the part that has the first."""
        found = {original: many for (mine, original), many in self._counts.items() if mine == part}
        return dict(sorted(found.items()))

    def enter(self, part: int, files: Iterable[FileAccounting]) -> None:
        """Enter the copies among the events of a part into the accounting of its files, whose events follow one another."""
        start = 0
        for file in files:
            stop = start + file.selected
            first = int(self.is_first(part, start, stop).sum())
            file.duplicates += file.selected - first
            file.selected = first
            start = stop


def events_of(file: RootFile, cut: BoundExpression | None = None) -> Iterator[NDArray[np.generic]]:
    """The numbers of a file's events as from `identify`, block by block; of those that pass a cut, if there is one."""
    names = list(dict.fromkeys([*IDENTIFIERS, *(cut.branches if cut else ())]))
    for start, stop in file.ranges(names, _BLOCK):
        arrays = file.read(names, start, stop)
        found = identify(file.path, arrays)
        yield found[cut.passes(arrays, stop - start)] if cut else found


def find_duplicates(parts: Iterable[Iterable[NDArray[Any]]], directory: Path, memory: float = 100) -> DuplicateEvents:
    """Find the events that are there more than once; the first copy in the order of the parts is kept.

    `parts` are the events of each part, as from `events_of`. The empty `directory` is for events that do not fit into
    memory, 24 bytes each; `memory` is for the events that are compared [MB].
    """
    dealt = _Dealt(directory, max(1, int(memory * 1_000_000 / _BYTES)))
    sizes = []
    for blocks in parts:
        begin = dealt.events
        for block in blocks:
            dealt.add(block)
        sizes.append(dealt.events - begin)
    found = DuplicateEvents(sizes)
    for rows in dealt.groups():
        found.add(*_compared(rows))
    return found


class _Dealt:
    """Events in memory, or in buckets when there are too many."""

    def __init__(self, directory: Path, most: int) -> None:
        self.events = 0
        self._most = most
        self._buckets = Buckets(directory)
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._pending: list[NDArray[np.generic]] = []
        self._many = 0

    def add(self, block: NDArray[Any]) -> None:
        rows: NDArray[Any] = np.empty(len(block), _RECORD)
        rows["lumi"], rows["event"] = block["lumi"], block["event"]
        rows["position"] = np.arange(self.events, self.events + len(block))
        self.events += len(block)
        rows = rows[rows["lumi"] >> np.uint64(32) > _SIMULATED]
        self._pending.append(rows)
        self._many += len(rows)
        if self._many > self._most:
            self._deal()

    def _deal(self) -> None:
        rows = self._taken()
        lumi = rows["lumi"]
        bucket = fold_of(lumi >> np.uint64(32), lumi & np.uint64(0xFFFFFFFF), rows["event"], _BUCKETS)
        order = bucket.argsort(kind="stable")
        counts = np.bincount(bucket, minlength=_BUCKETS)
        self._buckets.deal(rows[order], counts)
        self._counts += counts

    def _taken(self) -> NDArray[Any]:
        rows = np.concatenate(self._pending) if self._pending else np.empty(0, _RECORD)
        self._pending, self._many = [], 0
        return rows

    def groups(self) -> Iterator[NDArray[np.generic]]:
        """All events, those of the same numbers together, and the first of them first."""
        if not self._counts.any():
            yield self._taken()
            return
        self._deal()
        for number, count in enumerate(self._counts.tolist()):
            yield self._buckets.read(number, np.empty(count, _RECORD))
            self._buckets.remove(number)


def _compared(rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of copies and of the first of each; the rows are in the order of their positions."""
    order = np.lexsort((rows["event"], rows["lumi"]))  # stable
    rows = rows[order]
    again = np.zeros(len(rows), bool)
    again[1:] = (rows["lumi"][1:] == rows["lumi"][:-1]) & (rows["event"][1:] == rows["event"][:-1])
    original = np.maximum.accumulate(np.where(again, 0, np.arange(len(rows))))
    return rows["position"][again], rows["position"][original[again]]
