from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from data_processing.eventloop.input import BranchReader, EventBlock, InputTree
from data_processing.eventloop.output import OutputTree, TargetFile, reduced
from data_processing.eventloop.postprocessing import Event
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile


@pytest.fixture
def trees(wz: Path) -> Any:
    with RootFile(wz) as file:
        reader = BranchReader(file)
        reader.open(0, 20)
        tree = InputTree(reader)
        yield tree, OutputTree(tree, TargetFile("skim.root")), EventBlock(reader, 0, 20, tree.special)


def one_by_one(value: float, bits: int) -> float:
    """The rule, in arithmetic of whole numbers."""
    raw = struct.unpack("<I", struct.pack("<f", value))[0]
    dropped = 23 - bits
    mantissa, rest = (raw % 2**23) // 2**dropped, raw // 2**23 * 2**23
    if raw // 2 ** (dropped - 1) % 2 and mantissa < 2**bits - 2:
        mantissa += 1
    return struct.unpack("<f", struct.pack("<I", rest + mantissa * 2**dropped))[0]


@pytest.mark.parametrize("bits", [1, 2, 6, 10, 12, 22])
def test_precision_is_reduced_by_rounding(bits: int) -> None:
    numbers = np.random.default_rng(1)
    values = np.concatenate(
        [numbers.normal(0, 50, 2000), numbers.exponential(1e-30, 100), [0.0, -0.0, 1.0, 1.9999999, -3.9999998]]
    ).astype("f4")
    result = reduced(values, bits)
    assert result.dtype == np.float32
    assert result.tolist() == [one_by_one(value, bits) for value in values.tolist()]
    assert np.array_equal(reduced(result, bits), result)
    assert np.all(np.abs(result - values) <= np.abs(values) * 2.0**-bits)
    assert len(np.unique(result)) < len(np.unique(values)) or bits == 22


def test_a_branch_keeps_its_value_until_it_is_filled_again(trees: Any) -> None:
    _, output, _ = trees
    output.branch("x", "F")
    output.branch("several", "S", n=2)
    output.branch("Thing_y", "D", lenVar="nThing")
    output.branch("never", "l")
    output.keep()
    output.fillBranch("x", 1.5)
    output.fillBranch("several", (3, -4))
    output.fillBranch("Thing_y", [1, 2.5, 3])
    output.keep()
    output.keep()
    output.fillBranch("Thing_y", [7])
    output.keep()
    first = output.take()
    assert first["x"].tolist() == [0, 1.5, 1.5, 1.5]
    assert first["several"].tolist() == [[0, 0], [3, -4], [3, -4], [3, -4]]
    assert ak.to_list(first["Thing_y"]) == [[], [1, 2.5, 3], [1, 2.5, 3], [7]]
    assert first["nThing"].tolist() == [0, 3, 3, 1]
    assert first["never"].tolist() == [0] * 4
    output.keep()  # and after a chunk's end
    second = output.take()
    assert (second["x"].tolist(), ak.to_list(second["Thing_y"])) == ([1.5], [[7]])
    assert (second["x"].dtype, second["several"].dtype, second["never"].dtype) == ("f4", "i2", "u8")


def test_a_list_that_is_not_filled_has_older_values(trees: Any) -> None:
    _, output, _ = trees
    output.branch("Thing_x", "I", lenVar="nThing")
    output.branch("Thing_y", "I", lenVar="nThing")
    output.fillBranch("Thing_x", [1, 2])
    output.fillBranch("Thing_y", [3, 4])
    output.keep()
    output.fillBranch("Thing_x", [5])
    output.keep()
    output.fillBranch("Thing_x", [6, 7])
    output.keep()
    assert ak.to_list(output.take()["Thing_y"]) == [[3, 4], [3], [3, 4]]
    output.fillBranch("Thing_x", [6, 7, 8])
    with pytest.raises(NanoMLError, match="Thing_y has never been filled with as many as 3 values"):
        output.keep()


