from __future__ import annotations

from dataclasses import replace
from typing import Optional

import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting, FileAccounting
from MLTools.NanoML.nanoaod.entryranges import EntryRange, Part

RUNS = 812.25  # of the file's Runs tree: more than its events have, as some were skimmed away before
WEIGHTS = np.random.default_rng(7).normal(0.3, 1, 40).astype(np.float32).astype(float)


def read(
    first: int, stop: int, file: str = "a/x.root", uuid: str = "1-2", total: float = RUNS
) -> FileAccounting:
    part = Part(first, len(WEIGHTS), float(WEIGHTS[first:stop].sum()), float(WEIGHTS.sum()))
    return FileAccounting(file, stop - first, 0, total, "Runs/genEventSumw", False, uuid=uuid, part=part)


def whole(file: str = "a/x.root", uuid: str = "1-2", total: float = RUNS) -> FileAccounting:
    return FileAccounting(file, len(WEIGHTS), 0, total, "Runs/genEventSumw", False, uuid=uuid)


@pytest.mark.parametrize("seed", range(20))
def test_any_partition_in_any_order_has_the_weights_of_the_file(seed: int) -> None:
    random = np.random.default_rng(seed)
    ends = sorted({0, len(WEIGHTS), *random.integers(0, len(WEIGHTS), seed % 6).tolist()})
    ranges = [read(*each) for each in zip(ends, ends[1:])] if seed else [read(0, 0), read(0, 40)]
    ranges = [ranges[number] for number in random.permutation(len(ranges))]
    other = whole("b.root", "3-4", -33.5)
    accounting = Accounting([*ranges, other])
    accounting.check()
    assert accounting.gaps == []
    assert accounting.sum_of_weights == Accounting([whole(), other]).sum_of_weights == RUNS - 33.5
    assert accounting.sum_in_runs == accounting.sum_of_weights
    assert accounting.entries == 80

    # one that reaches into others
    first = int(random.integers(0, 39))
    with pytest.raises(
        NanoMLError, match=r"x.root: was made from entr.* of a/x.root, as a/x.root was: these"
    ):
        Accounting([*ranges, read(first, min(first + 3, 40))]).check(allow_gaps=True)

    # one of them is not there
    left = [each for each in ranges if each.entries][1:]
    lost = next(each for each in ranges if each not in left and each.entries)
    if not left:
        return
    assert lost.read is not None
    assert Accounting(left).gaps == [lost.read]
    with pytest.raises(NanoMLError, match="lacks entr.* of a/x.root, and no other file here"):
        Accounting([*left, other]).check()
    Accounting([*left, other]).check(allow_gaps=True)
    share = 1 - WEIGHTS[lost.read.first : lost.read.stop].sum() / WEIGHTS.sum()
    assert Accounting(left).sum_of_weights == pytest.approx(RUNS * share, rel=1e-12)


def test_a_file_is_known_by_its_identifier_whatever_its_directory() -> None:
    assert Accounting([read(0, 20), read(20, 40, "b/y.root")]).sum_of_weights == RUNS
    with pytest.raises(NanoMLError, match="b.root: was made from b/y.root, as a.root was: these events and"):
        Accounting([whole(), whole("b/y.root")]).check(["a.root", "b.root"])
    with pytest.raises(NanoMLError, match="was made from b/y.root, as"):
        Accounting([whole(), read(3, 4, "b/y.root")]).check()
    # the same path, as jobs on a grid may call their inputs, with other events
    assert Accounting([whole(), whole(uuid="9-9")]).sum_of_weights == 2 * RUNS
    # without an identifier, the path
    assert Accounting([read(0, 20, uuid=""), read(20, 40, uuid="")]).sum_of_weights == RUNS
    assert Accounting([whole(uuid=""), whole("b.root", uuid="")]).sum_of_weights == 2 * RUNS


def test_ranges_beyond_the_end_and_empty_files() -> None:
    nothing = [replace(read(40, 40), part=Part(first, 40, 0.0, WEIGHTS.sum())) for first in (60, 80)]
    accounting = Accounting([*nothing, read(0, 40)])
    accounting.check()
    assert accounting.sum_of_weights == RUNS
    empty = [
        FileAccounting("e", 0, 0, 5.0, "Runs/genEventSumw", False, part=Part(n, 0, 0.0, 0.0)) for n in (0, 9)
    ]
    Accounting(empty).check()
    assert Accounting(empty).sum_of_weights == 5
    with pytest.raises(NanoMLError, match="would count twice"):
        Accounting([empty[0], empty[0]]).check()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            Part(None, 40, 3.0, 5.0),
            "s.root: its record does not say which entries of a/x.root it was made from",
        ),
        (
            Part(20, 40, 3.0, float(WEIGHTS.sum())),
            "the generator weights of the ranges of a/x.root add up to",
        ),
        (
            Part(21, 40, 0.0, 0.0),
            "lacks entry 20 of a/x.root, and the generator weights of that file add up to ze",
        ),
    ],
)
def test_what_cannot_be_added_is_refused(part: Part, message: str) -> None:
    first = read(0, 20)
    assert first.part is not None
    if not part.file_weights:
        first = replace(first, part=replace(first.part, file_weights=0.0))
    accounting = Accounting([first, replace(read(20, 40), entries=40 - (part.first or 20), part=part)])
    with pytest.raises(NanoMLError, match=message):
        accounting.check(["r.root", "s.root"], allow_gaps=True)


@pytest.mark.parametrize("part", [None, Part(3, 9, 1.5, -2.5), Part(None, 9, 1.5, -2.5)])
def test_ranges_survive_json(part: Optional[Part]) -> None:
    accounting = Accounting([replace(whole(), part=part)])
    assert Accounting.from_dict(accounting.as_dict()) == accounting


def test_ranges_in_words() -> None:
    assert str(EntryRange("x", 1000, 2000)) == "entries 1,000 to 1,999 of x"
    assert str(EntryRange("x", 5, 6)) == "entry 5 of x"
