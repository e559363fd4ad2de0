from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
import pytest
from conftest import DATA

from MLTools.NanoML.corrections import Corrections, missing_momentum, xy
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Events
from services import invented

JME = DATA / "corrections" / "POG" / "JME"


def read(folder: Path, text: str) -> xy.XYCorrections:
    (folder / "era.yaml").write_text(f"met_xy: {{{text}}}")
    found: xy.XYCorrections = Corrections.read(folder / "era.yaml").met_xy
    return found


def events_of(path: Path, missing: str, *more: str) -> Events:
    with RootFile(path) as opened:
        return Events(dict(opened.read([*xy.branches(missing), *more])), {})


def rows(events: Events, missing: str, *counts: str) -> list[tuple[float, ...]]:
    names = (f"{missing}_pt", f"{missing}_phi", *counts)
    return [tuple(map(float, row)) for row in zip(*(np.asarray(events[name]) for name in names))]


@pytest.mark.parametrize(
    ("era", "file", "missing", "is_data"),
    [
        ("2017_UL", "nano_v9_mc_ul17_dy", "MET", False),
        ("2017_UL", "nano_v5_mc_ttbar_1000", "PuppiMET", False),
        ("2018_UL", "nano_v9_mc_ul17_dy", "MET", False),
        ("2018_UL", "nano_v6_data_dimuon_run315267", "MET", True),
        ("2018_UL", "nano_v6_data_dimuon_run315267", "PuppiMET", True),
    ],
)
def test_files_of_run_2_event_by_event(
    era: str, file: str, missing: str, is_data: bool, tmp_path: Path, real_files: dict[str, Path]
) -> None:
    path = JME / era / "met.json.gz"
    if not path.is_file():
        pytest.skip(f"no file {path}: name the directory of real files by NANOML_TEST_DATA")
    entry, events = read(tmp_path, f"file: {path}, missing_momentum: {missing}"), events_of(real_files[file], missing)
    whole, kind = correctionlib.CorrectionSet.from_file(str(path)), "puppimet" if missing == "PuppiMET" else "pfmet"
    found = xy.corrected(events, entry, is_data)
    for quantity in ("pt", "phi"):
        plain = whole[f"{quantity}_metphicorr_{kind}_{'data' if is_data else 'mc'}"]
        expected = [plain.evaluate(*row) for row in rows(events, missing, "PV_npvs", "run")]
        assert np.allclose(found[f"{missing}_{quantity}"], expected, rtol=1e-7)
    assert not np.allclose(found[f"{missing}_pt"], events[f"{missing}_pt"])


def write_run3(path: Path) -> None:
    """In the layout of JME's met_xyCorrections of Run 3, of which no copy is here."""
    texts = ("pt_phi", "met_type", "epoch", "dtmc", "variation")
    inputs = {**dict.fromkeys(texts, "string"), **dict.fromkeys(("met_pt", "met_phi", "npvGood"), "real")}
    names = ["met_pt", "met_phi", "npvGood"]

    def keys(shift: float) -> Any:
        formulas = {"pt": f"x+{shift}*z", "phi": f"y+0.001*{shift}*z"}
        return {
            quantity: {"nodetype": "formula", "parser": "TFormula", "expression": text, "variables": names}
            for quantity, text in formulas.items()
        }

    def nested(order: tuple[str, ...], chosen: dict[str, Any]) -> Any:
        if not order:
            quantity = chosen["pt_phi"]
            shift = {"nom": 0.1, "stat_xup": 0.2, "stat_xdn": 0.05, "pu_up": 0.3, "pu_dn": 0.02}[chosen["variation"]]
            return keys(shift + (1 if chosen["dtmc"] == "DATA" else 0) + (2 if chosen["met_type"] == "MET" else 0))[
                quantity
            ]
        choices = {
            "pt_phi": ["pt", "phi"],
            "met_type": ["MET", "PuppiMET"],
            "epoch": ["2022EE"],
            "dtmc": ["DATA", "MC"],
            "variation": ["nom", "stat_xup", "stat_xdn", *(["pu_up", "pu_dn"] if chosen.get("dtmc") == "MC" else [])],
        }
        return invented.category(
            order[0], {key: nested(order[1:], {**chosen, order[0]: key}) for key in choices[order[0]]}
        )

    data = nested(texts, {})
    content = {"schema_version": 2, "corrections": [invented.correction("met_xy_corrections", inputs, data)]}
    path.write_text(json.dumps(content))


ENTRY = "file: met.json, missing_momentum: PuppiMET, inputs: {epoch: 2022EE}, sources: [stat_x, pu]"


def test_files_of_run_3_event_by_event(tmp_path: Path, real_files: dict[str, Path]) -> None:
    write_run3(tmp_path / "met.json")
    plain = correctionlib.CorrectionSet.from_file(str(tmp_path / "met.json"))["met_xy_corrections"]
    entry, events = read(tmp_path, ENTRY), events_of(real_files["nano_v15_mc_ttbar"], "PuppiMET")
    nominal = xy.corrected(events, entry, is_data=False)
    cases = [("MC", "nom", nominal), ("DATA", "nom", xy.corrected(events, entry, is_data=True))]
    cases += [
        ("MC", key, xy.shifted(nominal, entry, *name.split()))
        for key, name in (("stat_xup", "met_stat_x up"), ("stat_xdn", "met_stat_x down"), ("pu_dn", "met_pu down"))
    ]
    for sample, key, found in cases:
        for quantity in ("pt", "phi"):
            expected = [
                plain.evaluate(quantity, "PuppiMET", "2022EE", sample, key, *row)
                for row in rows(events, "PuppiMET", "PV_npvsGood")
            ]
            assert np.allclose(found[f"PuppiMET_{quantity}"], expected, rtol=1e-7)


def test_the_shift_of_unclustered_energy_is_still_that_of_the_file(tmp_path: Path, real_files: dict[str, Path]) -> None:
    write_run3(tmp_path / "met.json")
    more = missing_momentum.unclustered_branches("PuppiMET")
    events = events_of(real_files["nano_v15_mc_ttbar"], "PuppiMET", *more)
    twice = xy.corrected(xy.corrected(events, read(tmp_path, ENTRY), False), read(tmp_path, ENTRY), False)

    def vector(of: Events, end: str = "") -> Any:
        return np.asarray(of[f"PuppiMET_pt{end}"]) * np.exp(1j * np.asarray(of[f"PuppiMET_phi{end}"]))

    pt, phi = missing_momentum.unclustered(twice, "up", "PuppiMET")
    assert np.allclose(pt * np.exp(1j * phi) - vector(twice), vector(events, "UnclusteredUp") - vector(events))


def test_an_entry_or_a_shift_that_cannot_be_is_an_error(tmp_path: Path, real_files: dict[str, Path]) -> None:
    write_run3(tmp_path / "met.json")
    events = events_of(real_files["nano_v15_mc_ttbar"], "PuppiMET")
    with pytest.raises(ConfigError, match="has no correction of pt of DeepMET for data"):
        read(tmp_path, "file: met.json, missing_momentum: DeepMET")
    with pytest.raises(ConfigError, match="sources: met_xy_corrections does not have stat_z, up and down"):
        read(tmp_path, ENTRY.replace("stat_x", "stat_z"))
    entry = read(tmp_path, ENTRY)
    with pytest.raises(
        NanoMLError, match='no shift "met_stat_y" up of the missing momentum. Known are met_stat_x, met_pu'
    ):
        xy.shifted(events, entry, "met_stat_y", "up")
    with pytest.raises(NanoMLError, match="call `corrected` in `prepare`"):
        xy.shifted(events, entry, "met_pu", "up")
