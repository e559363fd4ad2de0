from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import uproot

from MLTools.NanoML.books import Books, FileBooks, Provenance, add_steps, books_of, event_weights
from MLTools.NanoML.cutflow import Step
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootfile import RootFile


@pytest.mark.parametrize(
    ("name", "source", "is_data"),
    [
        ("nano_v5_mc_ttbar_1000", "genWeight of the file's events", False),
        ("nano_v6_mc_dy", "Runs/genEventSumw_", False),
        ("nano_v6_mc_dy_zero_events", "genWeight of the file's events", False),
        ("nano_v6_data_dimuon_run315267", "number of events (data)", True),
        ("nano_v9_mc_ul17_dy", "Runs/genEventSumw", False),
        ("nano_v13_data_egamma2022E_run359571", "number of events (data)", True),
    ],
)
def test_sums_of_weights_of_real_files(
    real_files: dict[str, Path], name: str, source: str, is_data: bool
) -> None:
    with RootFile(real_files[name]) as file, uproot.open(real_files[name]) as plain:
        books = books_of(file)
        if source.startswith("Runs/"):
            expected = float(np.sum(plain[source].array(library="np")))
        elif is_data:
            expected = plain["Events"].num_entries
        else:
            expected = float(np.sum(plain["Events/genWeight"].array(library="np").astype(float)))
    assert books.sum_of_weights == pytest.approx(expected, rel=1e-12)
    assert books.sum_of_weights_source == source
    assert books.is_data is is_data


def _books(name: str, events: int, weights: float, is_data: bool = False) -> FileBooks:
    steps = [Step("all", events, weights), Step("z", events // 2, weights / 2)]
    return FileBooks(name, events, events // 2, weights, "Runs/genEventSumw", is_data, steps)


def test_books_add_up_and_survive_json() -> None:
    books = Books([_books("a", 10, 5.5), _books("b", 0, 0.0), _books("c", 4, -1.5)])
    assert (books.entries, books.selected, books.sum_of_weights, books.is_data) == (14, 7, 4.0, False)
    assert books.cutflow == [Step("all", 14, 4.0), Step("z", 7, 2.0)]
    assert Books.from_dict(json.loads(json.dumps(books.as_dict()))) == books
    assert Books([_books("a", 1, 1.0), _books("b", 1, 1.0, True)]).is_data is None


def test_cut_flows_of_other_cuts_are_joined_by_name() -> None:
    assert add_steps([[Step("all", 2, 2.0)], [Step("all", 3, 3.0), Step("z", 1, 1.0)]]) == [
        Step("all", 5, 5.0),
        Step("z", 1, 1.0),
    ]


def test_event_weights_are_ones_in_data() -> None:
    assert event_weights({}, 3).tolist() == [1, 1, 1]


def test_a_damaged_record_is_explained(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"x": "f4"}).extend({"x": np.ones(2, "f4")})
        file["nanoml"] = '{"kind": "skim"}'
    with (
        RootFile(tmp_path / "a.root") as file,
        pytest.raises(NanoMLError, match="its record `nanoml` cannot be understood"),
    ):
        Provenance.of(file)
