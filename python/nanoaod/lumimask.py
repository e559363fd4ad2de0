"""Sets of luminosity sections: the certified luminosity JSON ("golden JSON"), and what was processed."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.errors import NanoMLError

if TYPE_CHECKING:
    from MLTools.NanoML.rootio.rootfile import RootFile

PAGE = "skim.md"
_SECTION = ("run", "luminosityBlock")
_LARGEST = 2**32 - 1
_CHUNK = 1_000_000
_ZERO = np.zeros(1, np.uint64)


def _none() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class LumiMask:
    """A set of luminosity sections.

    A section is one integer, with its run in the upper 32 bits and its number in the lower ones. The set is kept as the
    first and last sections of ranges, uint64 arrays; the ranges are sorted, separate, and each in one run.
    """

    first: NDArray[np.uint64] = field(default_factory=_none)
    last: NDArray[np.uint64] = field(default_factory=_none)

    @classmethod
    def of(cls, run: ArrayLike, luminosity_block: ArrayLike) -> LumiMask:
        """The sections of events: one run and one luminosity block for each, integers from 0 to 2^32 - 1."""
        keys = _keys(run, luminosity_block)
        # in most files the events of a section are next to each other, so that few are left to be sorted
        keys = keys[np.concatenate([np.ones(min(len(keys), 1), bool), keys[1:] != keys[:-1]])]
        return _merged(keys, keys)

    @classmethod
    def from_dict(cls, content: object, source: str | os.PathLike[str]) -> LumiMask:
        """The sections of the content of a luminosity JSON, {"run": [[first, last], ...], ...}.

        Overlapping and adjacent ranges are merged. An error names `source` and says what is wrong with the content.
        """
        if not isinstance(content, dict):
            raise _malformed(source, f"is {_shown(content)}, not an object of runs")
        first: list[int] = []
        last: list[int] = []
        for name, ranges in content.items():
            run = _run(name, source)
            if not isinstance(ranges, list):
                raise _malformed(source, f"run {run} has {_shown(ranges)}, not a list of ranges")
            for section_range in ranges:
                low, high = _range(section_range, run, source)
                first.append(run << 32 | low)
                last.append(run << 32 | high)
        return _merged(np.array(first, np.uint64), np.array(last, np.uint64))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LumiMask:
        """Read a luminosity JSON, as CMS certifies it and as `write` writes it.

        Raises NanoMLError if there is no such file, it is not JSON, or its content is not as in `from_dict`.
        """
        try:
            with open(path, "rb") as file:
                content = json.loads(file.read(), object_pairs_hook=_object)
        except OSError as problem:
            raise NanoMLError(f"{os.fspath(path)}: cannot be read: {problem.strerror}.") from None
        except (ValueError, RecursionError) as problem:
            raise _malformed(path, f"cannot be understood ({problem})") from None
        return cls.from_dict(content, path)

    def mask(self, run: ArrayLike, luminosity_block: ArrayLike) -> NDArray[np.bool_]:
        """Which events are in these sections, bool of shape (events,); as in `of`."""
        keys = _keys(run, luminosity_block)
        if not len(self.first):
            return np.zeros(len(keys), bool)
        at = np.searchsorted(self.first, keys, side="right")
        # before the first range, `at - 1` is the last one, which the second comparison excludes
        return (at > 0) & (keys <= self.last[at - 1])

    def rows(self, arrays: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
        """Which rows of a tree are in these sections; in their runs, if the tree has runs alone."""
        if "luminosityBlock" in arrays:
            return self.mask(arrays["run"], arrays["luminosityBlock"])
        return np.isin(np.asarray(arrays["run"]), self.runs)

    def __or__(self, other: LumiMask) -> LumiMask:
        return _merged(np.concatenate([self.first, other.first]), np.concatenate([self.last, other.last]))

    def __and__(self, other: LumiMask) -> LumiMask:
        begin = np.searchsorted(other.last, self.first, side="left")
        end = np.searchsorted(other.first, self.last, side="right")
        mine = np.repeat(np.arange(len(self.first)), end - begin)
        theirs = np.arange(len(mine)) + np.repeat(begin - (np.cumsum(end - begin) - (end - begin)), end - begin)
        return LumiMask(
            np.maximum(self.first[mine], other.first[theirs]), np.minimum(self.last[mine], other.last[theirs])
        )

    def __sub__(self, other: LumiMask) -> LumiMask:
        if not len(other.first):
            return self
        # what is before, between and behind the other's ranges
        first = np.concatenate([_ZERO, other.last + np.uint64(1)])
        last = np.concatenate([other.first - np.uint64(1), ~_ZERO])
        left = np.concatenate([other.first[:1] > 0, first[1:-1] <= last[1:-1], other.last[-1:] < ~_ZERO])
        return self & LumiMask(first[left], last[left])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LumiMask):
            return NotImplemented
        return np.array_equal(self.first, other.first) and np.array_equal(self.last, other.last)

    def __hash__(self) -> int:
        return hash((self.first.tobytes(), self.last.tobytes()))

    def __len__(self) -> int:
        """Number of sections."""
        return int(np.sum(self.last - self.first)) + len(self.first)

    @property
    def runs(self) -> list[int]:
        """The runs, sorted."""
        return [int(run) for run in np.unique(self.first >> np.uint64(32))]

    def as_dict(self) -> dict[str, list[list[int]]]:
        """Run to its ranges, sorted: the content of a luminosity JSON."""
        content: dict[str, list[list[int]]] = {}
        for first, last in zip(self.first.tolist(), self.last.tolist()):
            content.setdefault(str(first >> 32), []).append([first & _LARGEST, last & _LARGEST])
        return content

    def to_json(self) -> str:
        """Text of a luminosity JSON in its compact form, as brilcalc takes it: `{"315267": [[1, 244]]}`."""
        return json.dumps(self.as_dict())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a luminosity JSON, whole or not at all."""
        write_text(path, self.to_json() + "\n")


