"""Blind data: which share of an event may be seen in a region, and the log of who decided so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

Place = tuple[str, Optional[str]]
"""A region, and an era with data."""
Shares = Mapping[str, float]
"""The regions whose events are not all seen, with the share that is: 0 if the region is blind."""


def share_in(
    region: str, shares: Shares, inside: Callable[[str], Optional[NDArray[np.bool_]]]
) -> Union[float, NDArray[np.float64]]:
    """The share of each event of a region that may be seen there: none of one that is in a blind region as well.

    `inside` says which events are in another region; None if none are. In a region that is blind itself, all of simulation counts.
    """
    found: Any = shares.get(region, 1.0)
    if found == 0:
        return 1.0
    for other, share in shares.items():
        flags = inside(other)
        if flags is not None:
            found = np.where(flags, np.minimum(found, share), found)
    return found


def in_words(place: Place) -> str:
    """A region and its era, as "SR (2018)"."""
    return place[0] if place[1] is None else f"{place[0]} ({place[1]})"


@dataclass(frozen=True)
class BlindBins:
    """The bins whose data must not be looked at, since the signal might show there."""

    signal: str  # the process
    limit: float  # of the expected S / sqrt(B)
    others: tuple[str, ...] = field(default=(), metadata={"sparse": True, "older": ()})  # signals beside it

    def __str__(self) -> str:
        return f"bins with an expected S / sqrt(B) above {self.limit:g}"

    def among(self, signal: NDArray[np.floating[Any]], background: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which bins these are.

        Parameters
        ----------
        signal, background
            The expected events in each bin, of one shape.
        """
        return np.asarray(signal > self.limit * np.sqrt(np.maximum(background, 0)))


@dataclass(frozen=True)
class Opened:
    """A region and an era whose data may be seen, as long as its cut, and the hashes of selection, networks and data, stay the same."""

    region: str
    era: Optional[str]
    cut: str
    selection: str = ""
    model: str = ""
    data: str = ""  # its files, and what the skim read beside them, are in the log under this hash
    of: str = field(default="", compare=False)  # the datasets, in words: "Muon18 (12 files), EGamma18 (1 file)"
    events: Optional[int] = field(default=None, compare=False)  # of data that are seen there since


@dataclass(frozen=True)
class Unblinding:
    """An entry of the log: somebody made an analysis show data that were blind."""

    who: str  # user@host
    at: str  # date and time with time zone, ISO 8601
    because: str
    expected: str  # the expected result of the fit then, in words
    opened: tuple[Opened, ...]
    fraction: float = 1.0  # of the events
    is_declared: bool = False  # by `blind: none` in the YAML file: then it holds as long as that is there

    @property
    def what(self) -> str:
        """The data that are seen: "SR (2018), CR (2018); 10 % of the events"."""
        part = f"; {100 * self.fraction:g} % of the events" if self.fraction < 1 else ""
        return ", ".join(in_words((it.region, it.era)) for it in self.opened) + part

    @property
    def events(self) -> str:
        """How many events of which data: "SR (2018): 1,234 events of Muon18 (12 files)"; empty if it is not known."""
        known = [(in_words((it.region, it.era)), it.events, it.of) for it in self.opened if it.events is not None]
        return "; ".join(f"{place}: {events:,} events of {of}" for place, events, of in known)

    def __str__(self) -> str:
        return f"unblinded by {self.who} on {self.at[:10]}"