def test_what_is_filled_is_seen_in_the_same_event(trees: Any) -> None:
    tree, output, block = trees
    output.branch("Thing_x", "F", lenVar="nThing")
    output.branch("MET_pt", "F")
    tree.event = first = Event(tree, 0, block, 0)
    before = first.MET_pt
    values = [0.1, 0.2]
    output.fillBranch("Thing_x", values)
    output.fillBranch("MET_pt", -1.0)
    assert (first.nThing, first.Thing_x, first.MET_pt) == (2, values, -1.0)
    assert before > 0
    tree.event = second = Event(tree, 1, block, 1)
    assert second.MET_pt > 0
    with pytest.raises(NanoMLError, match="no module has filled nThing in this event"):
        second.nThing  # noqa: B018


def test_a_branch_of_the_file_keeps_its_type_and_title(trees: Any) -> None:
    _, output, _ = trees
    output.branch("MET_pt", "D")
    output.branch("Muon_pt", "D", lenVar="nMuon", title="corrected")
    output.branch("Muon_charge", "F", lenVar="nMuon")
    made = output.written
    assert set(made) == {"MET_pt", "Muon_pt", "Muon_charge"}
    assert (made["MET_pt"].dtype, made["Muon_pt"].dtype, made["Muon_charge"].dtype) == ("float32", "float32", "int32")
    assert (made["Muon_pt"].title, made["Muon_charge"].title) == ("corrected", "electric charge")
    assert made["Muon_pt"].collection == "Muon"


def test_counters_are_written_where_no_collection_brings_them_along(trees: Any) -> None:
    _, output, _ = trees
    output.branch("nThing", "i")
    output.branch("Thing_x", "F", lenVar="nThing")
    output.branch("weights", "F", lenVar="nWeights")
    output.branch("numbers", "F", lenVar="howMany")
    assert set(output.written) == {"Thing_x", "weights", "nWeights", "numbers", "howMany"}
    assert output.written["numbers"].collection == "numbers"
    output.fillBranch("numbers", [1, 2])
    output.keep()
    assert output.take()["howMany"].tolist() == [2]


@pytest.mark.parametrize(
    ("code", "dtype", "value"),
    [
        ("B", "int8", -3),
        ("b", "uint8", 200),
        ("S", "int16", -300),
        ("s", "uint16", 60000),
        ("I", "int32", -70000),
        ("i", "uint32", 2**32 - 1),
        ("L", "int64", -(2**40)),
        ("l", "uint64", 2**64 - 1),
        ("F", "float32", 1.5),
        ("D", "float64", 0.1),
        ("O", "bool", True),
    ],
)
def test_types(code: str, dtype: str, value: Any, trees: Any) -> None:
    _, output, _ = trees
    output.branch("x", code)
    output.branch("T_x", code, lenVar="nT")
    output.fillBranch("x", value)
    output.fillBranch("T_x", [value, 0])
    output.keep()
    made = output.take()
    assert (made["x"].dtype, made["x"].tolist()) == (dtype, [value])
    assert ak.to_list(made["T_x"]) == [[value, 0]]
    assert str(made["T_x"].type) == f"1 * var * {dtype}"
    assert output.written["x"].dtype == output.written["T_x"].dtype == dtype
    if dtype not in ("float32", "float64"):
        with pytest.raises(TypeError):
            output.fillBranch("x", 1.5)
        with pytest.raises(OverflowError):
            output.fillBranch("x", 2**64)


def test_mistakes_are_explained(trees: Any) -> None:
    _, output, _ = trees
    output.branch("three", "F", n=3)
    for make, message in (
        (lambda: output.branch("x", "Q"), 'x: there is no type "Q" of branches, only B, b,'),
        (lambda: output.branch("Muon_pt", "F"), r"Muon_pt: is there already as float\[\]"),
        (lambda: output.branch("three", "F"), r"three: is there already as float\[3\]"),
        (lambda: output.fillBranch("three", [1]), "three has 3 numbers per event, but is filled with 1"),
        (lambda: output.fillBranch("thre", 1), 'thre is filled, but .* Did you mean "three"'),
    ):
        with pytest.raises(NanoMLError, match=message):
            make()
    output.close()
    with pytest.raises(NanoMLError, match="late: branches are made in beginFile"):
        output.branch("late", "F")
