from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from conftest import ROOT

from MLTools.NanoML.corrections import Correction, CorrectionFile
from MLTools.NanoML.errors import ConfigError, NanoMLError
from services.invented import write
from services.real import POG, plain

INVENTED = ROOT / "examples" / "corrections"
NAMES = (
    *("EGM/2022_Summer22/electronSS", "EGM/2018_UL/photon", "JME/2018_UL/jmar", "JME/2022_Summer22/fatJet_jerc"),
    "MUO/2018_UL/muon_Z",
)
FILES = [*sorted(INVENTED.glob("*/*.json")), *(POG / f"{name}.json.gz" for name in NAMES if POG.is_dir())]
MUON = "NUM_HighPtID_DEN_TrackerMuons"


@pytest.fixture(scope="module")
def muon() -> Correction:
    return CorrectionFile(INVENTED / "2018" / "muon.json")[MUON]


def some_inputs(correction: Correction, number: int = 12) -> list[dict[str, Any]]:
    """Sets of texts and integers, each with plain columns of numbers in the range of the correction.

    Integers are alike in every other set: some files have nothing for some of them.
    """
    random = np.random.default_rng(1)
    words = {name: axis.choices[:4] or ("nom",) for name, axis in correction.axes.items() if axis.type == "string"}
    integers = {name: axis.choices or (0, 1, 10) for name, axis in correction.axes.items() if axis.type == "int"}
    sets = list(itertools.product(*words.values(), *integers.values()))
    found = []
    for turn, chosen in enumerate(sets[:: max(1, len(sets) // 16)]):
        row = dict(zip([*words, *integers], chosen))
        for name in integers:
            row[name] = random.choice(integers[name], number) if turn % 2 else np.full(number, row[name])
        for name, axis in correction.axes.items():
            low, high = axis.low if axis.low is not None else -2.3, axis.high if axis.high is not None else 2.3
            if name.lower().endswith("pt") or name in ("p", "Rho", "JetA", "NumTrueInteractions", "npvs"):
                low, high = max(low, 30.0), max(low, 30.0) + 300 if axis.high is None else max(axis.high, 31.0)
            if axis.type == "real":
                row[name] = random.uniform(low, high - 1e-9, number)
        found.append(row)
    return found


def each(correction: Correction, row: dict[str, Any]) -> list[float] | None:
    """Object by object by correctionlib itself; None if its file has nothing for one of them."""
    whole = plain(correction.file.path)
    evaluator = whole.compound[correction.name] if correction.is_compound else whole[correction.name]
    length = max((len(values) for values in row.values() if isinstance(values, np.ndarray)), default=1)
    made = []
    for place in range(length):
        at = {key: values[place].item() if isinstance(values, np.ndarray) else values for key, values in row.items()}
        try:
            made.append(evaluator.evaluate(*(at[name] for name in correction.inputs)))
        except Exception:
            return None
    return made


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.parts[-3:]))
def test_arrays_have_what_correctionlib_says_of_each_object(path: Path) -> None:
    file, compared = CorrectionFile(path), 0
    names = file.names if len(file.names) < 15 else file.names[:2] + file.names[2::9]
    for name in names:
        correction = file[name]
        for row in some_inputs(correction):
            expected = each(correction, row)
            if expected is None:
                with pytest.raises(NanoMLError, match=name):
                    correction(**row)
                continue
            assert np.array_equal(np.atleast_1d(correction(**row)), expected)
            counts = [3, 0, 4, 5]
            lists = {key: ak.unflatten(v, counts) if isinstance(v, np.ndarray) else v for key, v in row.items()}
            if any(isinstance(values, ak.Array) for values in lists.values()):
                ragged = correction(**lists)
                assert ak.num(ragged).tolist() == counts
                assert np.array_equal(ak.flatten(ragged), expected)
            compared += 1
    assert compared


def test_a_value_has_the_shape_of_its_inputs(muon: Correction) -> None:
    one = muon(0.1, 20, "nominal")
    assert isinstance(one, float)
    assert one == muon(np.array([0.1]), 20.0, "nominal")[0]
    assert muon(np.full((2, 3), 0.5), np.full((1, 3), 50.0), "nominal").shape == (2, 3)
    assert len(muon(np.array([]), np.array([]), "nominal")) == 0
    assert muon(ak.Array([[], []])[:, :0], 40.0, "nominal").tolist() == [[], []]
    found = muon(ak.Array([[[0.1], []], [], [[1.0, 2.0]]]), 40.0, "nominal")
    first, second, third = (muon(eta, 40, "nominal") for eta in (0.1, 1.0, 2.0))
    assert found.tolist() == [[[first], []], [], [[second, third]]]


def test_a_value_of_the_event_holds_for_all_its_objects() -> None:
    scale = CorrectionFile(INVENTED / "2018" / "jets.json")["Invented2018_V1_MC_L1L2L3Res_AK4PF"]
    eta, pt = ak.Array([[0.5, -2.0], [], [1.4]]), ak.Array([[40.0, 50.0], [], [60.0]])
    found = scale(JetA=0.5, JetEta=eta, JetPt=pt, Rho=ak.Array([10.0, 20.0, 30.0]))
    assert found[0, 1] == scale(0.5, -2.0, 50.0, 10.0)
    assert found[2, 0] == scale(0.5, 1.4, 60.0, 30.0)


def test_objects_that_are_left_out_have_one(muon: Correction) -> None:
    eta, pt = ak.Array([[0.1, 3.0], [1.0]]), ak.Array([[5.0, 40.0], [40.0]])
    found = muon(eta, pt, "nominal", where=(pt > 15) & (abs(eta) < 2.4))
    assert found.tolist() == [[1.0, 1.0], [muon(1.0, 40.0, "nominal")]]


def test_pt_beyond_the_last_bin_takes_the_last_bin(tmp_path: Path) -> None:
    text = (INVENTED / "2018" / "muon.json").read_text()
    (tmp_path / "muon.json").write_text(text.replace("120.0,Infinity]", "120.0,500.0]"))
    muon = CorrectionFile(tmp_path / "muon.json")[MUON]
    assert muon(0.1, 1e6, "nominal") == muon(0.1, 499.0, "nominal")
    with pytest.raises(NanoMLError, match="The file covers it from 15 to 500"):
        muon(0.1, 10.0, "nominal")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda muon: muon(0.1, 20, "nominl"), r'scale_factors is "nominl". Did you mean "nominal"\? It may be nominal, systup, systdown'),
        (lambda muon: muon(np.array([]), np.array([]), "up"), 'scale_factors is "up"'),
        (
            lambda muon: muon(np.zeros(3), np.array([20.0, 12.5, 20.0]), "nominal"),
            r"pt is 12.5, of one of 3 objects \(.*eta = 0.*\). The file covers it from 15",
        ),
        (lambda muon: muon(2.5, 20, "nominal"), "has nothing for eta = 2.5, pt = 20"),
        (lambda muon: muon(0.1, 20), "got 2 inputs: it needs eta, pt, scale_factors"),
        (lambda muon: muon(0.1, 20, "nominal", phi=1), "has no input phi: it needs eta, pt, scale_factors"),
        (lambda muon: muon(np.array([np.nan, 0.1]), 20.0, "nominal"), "eta is NaN or infinite for 1 of 2 objects"),
        (lambda muon: muon("nominal", 20, 0.1), 'eta is a number, not "nominal"'),
        (lambda muon: muon(0.1, 20, np.array([1.0])), "scale_factors is one text for all objects. It may be nominal"),
        (lambda muon: muon(ak.Array([[0.1], []]), ak.Array([[20.0], [30.0]]), "nominal"), "eta and pt have different numbers of objects"),
    ],
)  # fmt: skip
def test_a_mistake_is_explained(muon: Correction, call: Callable[[Correction], Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        call(muon)


def test_integers_must_be_integers() -> None:
    shape = CorrectionFile(INVENTED / "2018" / "btagging.json")["deepJet_shape"]
    with pytest.raises(NanoMLError, match="flavor has values that are not integers"):
        shape("central", np.array([4.5]), 0.1, 50.0, 0.5)
    with pytest.raises(NanoMLError, match="flavor is 3, of one of 1 objects .* It may be 0, 4, 5"):
        shape("central", np.array([3]), 0.1, 50.0, 0.5)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8bnonsense", b"\xff\xfe", b'{"schema_version": 1}'])
def test_what_is_no_file_of_corrections_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"wrong.json: (is not a file of correctionlib|cannot be read)"):
        CorrectionFile(tmp_path / "wrong.json")


def test_a_name_without_end_is_refused(tmp_path: Path) -> None:
    data = {
        "name": "NUM_" + "ID_DEN_" * 20_000,
        "version": 1,
        "inputs": [],
        "output": {"name": "w", "type": "real"},
        "data": 1.0,
    }
    with pytest.raises(ConfigError, match=r"long.json: a correction has a name of more than 1000 characters"):
        _ = CorrectionFile(write(tmp_path / "long.json", data)).names


def test_the_invented_files_are_what_their_program_writes(tmp_path: Path) -> None:
    import runpy

    runpy.run_path(str(INVENTED / "invented.py"))["write"](tmp_path)
    for path in INVENTED.glob("*/*.json"):
        assert path.read_text() == (tmp_path / path.relative_to(INVENTED)).read_text()
        assert "INVENTED" in path.read_text()
