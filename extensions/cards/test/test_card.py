"""Datacards as workspaces and back: our own are equal everywhere, those of others at nuisance parameters of 0 and ±1."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

pytest.importorskip("jax")
pytest.importorskip("mplhep")
pytest.importorskip("pyhf")
pytest.importorskip("statistical_analysis.fit")

import pyhf
from scipy.optimize import minimize_scalar

from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.cards.card import read_card
from MLTools.NanoML.extensions.cards.translation import model_in, translate
from MLTools.NanoML.rootio.histograms import root_histogram
from services.workspaces import free, sample, several
from statistical_analysis.inference import infer
from statistical_analysis.likelihood import _INTERPOLATION
from statistical_analysis.model import Range, StatisticalModel, statistical_model
from statistical_analysis.workspace import for_combine, workspace, write_datacard

Luminosity = dict[str, dict[str, LogNormal]]


def assert_equal_likelihoods(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two workspaces have the same parameters and, at 8 random points, the same likelihood of their data."""
    pyhf.set_backend("numpy")
    found = []
    for content in (one, other):
        workspace = pyhf.Workspace(content)
        made, random, values = workspace.model(), np.random.default_rng(1), []
        for _ in range(8):
            at = np.zeros(made.config.npars)
            for name in sorted(made.config.par_order):
                place, parameters = made.config.par_slice(name), made.config.param_set(name)
                width = parameters.width() if parameters.constrained else [0.3] * parameters.n_parameters
                at[place] = parameters.suggested_init + random.normal(0, 0.7, len(width)) * width
            values.append(float(made.logpdf(at, workspace.data(made))[0]))
        found.append((sorted(made.config.par_names), values))
    (names, values), (same_names, same_values) = found
    assert same_names == names
    assert len({*values}) == 8
    assert np.isfinite(values).all()
    assert same_values == pytest.approx(values, rel=1e-9, abs=1e-6)


@pytest.fixture(params=["one", "several"])
def model(request: Any, templates: Templates, settings: Fit, luminosity: Luminosity) -> StatisticalModel:
    if request.param == "several":
        settings = replace(settings, signals={"mu_W": ["signal"], "mu_VV": ["WZ", "ZZ"]}, free=[])
    return statistical_model(templates, settings, luminosity, ["fakes"], asimov=0.5)


def test_our_card_is_our_workspace_there_and_back(model: StatisticalModel, tmp_path: Path) -> None:
    ours = workspace(model)
    found = read_card(write_datacard(model, tmp_path / "a"))
    assert workspace(found)["measurements"] == ours["measurements"]
    assert_equal_likelihoods(ours, workspace(found))
    assert found.groups == model.groups
    assert [(it.title, it.edges) for it in found.channels] == [(it.title, it.edges) for it in model.channels]
    back = read_card(write_datacard(model_in(ours, Path("workspace.json")), tmp_path / "b"))
    assert_equal_likelihoods(ours, workspace(back))
    (said,) = (it.what for it in found.remarks if it.what.startswith("shape is equal but between 0 and ±1"))
    assert ": jes (line " in said


