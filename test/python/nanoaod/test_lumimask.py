from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from conftest import DATA
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.lumimask import LumiMask, sections_between, sections_of
from MLTools.NanoML.rootio.rootfile import RootFile
from services.nanoaod import CERTIFIED

Pairs = set[tuple[int, int]]

RUNS, BLOCKS = (0, 1, 2, 315267, 2**32 - 1), (*range(8), 2**32 - 2, 2**32 - 1)
pairs = st.sets(st.tuples(st.sampled_from(RUNS), st.sampled_from(BLOCKS)), max_size=30)
block_ranges = st.lists(st.lists(st.integers(0, 12), min_size=2, max_size=2).map(sorted), max_size=5)


def mask_of(sections: Pairs) -> LumiMask:
    columns = np.array(sorted(sections), np.uint32).reshape(-1, 2)
    return LumiMask.of(columns[:, 0], columns[:, 1])


def pairs_in(content: Mapping[Any, Any]) -> Pairs:
    ranges = ((int(run), first, last) for run, each in content.items() for first, last in each)
    return {(run, block) for run, first, last in ranges for block in range(first, last + 1)}


def pairs_of(mask: LumiMask) -> Pairs:
    return pairs_in(mask.as_dict())


@given(pairs, pairs)
def test_it_is_a_set_of_pairs(one: Pairs, other: Pairs) -> None:
    mine, theirs = mask_of(one), mask_of(other)
    assert pairs_of(mine) == one
    assert len(mine) == len(one)
    assert mine.runs == sorted({run for run, _ in one})
    for result, expected in ((mine | theirs, one | other), (mine & theirs, one & other), (mine - theirs, one - other)):
        # the same set has the same ranges, however it came about
        assert result == mask_of(expected)
        assert hash(result) == hash(mask_of(expected))
    assert (mine == theirs) == (one == other)


@given(pairs, st.lists(st.tuples(st.sampled_from(RUNS), st.sampled_from(BLOCKS)), max_size=50))
def test_events_are_in_it_or_not(sections: Pairs, events: list[tuple[int, int]]) -> None:
    columns = np.array(events, np.int64).reshape(-1, 2)
    expected = [event in sections for event in events]
    for dtype in (np.uint32, np.int64, np.uint64):
        run, block = columns.astype(dtype).T
        found = mask_of(sections).mask(run, block)
        assert found.dtype == bool
        assert found.tolist() == expected


@given(st.dictionaries(st.sampled_from(RUNS), block_ranges))
def test_ranges_of_a_json_are_merged(content: dict[int, list[list[int]]]) -> None:
    mask = LumiMask.from_dict({str(run): ranges for run, ranges in content.items()}, "a.json")
    assert pairs_of(mask) == pairs_in(content)
    for ranges in mask.as_dict().values():
        ends = list(chain.from_iterable(ranges))
        assert all(after > before + 1 for before, after in zip(ends[1::2], ends[2::2]))
    assert LumiMask.from_dict(json.loads(mask.to_json()), "a.json") == mask


def test_whole_runs_are_ranges_not_lists() -> None:
    everything = LumiMask.from_dict({"1": [[0, 2**32 - 1]], "2": [[0, 2**32 - 1]], "4": [[1, 2**32 - 1]]}, "a.json")
    assert len(everything) == 3 * 2**32 - 1
    assert everything - everything == LumiMask()
    assert (everything - LumiMask.of([2], [7])).as_dict()["2"] == [[0, 6], [8, 2**32 - 1]]
    assert everything.mask([1, 2, 3, 4, 4], [2**32 - 1, 0, 5, 0, 1]).tolist() == [True, True, False, False, True]


def test_nothing_is_a_set_too() -> None:
    nothing = LumiMask.of([], [])
    assert nothing == LumiMask() == LumiMask.from_dict({}, "a.json") == LumiMask.from_dict({"1": []}, "a.json")
    assert (len(nothing), nothing.runs, nothing.to_json()) == (0, [], "{}")
    assert nothing.mask(np.array([1], np.uint32), np.array([1], np.uint32)).tolist() == [False]
    assert LumiMask.of([1], [1]).mask([], []).tolist() == []


