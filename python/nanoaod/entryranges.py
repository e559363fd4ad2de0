"""The ranges of entries in which a file was read: what they leave out, and what they count twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.errors import NanoMLError

if TYPE_CHECKING:
    from MLTools.NanoML.nanoaod.accounting import FileAccounting

__all__ = ["EntryRange", "Part", "check_ranges", "gaps_between", "is_same_sum", "place_of", "sum_of_ranges"]


@dataclass(frozen=True)
class Part:
    """The range of entries that was read of a file, where it is not the whole file.

    Attributes
    ----------
    first
        Its first entry; None if nobody knows which entries were read.
    file_entries
        Events in the file.
    weights
        Sum of the generator weights of the events in the range. In data, their number.
    file_weights
        Sum of the generator weights of all events in the file. In data, their number.
    """

    first: Optional[int]
    file_entries: int
    weights: float
    file_weights: float


@dataclass(frozen=True)
class EntryRange:
    """Entries of a file: from `first` to the one before `stop`."""

    file: str
    first: int
    stop: int

    def __str__(self) -> str:
        if self.stop - self.first == 1:
            return f"entry {self.first:,} of {self.file}"
        return f"entries {self.first:,} to {self.stop - 1:,} of {self.file}"


def place_of(file: FileAccounting) -> tuple[int, int]:
    """Key by which the ranges of a file are sorted; those that are not known come first."""
    read = file.read
    return (-1, -1) if read is None else (read.first, read.stop)


def gaps_between(ranges: Sequence[FileAccounting]) -> list[EntryRange]:
    """The entries of a file that none of its ranges covers; none if one of them is not known."""
    found, reached = [], 0
    for read in [each.read for each in ranges]:
        if read is None:
            return []
        first = min(read.first, ranges[0].file_entries)
        if first > reached:
            found.append(EntryRange(read.file, reached, first))
        reached = max(reached, read.stop)
    if reached < ranges[0].file_entries:
        found.append(EntryRange(ranges[0].file, reached, ranges[0].file_entries))
    return found


def sum_of_ranges(ranges: Sequence[FileAccounting]) -> float:
    """The weights behind a file, as far as it was read."""
    total = ranges[0].sum_of_weights
    parts = [each.part for each in ranges if each.part is not None]
    if len(parts) < len(ranges) or not gaps_between(ranges):
        return total
    whole = parts[0].file_weights
    return total * (math.fsum(part.weights for part in parts) / whole) if whole else 0.0


def check_ranges(ranges: Sequence[FileAccounting], owners: Sequence[str], allow_gaps: bool) -> None:
    """Check the ranges of one file, which are in their order."""
    unknown = next((owner for each, owner in zip(ranges, owners) if each.read is None), None)
    if unknown is not None:
        raise NanoMLError(
            f"{unknown}: its record does not say which entries of {ranges[0].file} it was made from, because something "
            "other than nanoAOD-tools' PostProcessor ran the selection. Make it again by nano_postproc.py or nanoml skim."
        )
    _check_overlaps(ranges, owners)
    gaps = gaps_between(ranges)
    if gaps and not allow_gaps:
        more = f" (and {len(gaps) - 1} more ranges)" if len(gaps) > 1 else ""
        raise NanoMLError(
            f"{owners[0]}: lacks {gaps[0]}{more}, and no other file here was made from them. Add the files that were. Or allow "
            "gaps (--allow-gaps, convert.allow_gaps): then only the weights that were read count in the normalisation."
        )
    parts = [each.part for each in ranges if each.part is not None]
    for part in parts[:1] if gaps else ():
        if not part.file_weights:
            raise NanoMLError(
                f"{owners[0]}: lacks {gaps[0]}, and the generator weights of that file add up to zero: the normalisation cannot "
                "be scaled. Add the files that were made from them."
            )
    if len(parts) == len(ranges) and not gaps:
        read = math.fsum(part.weights for part in parts)
        scale = math.fsum(abs(part.weights) for part in parts)
        for part in parts:
            if not is_same_sum(read, part.file_weights, scale + abs(part.file_weights)):
                raise NanoMLError(
                    f"{owners[0]}: the generator weights of the ranges of {ranges[0].file} add up to {read:.9g}, but "
                    f"those of the file to {part.file_weights:.9g}: it was changed between the passes. Make all ranges "
                    "again."
                )


def _check_overlaps(ranges: Sequence[FileAccounting], owners: Sequence[str]) -> None:
    last = 0  # the range that reaches farthest
    for number in range(1, len(ranges)):
        one, other = ranges[last].read, ranges[number].read
        assert one is not None
        assert other is not None
        if other.first < min(one.stop, other.stop) or place_of(ranges[last]) == place_of(ranges[number]):
            shared = EntryRange(other.file, other.first, min(one.stop, other.stop))
            is_part = ranges[last].part is not None and ranges[number].part is not None
            what = f"was made from {shared if is_part else other.file}"
            raise NanoMLError(
                f"{owners[number]}: {what}, as {owners[last]} was: these events and their weights would count twice. Take "
                "one of them."
            )
        if other.stop >= one.stop:
            last = number


def is_same_sum(one: float, other: float, scale: float) -> bool:
    """Whether two sums of weights agree but for rounding; `scale` is the sum of their absolute values."""
    return abs(one - other) <= 1e-12 * scale
