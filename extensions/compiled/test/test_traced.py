"""What cannot be compiled gives one error with the line, and is never compiled wrongly in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection.selection import load_selection
from services.compilation import traced

PROGRAM = """\
import math

import awkward as ak
import numpy as np

from MLTools.NanoML.selection import Selection


class Analysis(Selection):
    branches = ()
    columns = {}

    def select(self, events, cutflow):
        jets, muons, met, flat = events.Jet, events.Muon, events.MET, events.flat("Jet")
        LINE
        events = cutflow.cut("end", events.PV.npvs > 1, events)
        return events, {}
"""
NUMBER = PROGRAM[: PROGRAM.index("LINE")].count("\n") + 1

TRUTH, LENGTH, AXIS = "`if`, `and`, `or`, `not` and `in` on data", r"len\(\) is not known", "write axis=1"
FOREIGN, UNKNOWN = "does not come from the events", "cannot be compiled"
LINES = {
    "if met.pt > 5: pass": TRUTH,
    "x = 1 < met.pt < 5": TRUTH,
    "x = len(jets)": LENGTH,
    "x = len(jets.pt) == len(muons.pt)": LENGTH,
    "x = np.ones(len(flat))": LENGTH,
    "for jet in jets: pass": "a loop over events or objects",
    "x = 5 in jets.charge": "instead of `value in array`",
    "a, b = jets.pt": "a loop",
    "x = np.asarray(jets.pt, np.float32)": "Use ak.values_astype",
    "x = np.array(met.pt, dtype=int)": "Use ak.values_astype",
    "x = float(met.pt)": "a single number made of an array",
    "x = int(met.pt)": "a single number made of an array",
    "x = round(met.pt)": "a single number made of an array",
    "x = range(events.PV.npvs)": "a single number made of an array",
    "x = ak.sum(jets.pt)": AXIS,
    "x = ak.sum(met.pt, axis=0)": AXIS,
    "x = ak.num(jets, axis=0)": AXIS,
    "x = np.sum(met.pt)": AXIS,
    "x = met.pt - met.pt.max()": AXIS,
    "x = flat.counts.sum()": AXIS,
    "x = np.mean(flat.pt)": AXIS,
    "x = np.add.reduce(met.pt)": "np.add.reduce cannot be compiled",
    "x = np.add(met.pt, 1, where=met.pt > 1)": "np.add with where",
    "x = np.min([met.pt, met.phi], axis=0)": r"ak.min\(\[x, y, z\], axis=0\)",
    "x = np.stack([met.pt, met.phi], axis=1)": "np.stack cannot be compiled",
    "x = ak.min([jets.pt, jets.eta], axis=0)": "ak.min of a list of arrays",
    "met.pt[met.pt > 5] = 0": "cannot be changed in place",
    "pt = met.pt; pt += 1": "cannot be changed in place",
    "np.multiply(met.pt, 2, out=met.pt)": "cannot be changed in place",
    "jets.number = 1": "number",
    "x = jets.pt[0]": "events are picked by their number",
    "x = met.pt[:10]": "events are picked by their number",
    "x = jets[[0, 2]]": "events are picked by their number",
    "x = met.pt[np.argsort(met.pt)]": AXIS,
    "x = met.pt[events.PV.npvs]": "events are picked by numbers",
    "x = flat.pt[:3]": "objects of all events in one row",
    "events = cutflow.cut('one', met.pt > 1, events); x = met.pt + events.MET.pt": "was computed before a cut",
    "events = cutflow.cut('one', met.pt > 1, events); x = flat.keep(events.flat('Jet').good)": "was computed before a cut",
    "events = cutflow.cut('one', met.pt > 1, events); x = ak.zip([met.pt, events.MET.pt])": "was computed before a cut",
    "events = cutflow.cut('one', met.pt > 1, events); cutflow.cut('two', met.phi > 1, events)": "before an earlier cut",
    "x = events[met.pt > 1]; y = x[met.phi > 1]": "before a cut",
    "cutflow.cut('one', True, events)": "the mask does not come from the events",
    "x = ak.from_regular(jets.pt)": r"ak.from_regular cannot be compiled. These can: all, any",
    "x = met.pt.tolist()": "`.tolist` of an array cannot be compiled",
    "x = jets.pt.layout": "`.layout` of an array cannot be compiled",
    "x = np.histogram(ak.to_numpy(met.pt))": "np.histogram cannot be compiled",
    "x = np.frompyfunc(lambda each: each, 1, 1)(met.pt)": UNKNOWN,
    "x = np.vectorize(lambda each: each)(met.pt)": UNKNOWN,
    "x = met.pt @ met.pt": "np.matmul cannot be compiled",
    "x = jets.rotateZ": "`.rotateZ` of vectors cannot be compiled. These can",
    "x = jets.nothing": "nothing",
    "x = np.sin(jets)": "no numpy.sin",
    "x = met.pt + np.arange(40.0)": FOREIGN,
    "x = met.pt * ak.Array(np.arange(40.0))": FOREIGN,
    "x = ak.where(met.pt > 1, np.zeros(40), met.pt)": FOREIGN,
    "x = jets.pt * ak.Array([[1.0]] * 40)": "cannot broadcast",
    "x = np.random.default_rng(1).normal(size=met.pt.shape)": "`.shape`",
    "x = np.random.default_rng(1).normal(met.pt)": UNKNOWN,
    "x = getattr(met.pt, '_numba_type_')": "numba",
    "x = flat.pt * met.pt": "pick by `.event`",
    "x = jets.pt + flat.pt": "pick by `.event`",
    "x = flat.keep(events.HLT.A)": "pick by `.event`",
    "x = flat.with_columns(a=met.pt)": "pick by `.event`",
    "x = flat.event % 2": "computes with positions of objects",
    "jets = flat[flat.counts > 0]; x = jets.largest(jets.pt) + 1": "computes with positions of objects",
    "x = np.sqrt(jets.id)": "16-bit",
    "x = ak.sum(jets.id, axis=1) - 500": "unsigned 64-bit",
    "x = ak.is_none(jets.pt)": "give the axis of the missing values",
    "x = ak.concatenate([met.pt, met.phi])": "puts events together",
    "x = ak.cartesian([jets.pt, muons.pt, jets.eta])": "of 3 arrays",
    "x = ak.where(met.pt > 1)": "`where` with a condition alone",
    "x = ak.drop_none(ak.firsts(jets.pt))": "drops events",
    "x = jets.charge & jets.charge": "need a constant",
    "x = jets.pt[jets.mask[jets.good].pt > 1]": "missing values",
    "events.replaced(['MET_pt'], met.pt)": "in `prepare`",
    "events.before('MET_pt')": "reads the corrected values alone",
    "x = events.rows % 2": "treats each event alike",
}


@pytest.mark.parametrize("line", LINES)
def test_what_cannot_be_compiled_is_an_error_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "analysis.py"
    path.write_text(PROGRAM.replace("LINE", line))
    with pytest.raises(NanoMLError, match=LINES[line]) as caught:
        traced(load_selection(f"{path}:Analysis"))
    assert str(caught.value).startswith(f"{path}:{NUMBER}: Analysis: ")


def test_other_lines_are_compiled(tmp_path: Path) -> None:
    path = tmp_path / "analysis.py"
    path.write_text(PROGRAM.replace("LINE", "x = met.pt + 1"))
    assert traced(load_selection(f"{path}:Analysis")).cuts == ("end",)