def _object(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):  # json would keep the last alone
        raise ValueError(f"{Counter(name for name, _ in pairs).most_common(1)[0][0]} appears twice")
    return content


def _keys(run: ArrayLike, luminosity_block: ArrayLike) -> NDArray[np.uint64]:
    keys: NDArray[np.uint64] = _number("run", run) << np.uint64(32)
    keys |= _number("luminosityBlock", luminosity_block)
    return keys


def _number(name: str, values: ArrayLike) -> NDArray[np.uint64]:
    array = np.asarray(values)
    if not array.size:
        return _none()
    if array.dtype.kind not in "iu":
        raise NanoMLError(f"{name}: is of type {array.dtype}, not integers.")
    if array.dtype.kind == "i" or array.dtype.itemsize > 4:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > _LARGEST:
            raise NanoMLError(f"{name}: has values from {low} to {high}, not from 0 to 2^32 - 1.")
    return array.astype(np.uint64)


def _merged(first: NDArray[np.uint64], last: NDArray[np.uint64]) -> LumiMask:
    """The set of ranges in any order, each within a run: overlapping and adjacent ones are merged."""
    if not len(first):
        return LumiMask()
    order = np.argsort(first, kind="stable")
    first, reach = first[order], np.maximum.accumulate(last[order])
    apart = (first[1:] > reach[:-1]) & (first[1:] - reach[:-1] > 1)
    apart |= first[1:] >> np.uint64(32) != first[:-1] >> np.uint64(32)
    begins = np.concatenate([[True], apart])
    return LumiMask(first[begins], reach[np.concatenate([apart, [True]])])


def _run(name: object, source: str | os.PathLike[str]) -> int:
    if not (isinstance(name, str) and re.fullmatch("0|[1-9][0-9]{0,9}", name) and int(name) <= _LARGEST):
        raise _malformed(source, f"{_shown(name)} is not the number of a run")
    return int(name)


def _range(content: object, run: int, source: str | os.PathLike[str]) -> tuple[int, int]:
    def wrong(what: str) -> NanoMLError:
        return _malformed(source, f"run {run}: {_shown(content)} {what}")

    if not (isinstance(content, list) and len(content) == 2 and all(type(number) is int for number in content)):
        raise wrong("is not a range of two integers")
    low, high = content
    if low > high:
        raise wrong("ends before it begins")
    if low < 0 or high > _LARGEST:
        raise wrong("is outside of 0 to 2^32 - 1")
    return low, high


def _shown(content: object) -> str:
    text = json.dumps(content, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _malformed(source: str | os.PathLike[str], what: str) -> NanoMLError:
    return NanoMLError(
        f'{os.fspath(source)}: {what}. A luminosity JSON is like {{"315267": [[1, 88], [91, 92]]}}: '
        "first and last luminosity section of the ranges of each run. Fetch or make it again."
    )


def sections_of(file: RootFile) -> LumiMask:
    """The luminosity sections that stand behind a file, from its tree LuminosityBlocks, or else from its events.

    The tree also has the sections without selected events.
    """
    tree = file.other_tree("LuminosityBlocks") or {}
    if all(name in tree and len(tree[name]) for name in _SECTION):
        return LumiMask.of(*(tree[name] for name in _SECTION))
    return _sections_of_events(file, 0, file.entries)


def sections_between(file: RootFile, start: int, stop: int) -> LumiMask:
    """The luminosity sections that stand behind a range of a file's entries.

    Sections without events in the file belong to its first entry, so that the ranges together have all sections.
    """
    sections = _sections_of_events(file, start, stop)
    if start == 0:
        sections |= sections_of(file) - _sections_of_events(file, stop, file.entries)
    return sections


def _sections_of_events(file: RootFile, start: int, stop: int) -> LumiMask:
    sections = LumiMask()
    for first, last in file.ranges(_SECTION, _CHUNK, start, stop):
        events = file.read(_SECTION, first, last)
        sections |= LumiMask.of(*(events[name] for name in _SECTION))
    return sections
