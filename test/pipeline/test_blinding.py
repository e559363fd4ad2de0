"""Ways in which a hurried user might see blind data, each tried as a user does; one small analysis is shared by all.

Before anything says what is blind (1 to 9): no fit section; a signal that is not called signal; no train section; messages of skim,
conversion, shuffling and merging; data that are not declared as such; `nanoml status`, logs of jobs, and the plan; `config check`;
progress bars; `nanoml inspect` and `validate`, JSON as well.
Around a blind region (10 to 16): a region with the same events, and one that overlaps; another histogram; sums over eras; blind bins;
histograms.root, workspace.json and the datacard; figures and tables; `evaluate.data_in` (also test_comparison.py) and data from
elsewhere in `evaluate.compare` (test_stages.py); raw events of a class that is estimated from blind data.
After somebody unblinded something (17 to 25): a channel that is added to the fit; another era; a part of the data; `--force`; a region
that is added or renamed, changed cuts, selections and networks (test_unblinding.py here and in python/workflow); a log that is damaged,
edited, of another analysis or of an older NanoML (there, too).
What permits by itself (26 to 28): `blind: none` in a dry run; an analysis without data or a fit; conversions without an analysis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import DATA, HistogramChannel, Templates, added
from MLTools.NanoML.nanoaod.folds import fold_of, part_of
from MLTools.NanoML.terminal import progress
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.unblinding import as_it_is, blinded, places_of, unblind
from services.points import write_columns

pytest.importorskip("data_processing.histograms.stage")
from data_processing.histograms.stage import events_seen

pytestmark = pytest.mark.usefixtures("white_figures")

CONFIG = """\
workdir: search
eras: {2017: {luminosity: 1000}, 2018: {luminosity: 2000}}
datasets:
  wprime17: {files: wprime17.root, class: wprime, cross_section: 0.002, era: 2017}
  WZ17: {files: WZ17.root, class: WZ, cross_section: 0.03, era: 2017}
  Muon17: {files: Muon17.root, data: true, era: 2017}
  wprime18: {files: wprime18.root, class: wprime, cross_section: 0.002, era: 2018}
  WZ18: {files: WZ18.root, class: WZ, cross_section: 0.03, era: 2018}
  Muon18: {files: Muon18.root, data: true, era: 2018}
  EGamma18: {files: EGamma18.root, data: true, era: 2018}
regions: {SR: "tight && x > 0", CR: "!tight", VR: "x > 0.5", side: "x <= 0"}
data_driven: {fakes: {from: [Muon18, EGamma18], region: side, weight: 0.25 + 0.05 * x * x, into: {SR: 1, VR: "y > 0"}}}
skim: {selection: "mine.py:Loose", keep: [x, tight]}
convert: {features: [x, y]}
score: {model: []}
histogram: {x: {bins: [3, 0, 3]}, y: {bins: [2, 0, 4]}}
"""
FIT = "fit: {channels: {CR: x}, signal: wprime, uncertainties: {WZ: 10 %}}\n"
SELECTION = """\
import json
from pathlib import Path
from MLTools.NanoML.selection import Column, Selection

class Loose(Selection):
    branches = ["x", "tight"]
    columns = {"y": Column("float32", "twice x")}

    def select(self, events, cutflow):
        least = json.loads(Path(__file__).parent.joinpath("tables/cuts.json").read_text())["x"]
        events = cutflow.cut("x above -1.5", events.x > least, events)
        return events, {"y": 2 * events.x}