@pytest.mark.parametrize("use", [LumiMask.of, LumiMask().mask])
def test_numbers_out_of_range_are_refused(use: Callable[[Any, Any], Any]) -> None:
    for run, block, message in (
        ([1.0], [1], "run: is of type float64, not integers"),
        ([1], [-1], "luminosityBlock: has values from -1 to -1"),
        ([1, 2**32], [1, 1], "run: has values from 1 to 4294967296"),
        (np.array([2**63], np.uint64), [1], "run: has values from 9223372036854775808 to"),
    ):
        with pytest.raises(NanoMLError, match=message):
            use(run, block)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be understood (Expecting value: line 1 column 1"),
        ('{"315267": [[1, 2]', "cannot be understood (Expecting ',' delimiter: line 1 column 19"),
        *(("[" * 100_000, "cannot be understood ("), ("[[1, 2]]", "is [[1, 2]], not an object of runs")),
        ('{"315267": [[1, 2]], "315267": [[4, 5]]}', "cannot be understood (315267 appears twice)"),
        ('{"-1": [[1, 2]]}', '"-1" is not the number of a run'),
        ('{"315267.0": []}', '"315267.0" is not the number of a run'),
        ('{"4294967296": []}', '"4294967296" is not the number of a run'),
        ('{"315267": {}}', "run 315267 has {}, not a list of ranges"),
        ('{"315267": [1, 2]}', "run 315267: 1 is not a range of two integers"),
        ('{"315267": [[1, 2, 3]]}', "run 315267: [1, 2, 3] is not a range of two integers"),
        ('{"315267": [[1, true]]}', "run 315267: [1, true] is not a range of two integers"),
        ('{"1": [[1, 9]], "315267": [[9, 3]]}', "run 315267: [9, 3] ends before it begins"),
        ('{"315267": [[-2, 3]]}', "run 315267: [-2, 3] is outside of 0 to 2^32 - 1"),
        ('{"315267": [[1, 99999999999]]}', "run 315267: [1, 99999999999] is outside"),
    ],
)
def test_a_mistake_in_a_json_is_explained(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    path.write_text(text)
    with pytest.raises(NanoMLError) as raised:
        LumiMask.read(path)
    assert str(raised.value).startswith(f"{path}: {message}")
    assert 'A luminosity JSON is like {"315267": [[1, 88], [91, 92]]}' in str(raised.value)


def test_a_json_is_written_in_the_compact_form(tmp_path: Path) -> None:
    sections = LumiMask.of([315268, 315267, 315267, 315267, 99], [1, 206, 205, 208, 7])
    sections.write(tmp_path / "processed.json")
    text = '{"99": [[7, 7]], "315267": [[205, 206], [208, 208]], "315268": [[1, 1]]}'
    assert sections.to_json() == text
    assert (tmp_path / "processed.json").read_text() == text + "\n"
    assert LumiMask.read(tmp_path / "processed.json") == sections
    with pytest.raises(NanoMLError, match="nothing.json: cannot be read: No such file or directory"):
        LumiMask.read(tmp_path / "nothing.json")


def test_the_golden_jsons_are_read_as_they_are(tmp_path: Path) -> None:
    """Those of two years, where they are at hand, and one that is made."""
    directory, made, generator = DATA / "golden", tmp_path / "made.json", np.random.default_rng(5)
    sections = {}
    for run in generator.choice(10**6, 300, replace=False).tolist():
        edges = np.sort(generator.choice(np.arange(1, 1500), 2 * generator.integers(0, 9), replace=False))
        sections[str(run)] = edges.reshape(-1, 2).tolist()
    made.write_text(json.dumps(sections))
    for path in (made, *directory.glob("Cert_*18_JSON.txt"), *directory.glob("Cert_*2024*.json")):
        golden, content = LumiMask.read(path), json.loads(path.read_bytes())
        plain = pairs_in(content)
        assert (len(golden), golden.runs) == (len(plain), sorted(int(run) for run, ranges in content.items() if ranges))
        golden.write(tmp_path / "golden.json")
        assert LumiMask.read(tmp_path / "golden.json") == golden
        run = generator.choice([*golden.runs, 1, 10**6], 2000).astype(np.uint32)
        block = generator.integers(0, 1500, 2000).astype(np.uint32)
        assert golden.mask(run, block).tolist() == [pair in plain for pair in zip(run.tolist(), block.tolist())]
        processed = LumiMask.of(run, block) & golden
        assert len(golden - processed) == len(golden) - len(processed)


def test_events_of_data_are_certified(made_files: dict[str, Path]) -> None:
    certified = LumiMask.from_dict(CERTIFIED, "here")
    with RootFile(made_files["made_v9_data"]) as file:
        events = file.read(["run", "luminosityBlock"])
        sections = sections_of(file)
    found = set(zip(events["run"].to_list(), events["luminosityBlock"].to_list()))
    assert pairs_of(sections) == {*found, (315267, 10)}  # and one without events
    passed = certified.mask(events["run"], events["luminosityBlock"])
    in_plain = [pair in {(315267, 11), (315270, 13)} for pair in zip(events["run"], events["luminosityBlock"])]
    assert passed.tolist() == in_plain
    assert passed.sum() == 50
    read = LumiMask.of(events["run"], events["luminosityBlock"])
    assert pairs_of(read & certified) == {(315267, 11), (315270, 13)}
    assert not (certified - read).mask(events["run"], events["luminosityBlock"]).any()


def of_blocks(path: Path, trees: dict[str, list[int]]) -> Path:
    """A file of run 7 with the numbers of luminosity blocks in each of these trees."""
    with uproot.recreate(path) as file:
        for tree, blocks in trees.items():
            columns = {"run": np.full(len(blocks), 7, "u4"), "luminosityBlock": np.array(blocks, "u4")}
            file.mktree(tree, {"run": "u4", "luminosityBlock": "u4"}).extend(columns)
    return path


def test_the_ranges_of_a_file_have_its_sections_together(tmp_path: Path) -> None:
    """The sections without events, 4 and 9 here, belong to the first entry."""
    of_blocks(tmp_path / "a.root", {"Events": [1, 1, 2, 2, 2, 3], "LuminosityBlocks": [1, 2, 3, 4, 9]})
    with RootFile(tmp_path / "a.root") as file:
        whole = sections_of(file)
        found = [sections_between(file, *each).as_dict() for each in ((0, 3), (3, 5), (5, 6), (6, 6), (0, 6))]
    assert found == [{"7": [[1, 2], [4, 4], [9, 9]]}, {"7": [[2, 2]]}, {"7": [[3, 3]]}, {}, {"7": [[1, 4], [9, 9]]}]
    assert whole.as_dict() == found[-1]


def test_sections_without_events_are_known_from_their_tree(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, list[int]], Pairs]] = [
        ({"Events": [3, 3], "LuminosityBlocks": [2, 3]}, {(7, 2), (7, 3)}),
        *(({"Events": [3, 3, 5]}, {(7, 3), (7, 5)}), ({"Events": []}, set())),
        ({"Events": [3], "LuminosityBlocks": []}, {(7, 3)}),
    ]
    for trees, expected in cases:
        with RootFile(of_blocks(tmp_path / "a.root", trees)) as file:
            assert pairs_of(sections_of(file)) == expected