CARD = """\
Some other program made this
imax *  number of channels
jmax *
kmax *
----------
shapes *    SR  shapes.root $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC  # a comment
shapes sig* SR  other.root  nothing
shapes sig  SR  shapes.root $CHANNEL/H$MASS $CHANNEL/H$MASS_$SYSTEMATIC
shapes *    one FAKE
----------
bin          SR  one
observation  -1  7
----------
bin      SR   SR   SR   one  one   one
process  -2   1    2    -2   1     3
process  sig  tt   dy   sig  tt    fake
rate     3    -1   20   2    4     1.2
----------
lumi   lnN      1.02  1.02   -        1.02  1.02  0    # of all
xs     lnN      -     -      0.8/1.1  -     -     -
scale  shape    -     1      0.5      -     -     -
tune   shapeN2  -     -      -        -     -     -
both   shape?   -     1      -        -     1.3   -
flat   lnU      -     -      -        -     2     -
side   gmN 6    -     -      -        -     -     0.2
norm   rateParam S*  dy 1.1 [0.5,2]
norm   rateParam one t* 1.1 [0.5,2]
eff    rateParam *  sig 1
eff    param 0.9 -0.09/+0.18
theory group = xs scale
theory group += unknown
SR autoMCStats 5 1
"""
CONTENTS = {
    "data_obs": [9, 12, 30, 0], "H125": [0.5, 1, 1.5, 0], "tt": [10, 8, 6, 0], "tt_scaleUp": [11, 9, 7, 0],
    "tt_scaleDown": [9.5, 7, 5, 0], "tt_bothUp": [10, 8, 7, 0], "tt_bothDown": [10, 8, 5.5, 0], "dy": [5, 5, 10, 0],
    "dy_scaleUp": [8, 6, 10, 0], "dy_scaleDown": [4, 4, 8, 0], "nan": [1, np.nan, 1, 0],
}  # fmt: skip


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    (tmp_path / "card.txt").write_text(CARD)
    with uproot.recreate(tmp_path / "shapes.root") as file:
        for name, contents in CONTENTS.items():
            values = np.array([0.0, *contents, 0.0])
            file[f"SR/{name}"] = root_histogram(name, "", [("mass", [0, 1, 2, 4, 5])], values, 0.1 * values)
    return tmp_path / "card.txt"


def expected(made: Any, **changed: float) -> dict[str, Any]:
    config = made.config
    at = np.array(config.suggested_init(), float)
    for name, value in changed.items():
        at[config.par_slice(name)] = value
    found = np.array(made.main_model.expected_data(pyhf.tensorlib.astensor(at.tolist()), return_by_sample=True))
    slices, samples = config.channel_slices.items(), [*enumerate(config.samples)]
    return {f"{channel} {process}": found[number, bins] for channel, bins in slices for number, process in samples}


def test_a_card_of_others_at_0_and_1(foreign: Path) -> None:
    pyhf.set_backend("numpy")
    model = read_card(foreign, "125")
    made = pyhf.Workspace(workspace(model)).model()

    def at(**changed: float) -> dict[str, Any]:
        return expected(made, **{"norm": 1.0, **changed})

    tt, dy = np.array(CONTENTS["tt"][:3], float), np.array(CONTENTS["dy"][:3], float)
    nominal = at()
    assert nominal["SR sig"] == pytest.approx(0.9 * np.array([0.5, 1, 1.5]))  # a bin without anything is left out
    assert (nominal["SR tt"], nominal["SR dy"]) == (pytest.approx(tt), pytest.approx(dy))
    assert [nominal[f"one {it}"].tolist() for it in ("sig", "tt", "fake")] == [[1.8], [4.0], [pytest.approx(1.2)]]
    for sign, factor in ((1, 1.02), (-1, 1 / 1.02)):
        found = at(lumi=sign)
        assert found["SR tt"] == pytest.approx(factor * tt)
        assert (found["SR dy"], found["one tt"]) == (pytest.approx(dy), pytest.approx([4 * factor]))
    assert at(xs=1)["SR dy"] == pytest.approx(1.1 * dy)
    assert at(xs=-1)["SR dy"] == pytest.approx(0.8 * dy)
    assert at(scale=1)["SR tt"] == pytest.approx([11, 9, 7])
    assert at(scale=-1)["SR tt"] == pytest.approx([9.5, 7, 5])
    # templates at two sigma: the root of the change of the yield, and half of that of the shape, as Combine has them
    assert at(scale=1)["SR dy"] == pytest.approx(20 * (24 / 20) ** 0.5 * (dy / 20 + np.array([8, 6, 10]) / 24) / 2)
    assert at(scale=-1)["SR dy"] == pytest.approx(20 * (16 / 20) ** 0.5 * (dy / 20 + np.array([4, 4, 8]) / 16) / 2)
    assert (at(both=1)["SR tt"], at(both=1)["one tt"]) == (pytest.approx([10, 8, 7]), pytest.approx([5.2]))
    assert at(both=-1)["one tt"] == pytest.approx([4 / 1.3])
    assert at(flat=2.0)["one tt"] == pytest.approx([8])
    assert made.config.param_set("flat").suggested_bounds == [[0.5, 2]]
    assert (at(norm=1.5)["SR dy"], at(norm=1.5)["one tt"]) == (pytest.approx(1.5 * dy), pytest.approx([6]))
    assert made.config.param_set("norm").suggested_bounds == [[0.5, 2]]
    assert made.config.param_set("norm").suggested_init == [1.1]
    assert [at(eff=it)["one sig"][0] for it in (1, -1)] == pytest.approx([2 * 1.08, 2 * 0.81])
    # six events are counted, and each stands for 0.2
    doubled = at(side=2.0)
    assert (doubled["one fake"], doubled["side_events side"]) == (pytest.approx([2.4]), [12])
    assert made.config.param_set("mcstat_SR").width() == pytest.approx(np.sqrt(0.1 / (tt + dy)))
    data = {it["name"]: it["data"] for it in workspace(model)["observations"]}
    assert data == {"SR": [9, 12, 30], "one": [7], "side_events": [6]}
    assert model.groups["theory"] == ("xs", "scale")
    what = [it.what for it in model.remarks if it.kind == "translated"]
    assert "gmN is equal everywhere: a channel of its own, in which the events are counted: side (line 25)" in what
    last = "bin 4 is not fitted, since nothing is expected there, and 0 events of data are there"
    assert [it.what for it in model.remarks if it.channel == "SR"][-1] == last


