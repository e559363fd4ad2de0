from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.corrections import missing_momentum, xy
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Events
from services import invented, real
from services.real import DATA_V6, V9, check_refusals, era, nanoaod, plain, pog


def read(folder: Path, text: str) -> xy.XYCorrections:
    found: xy.XYCorrections = era(folder, f"met_xy: {{{text}}}").met_xy
    return found


def events_of(file: str, missing: str, *more: str) -> Events:
    """Events of a file; without one, invented ones of 2018."""
    if file:
        return real.events_of(nanoaod(file), [*xy.branches(missing), *more], 100)
    random = np.random.default_rng(3)
    columns = {name: random.uniform(-3.1, 3.1, 50) for name in (*xy.branches(missing), *more)}
    columns |= {name: 80 + 25 * values for name, values in columns.items() if "_pt" in name}
    columns |= {name: random.integers(1, 90, 50) for name in ("PV_npvs", "PV_npvsGood")}
    return Events({**columns, "run": random.integers(315252, 325273, 50)}, {})


def write_run2(path: Path) -> None:
    """In the layout of JME's met.json of Run 2, with invented numbers: bins of runs, outside of which nothing changes."""
    inputs, made = dict.fromkeys(("met_pt", "met_phi", "npvs", "run"), "real"), []
    vector = (
        "sqrt((x*cos(y)-({0}*z+{1}))^2+(x*sin(y)-({2}*z+{3}))^2)",
        "atan2(x*sin(y)-({2}*z+{3}),x*cos(y)-({0}*z+{1}))",
    )
    for kind, sample in ((kind, sample) for kind in ("pfmet", "puppimet") for sample in ("data", "mc")):
        numbers = [(0.26, -1.9, 0.04, -0.1), (0.43, -1.4, 0.06 * len(kind), 0.3 * len(sample))]
        for quantity, plain_one, expression in zip(("pt", "phi"), ("met_pt", "met_phi"), vector):
            here = [invented.formula(expression.format(*four), "met_pt", "met_phi", "npvs") for four in numbers]
            bins = [invented.formula("x", plain_one), *here]
            data = invented.binning("run", (0.0, 315252.0, 320000.0, 325274.0), bins, "error")
            made.append(invented.correction(f"{quantity}_metphicorr_{kind}_{sample}", inputs, data))
    invented.write(path, *made)


def rows(events: Events, missing: str, *counts: str) -> list[tuple[float, ...]]:
    names = (f"{missing}_pt", f"{missing}_phi", *counts)
    return [tuple(map(float, row)) for row in zip(*(np.asarray(events[name]) for name in names))]


@pytest.mark.parametrize(
    ("year", "file", "missing", "is_data"),
    [
        ("2017_UL", V9, "MET", False), ("2018_UL", DATA_V6, "MET", True), ("2018_UL", DATA_V6, "PuppiMET", True),
        ("", "", "MET", False), ("", "", "MET", True), ("", "", "PuppiMET", True),
    ],
)  # fmt: skip
def test_files_of_run_2_event_by_event(year: str, file: str, missing: str, is_data: bool, tmp_path: Path) -> None:
    path = pog(f"JME/{year}/met.json.gz") if year else tmp_path / "met.json"
    if not year:
        write_run2(path)
    entry, events = read(tmp_path, f"file: {path}, missing_momentum: {missing}"), events_of(file, missing)
    kind = "puppimet" if missing == "PuppiMET" else "pfmet"
    found = xy.corrected(events, entry, is_data)
    for quantity in ("pt", "phi"):
        one = plain(path)[f"{quantity}_metphicorr_{kind}_{'data' if is_data else 'mc'}"]
        expected = [one.evaluate(*row) for row in rows(events, missing, "PV_npvs", "run")]
        assert np.allclose(found[f"{missing}_{quantity}"], expected, rtol=1e-7)
    assert not np.allclose(found[f"{missing}_pt"], events[f"{missing}_pt"])


def test_data_of_another_era_are_an_error(tmp_path: Path) -> None:
    write_run2(tmp_path / "met.json")
    entry = read(tmp_path, "file: met.json")
    for run, said in ((299000, "has nothing for run 299000. Correct"), (359571, "run is 359571")):
        columns = {"MET_pt": [50.0, 60.0], "MET_phi": [1.0, 2.0], "run": [315300, run]}
        columns |= {name: [30, 20] for name in ("PV_npvs", "PV_npvsGood")}
        events = Events({name: np.array(values) for name, values in columns.items()}, {})
        with pytest.raises(NanoMLError, match=f"met.json: pt_metphicorr_pfmet_data:? {said}"):
            xy.corrected(events, entry, is_data=True)["MET_pt"]