"""
NAMES = ("wprime17", "WZ17", "Muon17", "wprime18", "WZ18", "Muon18", "EGamma18")
FILES = dict(zip(NAMES, (600, 900, 34_573, 600, 900, 56_713, 12_347), strict=True))


def write(directory: Path, *only: str, seed: int = 0) -> None:
    (directory / "tables").mkdir(exist_ok=True)
    (directory / "tables/cuts.json").write_text('{"x": -1.5}')
    for number, (name, count) in enumerate(FILES.items()):
        if only and name not in only:
            continue
        random, run = np.random.default_rng(number + seed), 1 if name.startswith(("w", "W")) else 300_000 + number
        x = random.normal(1.5 if "prime" in name else 0.1, 1, count).astype(np.float32)
        write_columns(directory / f"{name}.root", run, x=x, tight=random.random(count) < 0.5)


class Search:
    """The analysis, and what `nanoml` says of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.yaml, self.workdir = directory, directory / "a.yaml", directory / "search"
        self.said = ""  # when it was made

    def say(self, *arguments: object, says: str = "") -> str:
        """All that a command prints; an error counts as printed."""
        progress._notes.clear()  # each command is a process of its own
        done = CliRunner().invoke(nanoml, [str(it) for it in arguments], input=says)
        assert done.exception is None or isinstance(done.exception, (SystemExit, Exception))
        return f"{done.output}{done.exception or ''}"

    def fill(self, text: str, *options: str) -> dict[str, HistogramChannel]:
        """The channels of the histogram x, of a configuration."""
        self.yaml.write_text(text)
        for stage in ("fill", "histogram"):
            said = self.say(stage, self.yaml, *options)
            assert f"{stage}: " in said, said
        return {it.name: it for it in self.templates().histogram("x").channels}

    def templates(self) -> Templates:
        return Templates.read(self.workdir / "histograms/histograms.h5")

    def events(self, name: str) -> dict[str, Any]:
        """Those of a dataset that pass the selection, and the regions that they are in."""
        with uproot.open(self.directory / f"{name}.root") as file:
            found = file["Events"].arrays(library="np")
        found = {key: values[found["x"] > -1.5] for key, values in found.items()}
        x, tight, part = found["x"], found["tight"], part_of(found["run"], found["luminosityBlock"], found["event"])
        return {**found, "part": part, "SR": tight & (x > 0), "CR": ~tight, "VR": x > 0.5, "side": x <= 0}

    def secrets(self) -> set[str]:
        """Numbers of events of data after cuts: of each dataset, and in each region."""
        found = {}
        for name in ("Muon17", "Muon18", "EGamma18"):
            events = self.events(name)
            found[name] = len(events["x"])
            found.update({f"{name} {it}": events[it].sum() for it in ("SR", "CR", "VR", "side")})
        assert min(found.values()) > 1000
        return {str(it) for it in found.values()}

    def seen(self, channels: dict[str, HistogramChannel]) -> set[str]:
        """Those with data, also in histograms.root."""
        shown = {name for name, it in channels.items() if DATA in it.processes}
        with uproot.open(self.workdir / "histograms/histograms.root") as file:
            assert {name for name in channels if f"x/{name}/{DATA};1" in file} == shown
        return shown


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d{3})", "", text)))


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Skimmed, converted and scored; without workers, files show their progress."""
    made = Search(tmp_path_factory.mktemp("blinding"))
    write(made.directory)
    (made.directory / "mine.py").write_text(SELECTION)
    made.yaml.write_text(CONFIG)
    made.said = made.say("run", made.yaml, "--to", "score")
    return made


@pytest.fixture(autouse=True)
def blind_again(search: Search) -> Iterator[None]:
    """No test leaves a log behind."""
    yield
    (search.workdir / "unblinded.json").unlink(missing_ok=True)
    search.yaml.write_text(CONFIG)


def channels_of(data: dict[str, HistogramChannel], process: str) -> dict[str, float]:
    return {name: float(it.processes[process].nominal.sum()) for name, it in data.items() if process in it.processes}


# 1 to 9: before anything says what is blind


def test_nothing_is_shown_before_something_says_what_is_blind(search: Search) -> None:
    """There is no fit, no training, and no class that is called signal."""
    channels = search.fill(CONFIG)
    assert search.seen(channels) == set()
    assert channels_of(channels, "fakes").keys() == {"SR_2018", "VR_2018"}  # data are used for estimates
    for name, it in channels.items():  # and nothing is taken out of simulation
        events = search.events("WZ17" if "2017" in name else "WZ18")
        expected = events[it.region].sum() / 900 * (30_000 if "2017" in name else 60_000)
        assert it.processes["WZ"].nominal.sum() == pytest.approx(expected)
    assert all(it.note == "" for it in channels.values())
    without = "\n".join(line for line in CONFIG.splitlines() if not line.startswith(("regions", "data_driven")))
    assert search.seen(search.fill(without)) == set()


def test_no_message_tells_how_many_data_events_are_left(search: Search) -> None:
    said = search.said
    assert numbers_in(said) & search.secrets() == set()
    assert "Muon17: 34,573 events read; how many are kept is blind" in said
    assert re.search(r"WZ17: 8\d\d of 900 events kept", said)
    assert "Muon17: data; how many events it has is blind" in said
    assert "fakes_from_Muon18: class fakes" in said
    for bar in ("skim Muon17.root", "convert Muon17.h5", "convert fakes_from_Muon18.h5", "score Muon17.root"):
        assert f"{bar}: 100 %" in said
    assert re.search(r"convert WZ17.h5: 8\d\d events", said)
    (record,) = (json.loads(it.read_text()) for it in (search.workdir / ".nanoml/skim/Muon17").iterdir())
    assert record["summary"]["selected"] == len(search.events("Muon17")["x"])  # records are exact
    checked = search.say("config", "check", search.yaml)
    assert re.search(r"Muon17: 1 file; \S+Muon17.root is in order\n", checked)
    assert numbers_in(checked) & search.secrets() == set()
    shown = search.say("fill", search.yaml, "--force")
    assert "fill Muon17.root: 100 %" in shown
    assert numbers_in(shown + search.say("run", search.yaml, "--dry-run")) & search.secrets() == set()
    search.yaml.write_text(CONFIG + "blind: none\n")
    told = search.say("skim", search.yaml, "--force")
    assert f"Muon17: {len(search.events('Muon17')['x']):,} of 34,573 events kept" in told
    search.say("run", search.yaml, "--to", "score")


@pytest.mark.parametrize("class_", ["", ", class: data, cross_section: 1"])
def test_data_that_are_not_declared_are_refused(search: Search, class_: str) -> None:
    """They would be drawn as a process."""
    search.yaml.write_text(CONFIG.replace("Muon17.root, data: true", f"Muon17.root{class_}"))
    said = search.say("run", search.yaml, "--from", "skim", "--to", "fill")
    assert "Muon17.root is data, without generator weights and of no run of simulation. Add `data: true`." in said
    assert numbers_in(said) & search.secrets() == set()
    search.yaml.write_text(CONFIG)
    search.say("run", search.yaml, "--to", "score")


def test_files_of_data_show_nothing_after_the_first_cut_unless_asked(search: Search) -> None:
    directory, secrets = search.workdir, search.secrets()
    paths = [directory / it for it in ("skims/Muon17/Muon17.root", "scores/Muon17/Muon17.root", "hdf5/Muon17.h5")]
    paths.append(directory / "hdf5/fakes_from_Muon18.h5")
    for path in paths:
        shown, content = search.say("inspect", path), search.say("inspect", path, "--json")
        assert numbers_in(shown + content) & secrets == set(), path
        warning = "How many events of data pass the first cut and others may be blind: --show-data"
        assert warning in " ".join(shown.split())
        assert re.search(r"\n *events +blind\n", shown)
        told = json.loads(content)
        books = (told.get("record") or told["datasets"][0])["books"]
        assert [told["events"], books["selected"], books["files"][0]["selected"]] == [None] * 3
        assert books["entries"] > 30_000  # those that were read
        assert numbers_in(search.say("inspect", path, "--show-data")) & secrets
    for options in ((), ("--json",)):
        assert numbers_in(search.say("validate", *paths[2:], *options)) & secrets == set()
    simulation = directory / "skims/WZ17/WZ17.root"
    assert search.say("inspect", simulation) == search.say("inspect", simulation, "--show-data")


def test_conversions_and_mergers_without_an_analysis_do_not_tell_either(search: Search, tmp_path: Path) -> None:
    skims = [search.workdir / f"skims/{name}/{name}.root" for name in ("Muon18", "EGamma18")]
    said = search.say("convert", "-o", tmp_path / "a.h5", *skims, "--json")
    said += search.say("convert", "-o", tmp_path / "each", *skims)
    sources = [search.directory / f"{name}.root" for name in ("Muon18", "WZ18")]
    selection = ("--selection", search.directory / "mine.py:Loose")
    for number, paths in enumerate([sources[:1], sources]):
        skimmed = search.say("skim", *selection, "-o", tmp_path / f"skims{number}", *paths)
        assert re.search(r"\n  [\d,]+ events read; how many are kept is blind \(--show-data\)\n", skimmed)
        said += skimmed
    for paths, option in ((sources[1:], ()), (sources[:1], ("--show-data",))):
        told = search.say("skim", *selection, "-o", tmp_path / f"told{len(option)}", *paths, *option)
        assert re.search(r"[\d,]+ of [\d,]+ events kept, .*\n +cut  ", told)
    said += search.say("shuffle", "-o", tmp_path / "all.h5", *(tmp_path / "each").glob("*.h5"))
    said += search.say("merge", "-o", tmp_path / "all.root", *skims)
    with h5py.File(tmp_path / "all.h5") as file:
        total = len(file["events"])
    assert numbers_in(said) & {*search.secrets(), str(total)} == set()
    assert "all.root: 2 files, 6 branches" in said


def test_scores_without_an_analysis_do_not_tell(search: Search, tmp_path: Path, linear_model: Any) -> None:
    """If a model was trained in a signal region, the share of data outside of its range is that outside of the region."""
    known = {"name": "x", "low": 0, "high": 9, "missing": [], "may_be_missing": False, "quantiles": [], "outside": 0.01}
    inputs = [{**known, "limit": 0.02}]
    model = linear_model(["x"], domain=[{"tensor": "features", "mask": None, "size": 0, "inputs": inputs}])
    for name, options, tells in (("Muon18", (), False), ("WZ18", (), True), ("Muon18", ("--show-data",), True)):
        path = search.directory / f"{name}.root"
        said = search.say("score", "--model", model, "-o", tmp_path / f"{name}{len(options)}", path, *options)
        assert ("x is outside of the range 0 to 9" in said) == ("inputs outside of the" in said) == tells
    search.yaml.write_text(CONFIG)
    assert "--show-data is for FILEs" in search.say("skim", search.yaml, "--show-data")


def test_jobs_and_their_logs_do_not_tell(search: Search) -> None:
    search.yaml.write_text(CONFIG + "batch: {on: local}\n")
    said = search.say("submit", "skim", search.yaml, "--force")
    said += search.say("status", search.yaml, "--wait", "--every", "1")
    assert "Everything is done" in said
    logs = "".join(path.read_text() for path in (search.directory / "jobs").rglob("*.log"))
    assert "Muon17" in logs
    (record,) = (json.loads(it.read_text()) for it in (search.workdir / ".nanoml/skim/Muon17").iterdir())
    assert "file ./tables/cuts.json" in record["observed"]  # as without jobs
    assert numbers_in(re.sub(r"\d+\.\d+ s|events in", "", logs) + said) & search.secrets() == set()


# 10 to 16: around a blind region


def data_in_tables(search: Search) -> dict[str, str]:
    """The cells of the data in all tables of yields, by the heads of their columns."""
    found = dict[str, str]()
    for text in (search.workdir / "histograms/yields.md").read_text().split("\n\n"):
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
        era = rows[0][0].partition(", ")[2].replace("all eras", "")
        heads = [re.sub("^[^,]*", rf"\g<0>_{era}", head) if era else head for head in rows[0]]
        for row in (it for it in rows if it[0] == "data"):
            found.update(zip(heads, row, strict=True))
    return found


@pytest.mark.exhaustive("each way to look at blind data")
def test_an_event_in_a_blind_region_is_in_no_other(search: Search) -> None:
    """Neither in one with the same events nor in one that overlaps, in any histogram; simulation and estimates lose as much."""
    text = CONFIG.replace("regions: {SR", 'regions: {TWIN: "x > 0 && tight", SR')
    text += "blind: {regions: [SR], signal_over_root_background: null}\n"
    search.yaml.write_text(text)
    search.say("score", search.yaml)
    channels = search.fill(text)
    assert search.seen(channels) == {f"{it}_{era}" for it in ("TWIN", "CR", "VR", "side") for era in ("2017", "2018")}
    for era, names in {"2017": ["Muon17"], "2018": ["Muon18", "EGamma18"]}.items():
        data, simulated = [search.events(name) for name in names], search.events(f"WZ{era[2:]}")
        factor = {"2017": 30_000, "2018": 60_000}[era] / 900
        for region in ("CR", "VR", "side"):
            left = sum(int((it[region] & ~it["SR"]).sum()) for it in data)
            it = channels[f"{region}_{era}"]
            assert it.processes[DATA].nominal.sum() == left
            expected = factor * (simulated[region] & ~simulated["SR"]).sum()
            assert it.processes["WZ"].nominal.sum() == pytest.approx(expected)
            assert it.note == ("without the events of SR" if region == "VR" else "")
        twin = channels[f"TWIN_{era}"]
        assert [twin.processes[name].nominal.sum() for name in (DATA, "WZ", "wprime")] == [0, 0, 0]
        assert channels[f"SR_{era}"].processes["WZ"].nominal.sum() == pytest.approx(factor * simulated["SR"].sum())
        assert channels[f"SR_{era}"].note == ""
    side = search.events("Muon18"), search.events("EGamma18")
    fakes = channels_of(channels, "fakes")
    expected = sum(float((0.25 + 0.05 * it["x"][it["side"]].astype(float) ** 2).sum()) for it in side)
    assert fakes["SR_2018"] == pytest.approx(expected, rel=1e-6)
    assert fakes["VR_2018"] == 0  # all of them count in SR
    y = {it.name: it for it in search.templates().histogram("y").channels}
    assert {name for name, it in y.items() if DATA in it.processes} == search.seen(channels)
    assert y["VR_2017"].processes[DATA].nominal.sum() == channels["VR_2017"].processes[DATA].nominal.sum()
    search.say("draw", search.yaml)
    shown = data_in_tables(search)
    assert shown["VR_2017, without the events of SR"].replace(",", "").isdigit()
    assert shown["SR"] == shown["SR_2017"] == "blind"
    search.yaml.write_text(CONFIG)
    search.say("score", search.yaml)


def test_bins_in_other_regions_stay_blind(search: Search) -> None:
    """In all histograms: one with all events of a region would tell the bins that another one hides."""
    text = CONFIG.replace("histogram: {", "histogram: {flat: {of: tight, bins: [2, 0, 2]}, ") + FIT
    text += "blind: {regions: [SR], signal_over_root_background: 29}\n"
    channels = search.fill(text)
    assert channels["VR_2017"].blind is not None
    assert channels["VR_2017"].blind.any()
    assert channels["VR_2017"].blind.tolist() == channels["VR_2018"].blind.tolist()  # type: ignore[union-attr]
    config = load(search.yaml)
    unblind(config, as_it_is(config, [("VR", "2018")]).values(), "it is final", "")
    every = {it.name: {each.name: each for each in it.channels} for it in search.templates().histograms}
    hidden = {}
    for name, it in every.items():
        assert not it["side_2017"].blind.any()  # type: ignore[union-attr]
        of_both = added([it["VR_2017"], it["VR_2018"]])
        expected = sum(each.nominal for key, each in of_both.processes.items() if key != DATA)
        hidden[name] = float(expected[of_both.blind].sum())
    assert hidden["y"] > 0
    assert min(hidden.values()) >= 0.999 * max(hidden["x"], hidden["y"])
    search.say("draw", search.yaml)
    shown = data_in_tables(search)
    assert (shown["SR_2017"], shown["VR_2017, without the events of SR"]) == ("blind", "partly blind")
    assert shown["side_2017"].replace(",", "").isdigit()
    for path in (search.workdir / "histograms/histograms.h5", search.workdir / "histograms/histograms.root"):
        told = search.say("inspect", path)
        assert re.search(r"SR_2017 .* blind\n", told)
    channels = search.fill(search.yaml.read_text())
    assert [bool(channels[f"VR_{era}"].blind.any()) for era in ("2017", "2018")] == [True, False]  # type: ignore[union-attr]


@pytest.mark.exhaustive("each way to look at blind data")
def test_raw_events_of_a_class_from_blind_data_are_not_told(search: Search) -> None:
    pytest.importorskip("ML_processing.stages")
    text = CONFIG.replace("score:", "train: {model: bdt, epochs: 5, folds: 3, regions: [SR]}\nscore:")
    search.yaml.write_text(text)
    said = search.say("train", search.yaml) + search.say("evaluate", search.yaml)
    page = (search.workdir / "training/report.html").read_text()
    page = re.sub(r'base64,[^"]*|<style>.*?</style>', "", page, flags=re.S)
    raw = [int(search.events(name)["side"].sum()) for name in ("Muon18", "EGamma18")]
    for text in (said, re.sub(r"<[^>]*>", " ", page)):
        assert not numbers_in(text) & {*map(str, raw), str(sum(raw))}
    assert page.count("<td>fakes</td><td>blind</td>") >= 2
    assert "fakes_from_Muon18 (fakes), blind of 56,713 events selected" in page


# 17 to 25: after somebody unblinded something


@pytest.mark.exhaustive("each way to look at blind data")
def test_a_fit_uses_data_only_if_every_channel_may_be_shown(search: Search, request: Any, monkeypatch: Any) -> None:
    """A channel that is added later is blind, and so is another era; then data are in no channel, and in no file of the fit."""
    pytest.importorskip("statistical_analysis.stages")
    request.getfixturevalue("compiled_once")
    monkeypatch.setattr("MLTools.NanoML.report.figures.Figures.add", lambda figures, name, draw, numbers: None)
    search.yaml.write_text(CONFIG + FIT)
    assert "; blinded" in search.say("run", search.yaml)
    given = ("CR", "--era", "2018", "--because", "a control region")
    assert "CR (2018), 100% of the data" in search.say("unblind", search.yaml, *given, says="search\n")
    search.fill(CONFIG + FIT)
    assert "; blinded" in search.say("fit", search.yaml)  # CR of 2017 is blind
    search.say("run", search.yaml)
    said = search.say("unblind", search.yaml, "CR", says="a control region, too\nsearch\n")
    assert "search: CR (2017), 100% of the data.\nExpected: expected limit" in said
    assert "nothing more to unblind" in search.say("unblind", search.yaml, "CR")
    search.say("run", search.yaml)
    shown = json.loads((search.workdir / "fit/results.json").read_text())
    assert shown["unblinded"].startswith("unblinded by ")
    assert [it["because"] for it in shown["log"]] == ["a control region", "a control region, too"]
    assert shown["channels"][0]["observed"]
    text = CONFIG + FIT.replace("{CR: x}", "{CR: x, SR: x}")
    assert search.seen(search.fill(text, "--force")) == {"CR_2017", "CR_2018"}
    assert "; blinded" in search.say("fit", search.yaml, "--force")
    fit, secret = search.workdir / "fit", shown["channels"][0]["observed"]
    assert json.loads((fit / "results.json").read_text())["channels"][0]["observed"] is None
    data = json.loads((fit / "workspace.json").read_text())["observations"]
    assert len(data) == 4
    assert not any(it["data"] == secret for it in data)
    with uproot.open(fit / "templates.root") as file:
        for name in ("SR_2017", "CR_2017"):
            assert file[f"{name}/{DATA}"].values().tolist() != secret
    assert "# Data are expected, with a signal of strength 0." in (fit / "datacard.txt").read_text()


def test_an_era_is_unblinded_alone(search: Search) -> None:
    search.fill(CONFIG)
    config = load(search.yaml)
    eras = [it for it in places_of(config) if it[1] == "2017"]
    unblind(config, as_it_is(config, eras).values(), "it is final", "")
    channels = search.fill(CONFIG)
    assert search.seen(channels) == {f"{it}_2017" for it in ("SR", "CR", "VR", "side")}
    search.say("draw", search.yaml)
    sums = [it for it in channels.values() if it.region == "SR"]
    assert DATA not in added(sums).processes  # not the data of one era with the simulation of both
    assert blinded(config).hidden >= {"Muon18", "EGamma18"}
    assert "Muon17" not in blinded(config).hidden


def test_a_part_of_the_data_is_what_it_says(search: Search) -> None:
    """Part and rest are all; what is expected is the share, and agrees with what is observed."""
    search.fill(CONFIG)
    config = load(search.yaml)
    whole = search.fill(CONFIG + "blind: none\n")
    part = {}
    for share in (0.2, 0.4):
        unblind(config, as_it_is(config, places_of(config)).values(), "as they ask", "", fraction=share)
        part[share] = search.fill(CONFIG)
        assert search.seen(part[share]) == search.seen(whole)
        assert numbers_in(search.say("convert", search.yaml, "--force")) & search.secrets() == set()
        for name, it in part[share].items():
            events = [search.events(each) for each in (["Muon17"] if "2017" in name else ["Muon18", "EGamma18"])]
            values = np.concatenate([each["x"][each[it.region]] for each in events])
            at = np.concatenate([each["part"][each[it.region]] for each in events])
            edges = [-np.inf, 0, 1, 2, 3, np.inf]
            seen, rest = (np.histogram(values[chosen], edges)[0] for chosen in (at < share, at >= share))
            assert it.processes[DATA].nominal.tolist() == seen.tolist()
            assert (seen + rest).tolist() == whole[name].processes[DATA].nominal.tolist()
            assert abs(seen.sum() - share * (seen + rest).sum()) < 4 * np.sqrt(share * (seen + rest).sum())
            for process in {*it.processes} & {"WZ", "wprime", "fakes"}:
                now, then = it.processes[process], whole[name].processes[process]
                assert now.nominal == pytest.approx(share * then.nominal)
                assert now.variances == pytest.approx(share**2 * then.variances)
            assert (it.share, it.note) == (share, f"{100 * share:g} % of the data")
    fewer, more = ([it.processes[DATA].nominal for it in part[share].values()] for share in (0.2, 0.4))
    assert all((few <= many).all() for few, many in zip(fewer, more, strict=True))
    templates = search.templates()
    assert templates.seen([part[0.4]["SR_2017"]]) == {"2017": (400, 400)}
    assert templates.seen([part[0.4]["SR_2017"], whole["SR_2018"]]) == {"2017": (400, 400), "2018": (2000, 2000)}
    assert templates.seen([part[0.4]["SR_2017"], whole["CR_2017"]]) == {"2017": (400, 1000)}
    assert added([part[0.4]["SR_2017"], part[0.4]["SR_2018"]]).note == "40 % of the data"
    assert added([part[0.4]["SR_2017"], whole["SR_2018"]]).note == "SR_2017: 40 % of the data"
    events = search.events("Muon18")
    inside, fold = events["part"] < 0.4, fold_of(events["run"], events["luminosityBlock"], events["event"], 5)
    assert all(abs(inside[fold == number].mean() - 0.4) < 0.02 for number in range(5))  # it does not depend on the fold


def test_what_is_unblinded_are_these_events(search: Search) -> None:
    """The same files with other names stay open; other collisions, or other cuts on them, do not."""

    def is_open(era: str) -> bool:
        return not blinded(load(search.yaml)).in_eras([era])

    config = load(search.yaml)
    left = [it for it in places_of(config) if it != ("SR", "2017")]
    unblind(config, as_it_is(config, left).values(), "it is final", "")
    found, secrets = blinded(config), {}
    for era, names in {"2017": ["Muon17"], "2018": ["Muon18", "EGamma18"]}.items():
        for it in ("SR", "CR", "VR", "side"):
            events = [search.events(name) for name in names]
            hidden = [it["SR"] & (era == "2017") for it in events]
            secrets[it, era] = sum(int((each[it] & ~no).sum()) for each, no in zip(events, hidden))
    assert secrets.pop(("SR", "2017")) == 0
    assert events_seen(Analysis(config), found) == secrets
    unblind(config, as_it_is(config, [("SR", "2017")]).values(), "it is final", "")
    assert is_open("2017")
    assert is_open("2018")
    cuts, muons = (search.directory / it for it in ("tables/cuts.json", "Muon18.root"))
    cuts.write_text('{"x": -1.4}')
    progress._notes.clear()
    assert not is_open("2017")
    assert any("SR (2018), " in it and "since tables/cuts.json changed after" in it for it in progress._notes.values())
    cuts.write_text('{"x": -1.5}')
    muons.rename(search.directory / "moved.root")
    search.yaml.write_text(CONFIG.replace("Muon18.root", "moved.root"))
    assert is_open("2018")
    muons.with_name("moved.root").rename(muons)
    kept = muons.read_bytes()
    write(search.directory, "Muon18", seed=100)
    channels = search.fill(CONFIG)
    assert search.seen(channels) == {f"{it}_2017" for it in ("SR", "CR", "VR", "side")}
    muons.write_bytes(kept)
    assert is_open("2018")
    assert len(json.loads((search.workdir / "unblinded.json").read_text())["data"]) == 2  # one for each era


# 26 to 28: what permits by itself


def test_a_dry_run_notes_nothing_and_a_run_notes_what_is_declared(search: Search) -> None:
    log = search.workdir / "unblinded.json"
    search.yaml.write_text(CONFIG + "blind: none\n")
    search.say("run", search.yaml, "--dry-run")
    assert not log.exists()
    search.say("submit", "fill", search.yaml, "--on", "local", "--dry-run", "--force")
    assert not log.exists()
    channels = search.fill(CONFIG + "blind: none\n")
    assert len(search.seen(channels)) == 8
    (entry,) = json.loads(log.read_text())["unblinded"]
    assert (entry["because"], len(entry["opened"])) == ("blind: none", 8)
    assert search.seen(search.fill(CONFIG)) == set()
    search.yaml.write_text(CONFIG + FIT + "blind: none\n")
    assert "nothing is blind" in search.say("unblind", search.yaml)


@pytest.mark.parametrize(
    ("old", "new", "arguments", "message"),
    [
        ("fit:", "x-fit:", ["SR"],
         "has no fit, so there is no result to unblind. What may be seen without one, say in"),
        (", data: true", ", class: other, cross_section: 1", ["SR"], "has no data, so there is no result"),
        ("", "", ["SSR"], 'there are no data in "SSR". Did you mean "SR"?'),
        ("", "", ["SR", "--era", "2016"], 'there are no data in "2016"'),
        ("", "", ["SR", "--fraction", "0%"], '"0%": write a part of the data, as in 10%'),
        ("", "", ["SR", "--fraction", "120%"], '"120%": write a part of the data, as in 10%'),
        ("", "", ["CR", "--fraction", "10%"], "CR (2017), CR (2018): nothing more to unblind; not blind as a whole"),
    ],
)  # fmt: skip
def test_what_cannot_be_unblinded(search: Search, old: str, new: str, arguments: list[str], message: str) -> None:
    text = CONFIG + FIT + "blind: {regions: [SR]}\n"
    content = text.replace(old, new) if old else text
    if "class: other" in new:
        content = "\n".join(line for line in content.splitlines() if not line.startswith("data_driven"))
    search.yaml.write_text(content)
    assert message in " ".join(search.say("unblind", search.yaml, *arguments).split())
    assert not (search.workdir / "unblinded.json").exists()