def test_between_and_beyond(foreign: Path) -> None:
    """Combine: log-normals are exponential, their up and down pass over into each other within half a sigma; shapes within one."""
    pyhf.set_backend("numpy")
    made = pyhf.Workspace(workspace(read_card(foreign, "125"))).model(modifier_settings=_INTERPOLATION)
    tt, dy = np.array(CONTENTS["tt"][:3], float), np.array(CONTENTS["dy"][:3], float)
    up, down = (np.array(CONTENTS[f"tt_scale{it}"][:3], float) for it in ("Up", "Down"))
    for at in (-2.5, -1.3, -0.6, -0.4, 0.2, 0.7, 1.0, 3.0):
        found = expected(made, norm=1.0, lumi=at, xs=at)
        assert found["SR tt"] == pytest.approx(tt * 1.02**at, rel=1e-9)
        asymmetric = 1.1**at if at > 0 else 0.8**-at
        assert found["SR dy"] == pytest.approx(dy * asymmetric, rel=1e-9 if abs(at) >= 1 else 0.03)
        step = at * (at**2 * (3 * at**2 - 10) + 15) / 8 if abs(at) < 1 else np.sign(at)
        high, low = up / up.sum() - tt / tt.sum(), down / down.sum() - tt / tt.sum()
        shape = tt / tt.sum() + at / 2 * (high - low + step * (high + low))
        got = expected(made, norm=1.0, scale=at)["SR tt"]
        assert got / got.sum() == pytest.approx(shape, rel=1e-9)
        if abs(at) >= 1:
            assert got.sum() == pytest.approx(24 * ((up if at > 0 else down).sum() / 24) ** abs(at))


def test_nothing_was_counted(tmp_path: Path) -> None:
    card = "imax 1\nObservation 2\nbin 1 1 1\nprocess 0 1 2\nprocess S B tt\nrate 1 0 3\n1 lnN - - 1.1\nside gmN 0 - 0.3 -\n"
    (tmp_path / "card.txt").write_text(card)
    made = pyhf.Workspace(workspace(read_card(tmp_path / "card.txt"))).model()
    assert expected(made)["1 B"] == [0]
    assert expected(made, side=2.0)["1 B"] == pytest.approx([0.6])


