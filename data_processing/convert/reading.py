"""Reading the files of a conversion: they stay open, and a range is read while the one before is written.

An event that passes the selection under shifts of objects alone is no event of a nominal sample: it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.accounting import SELECTED
from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.lists import Picker
from MLTools.NanoML.rootio.rootfile import RootFile

_MOST_OPEN = 40  # files; older uproot maps them into memory
_MOST_BRANCHES = 3000  # in all open files together: each takes some kilobytes of memory


class OpenFiles:
    """ROOT files that stay open: a file is surveyed before it is read, and opening one takes long."""

    def __init__(self) -> None:
        self._files: dict[str, RootFile] = {}

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def __call__(self, path: str) -> RootFile:
        """The file at a path."""
        if path not in self._files:
            self._files[path] = RootFile(path)
            while len(self._files) > 2 and self._too_many():
                self._files.pop(next(iter(self._files))).close()
        return self._files[path]

    def _too_many(self) -> bool:
        branches = sum(len(file.branches) for file in self._files.values())
        return len(self._files) > _MOST_OPEN or branches > _MOST_BRANCHES


def read_ahead(
    ranges: Iterable[tuple[RootFile, int, int]], branches: Sequence[str]
) -> Iterator[tuple[RootFile, int, dict[str, ak.Array]]]:
    """Files, numbers of events and arrays of ranges; the next range is read while this one is written."""
    with ThreadPoolExecutor(1) as thread:
        # all branches at once: what uproot does for each call takes longer than reading a branch
        begun = ((file, stop - start, thread.submit(file.read, branches, start, stop)) for file, start, stop in ranges)
        following = next(begun, None)
        while following is not None:
            (file, length, arrays), following = following, next(begun, None)
            yield file, length, arrays.result()


class EventCut(Protocol):
    """A cut on the events of a file."""

    @property
    def branches(self) -> Sequence[str]:
        """The branches that it reads."""

    def passes(self, arrays: Mapping[str, ak.Array], length: int) -> NDArray[np.bool_]:
        """Which of `length` events pass, given all `branches` of them."""


@dataclass(frozen=True)
class FlagCut:
    """The cut on a branch of flags."""

    branch: str

    @property
    def branches(self) -> Sequence[str]:
        """See `EventCut`."""
        return [self.branch]

    def passes(self, arrays: Mapping[str, ak.Array], length: int) -> NDArray[np.bool_]:
        """See `EventCut`."""
        return np.asarray(ak.to_numpy(arrays[self.branch]), bool)


def nominal_flag(file: RootFile, record: Provenance | None) -> list[str]:
    """The branch that says which events of a file pass without a shift; none if all of them do.

    Raises
    ------
    NanoMLError
        The file has lost that branch.
    """
    others = sum(each.only_shifted for each in record.accounting.files) if record else 0
    if others and SELECTED not in file.branches:
        raise NanoMLError(
            f"{file.path}: {others:,} of its events pass under shifts alone, but the branch `{SELECTED}`, by which they are known, was "
            "dropped. Make the file again, and keep selected*."
        )
    return [SELECTED] if others else []


def passing(cuts: Sequence[EventCut], arrays: Mapping[str, Any], length: int) -> tuple[dict[str, Any], int]:
    """The events of a block of `length` that pass all cuts, and how many they are."""
    passed = np.ones(length, bool)
    for cut in cuts:
        passed &= cut.passes(arrays, length)
    pick, kept = Picker(np.flatnonzero(passed)), int(passed.sum())
    return {name: pick(array) for name, array in arrays.items()} if kept < length else dict(arrays), kept


def branches_of(cuts: Sequence[EventCut]) -> list[str]:
    """The branches that cuts read."""
    return list(dict.fromkeys(name for cut in cuts for name in cut.branches))