def write_run3(path: Path) -> None:
    """In the layout of JME's met_xyCorrections of Run 3, of which no copy is here."""
    texts = ("pt_phi", "met_type", "epoch", "dtmc", "variation")
    inputs = {**dict.fromkeys(texts, "string"), **dict.fromkeys(("met_pt", "met_phi", "npvGood"), "real")}
    names_of_numbers = ("met_pt", "met_phi", "npvGood")

    shifts = {"nom": 0.1, "stat_xup": 0.2, "stat_xdn": 0.05, "pu_up": 0.3, "pu_dn": 0.02}
    choices = {"pt_phi": ["pt", "phi"], "met_type": ["MET", "PuppiMET"], "epoch": ["2022EE"], "dtmc": ["DATA", "MC"]}

    def nested(order: tuple[str, ...], chosen: dict[str, Any]) -> Any:
        if order:
            names = choices.get(order[0], [*shifts][: 5 if chosen.get("dtmc") == "MC" else 3])
            below = {name: nested(order[1:], {**chosen, order[0]: name}) for name in names}
            return invented.category(order[0], below)
        shift = shifts[chosen["variation"]] + (chosen["dtmc"] == "DATA") + 2 * (chosen["met_type"] == "MET")
        text = {"pt": f"x+{shift}*z", "phi": f"y+0.001*{shift}*z"}[chosen["pt_phi"]]
        return invented.formula(text, *names_of_numbers)

    data = nested(texts, {})
    invented.write(path, invented.correction("met_xy_corrections", inputs, data))


ENTRY = "file: met.json, missing_momentum: PuppiMET, inputs: {epoch: 2022EE}, sources: [stat_x, pu]"


def test_files_of_run_3_event_by_event(tmp_path: Path) -> None:
    write_run3(tmp_path / "met.json")
    one = plain(tmp_path / "met.json")["met_xy_corrections"]
    entry, events = read(tmp_path, ENTRY), events_of("", "PuppiMET")
    nominal = xy.corrected(events, entry, is_data=False)
    cases = [("MC", "nom", nominal), ("DATA", "nom", xy.corrected(events, entry, is_data=True))]
    cases += [
        ("MC", key, xy.shifted(nominal, entry, *name.split()))
        for key, name in (("stat_xup", "met_stat_x up"), ("stat_xdn", "met_stat_x down"), ("pu_dn", "met_pu down"))
    ]
    for sample, key, found in cases:
        for quantity in ("pt", "phi"):
            expected = [
                one.evaluate(quantity, "PuppiMET", "2022EE", sample, key, *row)
                for row in rows(events, "PuppiMET", "PV_npvsGood")
            ]
            assert np.allclose(found[f"PuppiMET_{quantity}"], expected, rtol=1e-7)


def test_the_shift_of_unclustered_energy_is_still_that_of_the_file(tmp_path: Path) -> None:
    write_run3(tmp_path / "met.json")
    more = missing_momentum.unclustered_branches("PuppiMET")
    events = events_of("", "PuppiMET", *more)
    twice = xy.corrected(xy.corrected(events, read(tmp_path, ENTRY), False), read(tmp_path, ENTRY), False)

    def vector(of: Events, end: str = "") -> Any:
        return np.asarray(of[f"PuppiMET_pt{end}"]) * np.exp(1j * np.asarray(of[f"PuppiMET_phi{end}"]))

    pt, phi = missing_momentum.unclustered(twice, "up", "PuppiMET")
    assert np.allclose(pt * np.exp(1j * phi) - vector(twice), vector(events, "UnclusteredUp") - vector(events))


def test_an_entry_or_a_shift_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    write_run3(tmp_path / "met.json")
    events = events_of("", "PuppiMET")
    with pytest.raises(ConfigError, match="has no correction of pt of DeepMET for data"):
        read(tmp_path, "file: met.json, missing_momentum: DeepMET")
    with pytest.raises(ConfigError, match="sources: met_xy_corrections does not have stat_z, up and down"):
        read(tmp_path, ENTRY.replace("stat_x", "stat_z"))
    entry, said = read(tmp_path, ENTRY), "the missing momentum. Known are met_stat_x, met_pu"
    check_refusals(lambda *shift: xy.shifted(events, entry, *shift), "met_pu", "met_stat_y", said)