def test_nothing_was_counted_where_no_other_background_is(tmp_path: Path) -> None:
    """The Poisson likelihood of 2 events for 3 mu + 0.3 n, and of no event for n."""
    card = "imax 1\nObservation 2\nbin 1 1\nprocess 0 1\nprocess S B\nrate 3 0\nside gmN 0 - 0.3\n"
    (tmp_path / "card.txt").write_text(card)
    model = read_card(tmp_path / "card.txt")
    found = infer(workspace(model), "with data", False, model.groups, "never")

    def twice_nll(strength: float) -> float:
        at = minimize_scalar(lambda n: _twice_nll(2, 3 * strength + 0.3 * n) + _twice_nll(0, n), bounds=(0, 20))
        return float(at.fun)

    assert found.strength.value == pytest.approx(2 / 3, abs=1e-4)
    assert found.significance.observed == pytest.approx(twice_nll(0) ** 0.5, abs=1e-3)
    assert found.significance.observed == pytest.approx((4 * np.log(1.3 / 0.3)) ** 0.5, abs=1e-3)
    for strength, value in zip(found.scan.strength, found.scan.likelihood, strict=True):
        assert value == pytest.approx(twice_nll(strength), abs=2e-3)
    assert [it.error for it in found.parameters if it.name == "side"] == [None]  # at the end of its range


def _twice_nll(seen: int, events: float) -> float:
    return 2 * (events - seen + (seen * np.log(seen / events) if seen else 0))


def templates_of(path: Path, **contents: list[float]) -> None:
    with uproot.recreate(path) as file:
        for name, values in contents.items():
            padded = np.array([0.0, *values, 0.0])
            file[name] = root_histogram(name, "", [("x", [0, 1, 2, 3])], padded, np.abs(padded))


SHAPES = """\
imax 1
shapes * * shapes.root $PROCESS $PROCESS_$SYSTEMATIC
bin SR
observation -1
bin SR SR
process S B
process 0 1
rate -1 -1
tilt shape - 1
"""


@pytest.mark.parametrize(("flag", "scale", "after"), [("", 10 / 12, 10), ("* autoMCStats 0\n", 1.0, 12)])
def test_negative_bins_are_those_of_combine(flag: str, scale: float, after: int, tmp_path: Path, capsys: Any) -> None:
    """FastVerticalInterpHistPdf2 sets them to nothing and normalises; CMSHistFunc, for autoMCStats, does not normalise."""
    contents = {"S": [1.0, 2, 3], "B": [8.0, -2, 4], "B_tiltUp": [9.0, -1, 4], "B_tiltDown": [7.0, -3, 4]}
    templates_of(tmp_path / "shapes.root", data_obs=[9, 1, 7], **contents)
    (tmp_path / "card.txt").write_text(SHAPES + flag)
    _, model = translate(tmp_path / "card.txt", tmp_path, is_blind=True)
    background = model.channels[0].samples[1]
    assert background.nominal == pytest.approx(scale * np.array([8, 0, 4]))
    assert background.shapes["tilt"].down == pytest.approx(np.array([7, 0, 4]) * (1 if flag else 8 / 11))
    said = capsys.readouterr().err
    assert f"SR: B: B: negative bins are zero for Combine (-2 in bin 2): 10 events are {after} now" in said
    assert "B_tiltDown: negative bins" in said  # by which more than a tenth changes
    templates_of(tmp_path / "shapes.root", data_obs=[9, -1, 7], **contents)
    with pytest.raises(NanoMLError, match="card.txt:4: observation -1 for SR: -1 events cannot be observed, as in bin"):
        read_card(tmp_path / "card.txt")


def test_shapes_of_another_size_and_rules_in_any_order(tmp_path: Path) -> None:
    """A size is the deviation of the parameter in units of which templates are given; a rule for the bin comes before one for all."""
    contents = {"S": [1.0, 2, 3], "B": [8.0, 2, 4], "B_tiltUp": [9.0, 2, 4], "B_tiltDown": [7.0, 2, 4]}
    templates_of(tmp_path / "shapes.root", data_obs=[9, 1, 7], **contents)
    doubled = {name: [2 * it for it in each] for name, each in contents.items()}
    templates_of(tmp_path / "other.root", data_obs=[9, 1, 8], **doubled)
    (tmp_path / "card.txt").write_text(SHAPES.replace("- 1", "- 2"))
    moved = read_card(tmp_path / "card.txt").channels[0].samples[1].shapes["tilt"]
    old, new, yields = np.array([8, 2, 4]) / 14, np.array([9, 2, 4]) / 15, 14 * (15 / 14) ** 2
    assert moved.up == pytest.approx(yields * (old + 2 * (new - old)))
    rules = ["shapes B * other.root $PROCESS $PROCESS_$SYSTEMATIC", SHAPES.splitlines()[1].replace("* *", "* SR")]
    for order in (rules, rules[::-1]):  # the bin has rules of its own, and these for any process
        (tmp_path / "card.txt").write_text(SHAPES.replace(SHAPES.splitlines()[1], "\n".join(order)))
        assert read_card(tmp_path / "card.txt").channels[0].samples[1].nominal.tolist() == [8, 2, 4]
    (tmp_path / "card.txt").write_text(SHAPES.replace("bin SR\nobs", f"{rules[0]}\nbin SR\nobs"))
    assert read_card(tmp_path / "card.txt").channels[0].samples[1].nominal.tolist() == [16, 4, 8]


@pytest.mark.parametrize(("flag", "errors"), [("0", [8, 2, 4]), ("-1", [0, 0, 0]), ("10 0 1", [8, 2, 4])])
def test_statistical_errors_are_those_that_the_card_asks_for(flag: str, errors: list[float], tmp_path: Path) -> None:
    """A threshold of 0 has a parameter for each bin; below 0 there are none."""
    contents = {"S": [1.0, 2, 3], "B": [8.0, 2, 4], "B_tiltUp": [9.0, 2, 4], "B_tiltDown": [7.0, 2, 4]}
    templates_of(tmp_path / "shapes.root", data_obs=[9, 1, 7], **contents)
    (tmp_path / "card.txt").write_text(f"{SHAPES}* autoMCStats {flag}\n")
    assert read_card(tmp_path / "card.txt").channels[0].samples[1].errors == pytest.approx(np.sqrt(errors))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lumi   lnN", "lumi   trG", r"lumi trG cannot be translated: a workspace has no such thing"),
        ("norm   rateParam S*  dy 1.1 [0.5,2]", "norm rateParam S* dy (@0*@1) a,b", r"norm rateParam is an expression"),
        ("norm   rateParam S*  dy 1.1 [0.5,2]", "norm rateParam S* dy w.root:w", r"norm rateParam is an expression, or from a"),
        ("eff    param 0.9", "ef param 0.9", r"ef param is not a rateParam: a parameter of RooFit"),
        ("shapes *    SR  shapes.root $CHANNEL/", "shapes * SR shapes.root w:", r"shapes \* \(shapes.root w:tt\) is not a histogram of a"),
        ("0.8/1.1", "0.8/x", r"xs lnN has something else than numbers"),
        ("0.8/1.1", "-0.8/1.1", r"xs lnN has -0.8/1.1, which is not positive"),
        ("scale  shape    -     1      0.5", "scale  shape  -  1  1e20", r"scale shape has 1e20 for dy in SR, of which no number"),
        ("scale  shape    -     1", "scale  shape    1     1", r"scale shape has no templates of sig in SR"),
        ("rate     3 ", "rate     5 ", r"rate 5 for sig in SR: 5 is not the sum of its template, 3"),
        ("observation  -1 ", "observation  40 ", r"observation 40 for SR: 40 is not the sum of its template, 51"),
        ("observation  -1  7", "observation  -1  -1", r"observation -1 for one: -1 is not the sum of its template, which is missing"),
        ("rate     3    -1   20   2    4 ", "rate 3 -1 20 2 -4 ", r"rate 3 for tt in one: -4 is not .* which is missing"),
        ("rate     3    -1 ", "rate     3 ", r"rate 3 has 5 columns, and bin 6"),
        ("flat   lnU      -     -      -        -     2 ", "flat lnU - - 1.5 - 2 ", "flat lnU has several sizes"),
        ("observation  -1  7", "observation  -1", r"observation -1 needs one number for each bin"),
        ("both   shape?   -     1  ", "scale  shape?   -     1  ", r"scale shape\? appears twice for tt in SR"),
        ("Some other program made this\nimax *  number of channels\njmax *\nkmax *\n", "rate 1\n", "is not a datacard of Combine"),
        ("imax *", "imax 3", r"imax 3 does not fit: there are 2 bins"),
        ("jmax *", "jmax 4", r"jmax 4 does not fit: there are 3 processes but one"),
        ("shapes sig  SR  shapes.root", "shapes sig SR none.root", r"shapes sig cannot be read: none.root is no file here"),
        ("$CHANNEL/H$MASS $", "$CHANNEL $", r"shapes sig has no one-dimensional histogram SR in shapes.root"),
        ("H$MASS $CHANNEL", "nan $CHANNEL", r"shapes sig has no finite number in each bin of SR/nan in shapes.root"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_said_with_its_line(foreign: Path, old: str, new: str, said: str) -> None:
    assert old in CARD
    foreign.write_text(CARD.replace(old, new))
    line = 1 + CARD[: CARD.index(old)].count("\n")
    with pytest.raises(NanoMLError, match=rf"card.txt:{f'{line}: ' if line > 1 else ' '}{said}"):
        read_card(foreign, "125")


@pytest.mark.parametrize(
    "address", ["http://h.invalid/x.root", "root://h.invalid//x.root", "simplecache::shapes.root", "file:shapes.root"]
)
def test_no_address_is_opened(address: str, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by uproot, if the card is in the working directory."""
    monkeypatch.chdir(foreign.parent)
    foreign.write_text(CARD.replace("shapes sig  SR  shapes.root", f"shapes sig SR {address}"))
    message = r"^card.txt:8: shapes sig cannot be read: .* no address is opened. Copy it beside"
    with pytest.raises(NanoMLError, match=message):
        read_card(Path(foreign.name), "125")


def test_damaged_templates(foreign: Path) -> None:
    templates = foreign.with_name("shapes.root")
    templates.write_bytes(templates.read_bytes()[:-1500])
    with pytest.raises(NanoMLError, match=r"card.txt:\d: shapes \S+ cannot be read: \S+ in shapes.root"):
        read_card(foreign, "125")


def test_a_long_card_is_read(foreign: Path) -> None:
    """In time that grows with its length, not with the square."""
    foreign.write_text(f"# text2workspace.py {'map=.*/(' * 20_000}\n{CARD.replace('[0.5,2]', '[' + ',' * 20_000)}")
    with pytest.raises(NanoMLError, match="norm rateParam is an expression"):
        read_card(foreign, "125")


def test_two_lines_of_one_parameter_multiply(foreign: Path) -> None:
    foreign.write_text(CARD.replace("xs     lnN ", "lumi   lnN "))
    found = {it.process: it for it in read_card(foreign, "125").channels[0].samples}
    assert found["dy"].factors == {"lumi": LogNormal(1.1, 0.8)}
    foreign.write_text(CARD.replace("xs     lnN      -     - ", "lumi   lnN      -     1.1 "))
    found = {it.process: it for it in read_card(foreign, "125").channels[0].samples}
    assert found["tt"].factors["lumi"].up == pytest.approx(1.02 * 1.1)
    foreign.write_text(CARD.replace("1.1 [0.5,2]", "2"))
    assert read_card(foreign, "125").ranges["norm"] == Range(2.0, 0.0, 20.0)


def test_a_card_with_a_wrong_word_is_read_or_refused(foreign: Path) -> None:
    refused = 0
    for number, word in enumerate([*re.finditer(r"\S+", CARD)][::8]):
        foreign.write_text(f"{CARD[: word.start()]}{['', 'x', '1e999'][number % 3]}{CARD[word.end() :]}")
        try:
            workspace(read_card(foreign, "125"))
        except NanoMLError:
            refused += 1
    assert refused > 5


def test_a_mass_must_be_given(foreign: Path) -> None:
    with pytest.raises(NanoMLError, match=r"card.txt:8: shapes sig .* needs a mass: give it as --mass"):
        read_card(foreign)


def modifier(name: str, kind: str, data: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "data": data}


def test_a_workspace_of_others_as_a_card(tmp_path: Path) -> None:
    histosys = modifier("jes", "histosys", {"hi_data": [11.0, 21.0], "lo_data": [9.0, 20.0]})
    both = [histosys, modifier("jes", "normsys", {"hi": 1.2, "lo": 0.9}), modifier("lumi", "lumi", None)]
    stopped = modifier("stopped", "normsys", {"hi": 1.5, "lo": 0.5})
    background = sample("b", [10, 20], *both, modifier("own", "shapesys", [1, 0]), free("k"), free("fixed"), stopped)
    content = several({"SR": [sample("s", [1, 2], free("mu")), background]}, {"SR": [9, 25]}, "mu")
    content["measurements"][0]["config"]["parameters"] = [
        {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "inits": [1.0], "bounds": [[0.5, 1.5]]},
        {"name": "k", "inits": [0.7], "bounds": [[0.1, 3.0]]},
        {"name": "fixed", "inits": [1.5], "fixed": True},
        {"name": "stopped", "fixed": True},
    ]
    model = model_in(content, tmp_path)
    found = workspace(read_card(write_datacard(for_combine(model), tmp_path)))
    pyhf.set_backend("numpy")
    theirs, ours = (pyhf.Workspace(it).model() for it in (content, found))
    for at in ({}, {"jes": 1}, {"jes": -1}, {"k": 2.0}):
        assert expected(ours, **at)["SR b"] == pytest.approx(expected(theirs, **at)["SR b"])
    for sign in (1, -1):
        assert expected(ours, lumi=sign)["SR b"] == pytest.approx(expected(theirs, lumi=1 + 0.02 * sign)["SR b"])
    assert expected(ours, own_0=1)["SR b"] == pytest.approx(expected(theirs, own=[1.1, 1])["SR b"])
    assert "stopped" not in ours.config.par_names
    assert ours.config.param_set("k").suggested_bounds == [[0.1, 3]]
    content["channels"][0]["samples"][1]["modifiers"].append(modifier("mcstat", "staterror", [2.0, 1.0]))
    assert model_in(content, tmp_path).channels[0].samples[1].errors.tolist() == [3.0, 1.5]
    content["channels"][0]["samples"][1]["modifiers"].append(modifier("any", "shapefactor", None))
    with pytest.raises(NanoMLError, match="any of b, shapefactor, cannot be in a datacard"):
        model_in(content, tmp_path)


def test_files_of_a_translation(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written, _ = translate(foreign, tmp_path / "there", "125")
    said = capsys.readouterr().err
    assert "rateParam is equal in its range, which is from 0 to 10 times" in said
    assert "0 events of data" in said
    translate(foreign, tmp_path / "there", "125", is_blind=True)
    assert "events of data" not in capsys.readouterr().err
    assert translate(written, tmp_path / "back")[0] == tmp_path / "back/datacard.txt"
    assert read_card(tmp_path / "back/datacard.txt").channels[0].name == "SR"
