"""Histograms of an analysis with variations, shifts, data and a class from data: what plain arithmetic gives on the same files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
from numpy.typing import NDArray

from data_processing.convert.expressions import Expression
from data_processing.histograms.fill import Axis, Plan, fill_file
from data_processing.histograms.stage import fill_stage, histogram_stage
from data_processing.histograms.sums import Part, Sums
from data_processing.histograms.templates import ChosenBins, _blinded, _choose, _hidden, _one_bin, make_templates
from MLTools.NanoML import __version__
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.bins import FINE, fine_edges
from MLTools.NanoML.contracts.blinding import BlindBins
from MLTools.NanoML.contracts.templates import (
    FilledHistogram,
    HistogramChannel,
    Origin,
    Template,
    TemplateAxis,
    Templates,
)
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of, part_of
from MLTools.NanoML.terminal import progress
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.configurations import run_stages
from services.points import write
from services.rootfiles import branches_of
from services.shifted import ShiftedSkims, write_data

ANALYSIS = """\
eras: {2018: {luminosity: 59.8}, 2022: {luminosity: 8}}
datasets:
  WZ: {files: [FILES], era: 2018, class: WZ, cross_section: 0.0546, weight: 1 + 0.1 * nGoodJet}
  ZZ: {files: other.root, era: 2022, class: ZZ, cross_section: 0.0546}
  Muon: {files: data.root, era: 2018, data: true}
regions: {few: nGoodJet < 3, many: nGoodJet >= 3}
data_driven:
  fakes: {from: Muon, region: many, weight: 0.2 + 0.001 * MET, subtract: WZ, into: {few: MET > 70}}
convert: {features: [Good_sumPt]}
score: {model: MODEL}
blind: none
histogram:
  MET: {bins: {edges: [0, 50, 80, 120, 500]}}
  SelJet_pt: {bins: [5, 20, 120], regions: [few]}
  high: {of: "abs(MET_phi)", bins: [4, 0, 4], regions: [many]}
  both: {of: [MET, Good_sumPt], bins: [[3, 0, 150], {edges: [0, 100, 300]}], regions: [few]}
  score: {of: "0.5 + 0.15 * MET_phi", regions: [few]}
"""
EDGES = [0, 50, 80, 120, 500]


@pytest.fixture(scope="module")
def filled(
    shifted_skims: ShiftedSkims, linear_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("filled")
    write_data(directory / "data.root", shifted_skims.nominal[0])
    (directory / "other.root").write_bytes(Path(shifted_skims.shifted[4]).read_bytes())
    model = linear_model(["MET_phi"], targets=("a", "b", "c"))
    files = ", ".join(shifted_skims.shifted[:4])
    (directory / "a.yaml").write_text(ANALYSIS.replace("FILES", files).replace("MODEL", str(model)))
    run_stages(directory / "a.yaml", "normalise", "score", "fill", "histogram")
    return directory


def counted(
    filled: Path, paths: list[str], dataset: str, column: str, ending: str, region: str, prefix: str = ""
) -> Any:
    """The histogram of a column, its weights and their squares, by numpy from the files."""
    total = np.zeros((2, len(EDGES) + 1))
    edges = [-np.inf, *EDGES, np.inf]
    for path in paths:
        skim = branches_of(path)
        scores = branches_of(filled / "a" / "scores" / dataset / Path(path).name)
        values = skim.get(f"{column}{ending}", skim[column])
        inside = scores.get(f"{prefix}in_{region}{ending}", scores[f"{prefix}in_{region}"])
        weights = scores[f"{prefix}eventWeight{ending}"].astype(float)
        for number in (0, 1):
            total[number] += np.histogram(values[inside], edges, weights=weights[inside] ** (number + 1))[0]
    return total


def test_each_process_under_each_variation_and_shift(filled: Path, shifted_skims: ShiftedSkims) -> None:
    channels = Templates.read(filled / "a/histograms/histograms.h5").histogram("MET").channels
    (channel,) = (it for it in channels if it.name == "few_2018")
    assert list(channel.processes) == ["WZ", "fakes", "data_obs"]
    paths, found = shifted_skims.shifted[:4], channel.processes["WZ"]
    nominal = counted(filled, paths, "WZ", "MET", "", "few")
    assert found.nominal == pytest.approx(nominal[0], rel=1e-12)
    assert found.variances == pytest.approx(nominal[1], rel=1e-12)
    assert set(found.up) == set(found.down) == {"pileup", "btag_hf", "jes", "jer"}
    for name in found.up:
        up, down = ("Up", found.up, found.up_variances), ("Down", found.down, found.down_variances)
        for direction, values, variances in (up, down):
            expected = counted(filled, paths, "WZ", "MET", f"_{name}{direction}", "few")
            assert values[name] == pytest.approx(expected[0], rel=1e-12)
            assert variances[name] == pytest.approx(expected[1], rel=1e-12)
            assert variances[name].tolist() != found.variances.tolist()
            assert values[name].tolist() != found.nominal.tolist()
    data = [str(filled / "data.root")]
    seen = counted(filled, data, "Muon", "MET", "", "few")[0]
    assert channel.processes["data_obs"].nominal.tolist() == seen.tolist()
    assert seen.sum() > 5
    for ending in ("", "_jesUp"):
        subtracted = counted(filled, paths, "WZ", "MET", ending, "few", "fakes_")[0]
        fakes = channel.processes["fakes"].up["jes"] if ending else channel.processes["fakes"].nominal
        assert fakes == pytest.approx(counted(filled, data, "Muon", "MET", "", "few", "fakes_")[0] + subtracted)


def test_objects_have_an_entry_each(filled: Path, shifted_skims: ShiftedSkims) -> None:
    channels = Templates.read(filled / "a/histograms/histograms.h5").histogram("SelJet_pt").channels
    (channel,) = (it for it in channels if it.era == "2018")
    edges, expected = [-np.inf, *np.linspace(20, 120, 6), np.inf], np.zeros((2, 7))
    for path in shifted_skims.shifted[:4]:
        skim, scores = branches_of(path), branches_of(filled / "a/scores/WZ" / Path(path).name)
        for number, (jets, ending) in enumerate([("SelJet_pt", ""), ("SelJet_jesUp_pt", "_jesUp")]):
            pts, inside = skim.get(jets, skim["SelJet_pt"]), scores.get(f"in_few{ending}", scores["in_few"])
            for pt, weight in zip(pts[inside], scores[f"eventWeight{ending}"][inside]):
                expected[number] += np.histogram(pt, edges)[0] * float(weight)
    assert channel.processes["WZ"].nominal == pytest.approx(expected[0], rel=1e-9)
    assert channel.processes["WZ"].up["jes"] == pytest.approx(expected[1], rel=1e-9)
    assert expected[0].tolist() != expected[1].tolist()


def test_root_file_is_as_combine_reads_it(filled: Path) -> None:
    templates = Templates.read(filled / "a/histograms/histograms.h5")
    with uproot.open(filled / "a/histograms/histograms.root") as file:
        assert str(file["nanoml"]) == templates.description()
        assert json.loads(templates.description())["creator"] == f"NanoML {__version__}"
        for histogram in templates.histograms:
            for channel in histogram.channels:
                for process, template in channel.processes.items():
                    found = file[f"{histogram.name}/{channel.name}/{process}"]
                    assert found.classname == f"TH{len(histogram.axes)}D"
                    assert found.values(flow=True).tolist() == template.nominal.tolist()
                    assert found.variances(flow=True).tolist() == template.variances.tolist()
                    for number, axis in enumerate(histogram.axes):
                        assert found.axis(number).edges().tolist() == list(axis.edges)
                    for name, values in template.up.items():
                        up = file[f"{histogram.name}/{channel.name}/{process}_{name}Up"]
                        assert up.values(flow=True).tolist() == values.tolist()
                        assert up.variances(flow=True).tolist() == template.up_variances[name].tolist()
                        down = file[f"{histogram.name}/{channel.name}/{process}_{name}Down"]
                        assert down.variances(flow=True).tolist() == template.down_variances[name].tolist()
        assert "MET/few_2022/ZZ" in file
        assert "high/many_2018/fakes" not in file
    names = [it.name for it in templates.histogram("both").channels]
    assert names == ["few_2018", "few_2022"]
    assert templates.histogram("both").shape == (5, 4)
    assert (templates.signal, templates.classes) == ("WZ", ("WZ", "ZZ", "fakes"))
    assert templates.luminosity == {"2018": 59.8, "2022": 8}


@pytest.mark.parametrize("in_each", [True, False])
def test_chosen_bins_have_background_in_each_era(in_each: bool) -> None:
    plan = Plan("score", (Axis(Expression("score", ""), fine_edges()),), ("SR",))
    signal, background = (np.zeros(FINE + 2) for _ in range(2))
    signal[500:1001:100], background[1:1001] = 1.0, 1.0
    empty = background.copy()
    empty[600:1000] = 0
    empty[650:1000:100] = 1
    found = {
        (*where, process): Sums({"": events}, {"": events})
        for where, parts in (
            (("SR", "2018"), (signal, background)),
            (("SR", "2022"), (signal, empty)),
            (("CR", "2018"), (signal, background / 1000)),  # which is not fitted
        )
        for process, events in zip(("signal", "WZ"), parts)
    }
    edges = _choose(plan, ChosenBins("signal", 10, 15, ["SR"], in_each), found, 15)
    assert len(edges) > 2
    events = np.add.reduceat(empty[1:-1], edges[:-1])
    assert (events >= 10).all() == in_each
    assert ((events > 0) | (np.add.reduceat(signal[1:-1], edges[:-1]) == 0)).all()


def test_a_channel_with_too_few_events_is_named(tmp_path: Path) -> None:
    """That the fit leaves out does not count."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.root").touch()
    (tmp_path / "a.yaml").write_text(
        "datasets: {a: {files: a.root, class: a}, b: {files: b.root, class: b}}\nregions: {SR: x > 1, CR: x < 1}\n"
        "score: {model: []}\nfit: {channels: {SR: y, CR: x}, signal: a}\n"
        "histogram: {x: {bins: [1, 0, 1]}, y: {least_events: 20}, z: {least_events_in: all}}\n"
    )
    stage: Any = histogram_stage(Analysis(load(tmp_path / "a.yaml")))
    chosen = stage.tasks[0].work.args[0].chosen
    assert [(each.regions, each.in_each) for each in chosen.values()] == [(["SR"], True), (("SR", "CR"), False)]
    few, many = (Template(np.array([0.0, events, 0]), np.array([0.0, events, 0])) for events in (19.0, 20.0))
    channels = [HistogramChannel(*it) for it in (("SR", "2018", {"b": many}), ("SR", "2022", {"a": many, "b": few}))]
    (text,) = _one_bin(chosen["y"], [*channels, HistogramChannel("CR", "2018", {"b": few})])
    assert "fewer effective background events than least_events (20) in SR_2022 (19)." in text
    assert not [*_one_bin(chosen["y"], channels[:1]), *_one_bin(chosen["z"], channels)]


def test_halves_are_those_of_a_hash_and_choose_bins(filled: Path, tmp_path: Path, shifted_skims: ShiftedSkims) -> None:
    chosen = 'MET_phi", regions: [few], bins: result, least_events: 1, least_events_in: all}'
    text = analysis(filled).replace('MET_phi", regions: [few]}', chosen)
    text += "fit: {channels: {few: score}, signal: WZ, uncertainties: {ZZ: 30 %}}\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "a").mkdir()
    for name in ("scores", "normalisation"):
        if (filled / "a" / name).exists():
            (tmp_path / "a" / name).symlink_to(filled / "a" / name)
    stages = pipeline_stages(load(tmp_path / "a.yaml"), ("fill", "histogram"))
    done = [task.work() for stage in stages for task in stage.tasks]
    for path in (tmp_path / "a/histograms/files").rglob("*.h5"):
        mine, before = sums(path), sums(filled / "a" / path.relative_to(tmp_path / "a"))
        for name, values in mine.items():
            if name.startswith("score/"):
                halves = values.reshape(len(values), 2, -1)
                assert halves.sum(axis=1) == pytest.approx(before[name], rel=1e-9, abs=1e-12)
            else:
                assert values == pytest.approx(before[name], rel=1e-9, abs=1e-12)
    second = 0.0
    for path in shifted_skims.shifted[:4]:
        skim, scores = branches_of(path), branches_of(filled / "a/scores/WZ" / Path(path).name)
        is_second = part_of(*(skim[name] for name in ("run", "luminosityBlock", "event"))) >= 0.5
        second += scores["eventWeight_jesUp"][is_second & scores["in_few_jesUp"]].sum(dtype=float)
    found = 0.0
    for path in (tmp_path / "a/histograms/files/WZ").rglob("*.h5"):
        with h5py.File(path) as file:
            for group in [file["score/few/WZ"]] if "score/few/WZ" in file else []:
                row = json.loads(group.attrs["endings"]).index("_jesUp")
                found += group["sums"][row].reshape(2, -1)[1].sum()
    assert found == pytest.approx(second, rel=1e-6)
    assert "the bins of auto are kept" in done[-1]["chosen"]["score"].lower()
    templates = Templates.read(tmp_path / "a/histograms/histograms.h5")
    for name in ("MET", "score"):
        ours, theirs = (it.histogram(name) for it in (templates, Templates.read(filled / "a/histograms/histograms.h5")))
        for one, two in zip(ours.channels, theirs.channels):
            for process, each in one.processes.items():
                assert each.nominal.sum() == pytest.approx(two.processes[process].nominal.sum(), rel=1e-9)


def first_job(filled: Path, dataset: str) -> Any:
    stage: Any = fill_stage(Analysis(load(filled / "a.yaml")))
    task = next(task for task in stage.tasks if task.name.startswith(f"{dataset}/"))
    return task.work.args[0]


def analysis(filled: Path) -> str:
    """The configuration, to be used in another directory."""
    text = (filled / "a.yaml").read_text()
    return text.replace("data.root", f"{filled}/data.root").replace("other.root", f"{filled}/other.root")


def sums(path: Path) -> dict[str, NDArray[Any]]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, it: found.update({name: it[()]}) if isinstance(it, h5py.Dataset) else None)
    return found


def test_they_do_not_depend_on_how_much_is_read_at_once_and_need_scores_of_these_events(
    filled: Path, tmp_path: Path, shifted_skims: ShiftedSkims
) -> None:
    job = first_job(filled, "WZ")
    fill_file(replace(job, output=tmp_path / "x.h5", chunk=3))  # in three events there are often three jets
    before, after = sums(job.output), sums(tmp_path / "x.h5")
    assert list(before) == list(after)
    for name, values in before.items():
        assert after[name] == pytest.approx(values, rel=1e-9, abs=1e-12)
    with pytest.raises(NanoMLError, match=r"has another number of events than .*Score that file again"):
        fill_file(replace(job, events=shifted_skims.shifted[3], output=tmp_path / "y.h5"))


def test_bins_in_which_the_signal_may_show_are_blind(filled: Path, tmp_path: Path) -> None:
    """In all eras of a region where S > limit * sqrt(B) in their sum, in both files; simulation stays as it is."""
    stages = pipeline_stages(load(filled / "a.yaml"), ("histogram",))
    job = replace(stages[0].tasks[0].work.args[0], output=tmp_path / "x.h5", root=tmp_path / "x.root")
    every = Templates.read(filled / "a/histograms/histograms.h5").histogram("MET")
    channels = [it.processes for it in every.channels if it.region == "few"]
    signal, background = (
        sum(each[name].nominal for each in channels for name in names if name in each)
        for names in (("fakes",), ("WZ", "ZZ"))
    )
    limit = float(np.median(signal[background > 0] / np.sqrt(background[background > 0])))
    plans = [it for it in job.plans if it.name == "MET"]  # others would hide as much
    told = make_templates(replace(job, blind=BlindBins("fakes", limit), plans=plans, chosen={}))
    made = Templates.read(tmp_path / "x.h5")
    assert made.blind == BlindBins("fakes", limit)
    hidden = signal > limit * np.sqrt(background)
    assert 0 < hidden.sum() < len(hidden)
    assert told["blind"]["MET/few_2018"] == hidden.sum()
    for before, after in zip(every.channels, made.histogram("MET").channels):
        for name, template in before.processes.items():
            if name != "data_obs":
                assert after.processes[name].nominal.tolist() == template.nominal.tolist()
            elif before.region == "few":
                assert after.blind is not None
                assert after.blind.tolist() == hidden.tolist()
                seen = after.processes[name].nominal
                assert seen[~hidden].tolist() == template.nominal[~hidden].tolist()
                with uproot.open(tmp_path / "x.root") as file:
                    written = file[f"MET/{after.name}/data_obs"].values(flow=True)
                assert np.array_equal(written, seen, equal_nan=True)


def test_bins_are_blind_by_all_eras_together() -> None:
    def channel(era: str, signal: list[float]) -> HistogramChannel:
        contents = {"S": signal, "B": [0.0, 9, 9, 0], "T": [0.0, 0, 3, 0], "data_obs": [0.0, 1, 1, 0]}
        processes = {name: Template(np.array(it), np.array(it)) for name, it in contents.items()}
        return HistogramChannel("SR", era, processes)

    channels = (channel("a", [0.0, 3, 0, 0]), channel("b", [0.0, 3, 3, 0]))
    histogram, alike = FilledHistogram("x", (TemplateAxis("x", (0, 1, 2)),), channels), {"x": ["x"]}
    # 3 / sqrt(9) of an era alone is below
    made = _blinded(histogram, _hidden([histogram], alike, BlindBins("S", 1.2)), ())
    blind = [np.isnan(it.processes["data_obs"].nominal).tolist() for it in made.channels]
    assert blind == [[False, True, False, False]] * 2
    made = _blinded(histogram, _hidden([histogram], alike, BlindBins("S", 1.2, ("T",))), ())
    assert np.isnan(made.channels[0].processes["data_obs"].nominal).tolist() == [False, True, True, False]


def test_the_sum_of_one_histogram_does_not_tell_what_another_hides() -> None:
    """Without signal in bins of its own, it hides as much background; and one bin, where that has none."""

    def filled(name: str, signal: list[float], background: list[float], region: str = "SR") -> FilledHistogram:
        processes = {key: Template(np.array(it), np.array(it)) for key, it in {"S": signal, "B": background}.items()}
        axis = TemplateAxis(name, tuple(range(len(signal) - 1)))
        return FilledHistogram(name, (axis,), (HistogramChannel(region, None, processes),))

    x, y = filled("x", [0.0, 1, 5, 0], [0.0, 70, 30, 0]), filled("y", [0.0, 1, 2, 3, 0], [0.0, 40, 35, 25, 0])
    z, other = filled("z", [0.0, 6, 0], [0.0, 100, 0]), filled("x", [0.0, 1, 5, 0], [0.0, 70, 30, 0], "CR")
    w, alike, bins = filled("w", [0.0, 4, 2, 0], [0.0, 20, 80, 0]), {it: [it] for it in "wxyz"}, BlindBins("S", 0.7)
    hidden = {name: it.tolist() for (name, _), it in _hidden([x, y, z], alike, bins).items()}
    assert hidden["x"] == [False, False, True, False]
    assert hidden["y"] == [False, False, True, True, False]  # 25 are less than 30
    assert hidden["z"] == [False, True, False]
    assert _hidden([x, y, w], alike, bins)["y", "SR"].tolist() == hidden["y"]  # w alone would hide 20
    assert not _hidden([y, replace(other, name="z")], alike, bins)["y", "SR"].any()
    empty = filled("x", [0.0, 1, 0, 5], [0.0, 70, 30, 0])
    assert _hidden([empty, y], alike, bins)["y", "SR"].tolist() == [False, False, False, True, False]


def test_simulation_of_an_era_loses_what_its_data_do(filled: Path, tmp_path: Path) -> None:
    """Each process of a dataset knows the regions that are blind in its era; another era has no data."""
    (tmp_path / "a.yaml").write_text(analysis(filled).replace("blind: none", "blind: {regions: [few]}"))
    stage: Any = fill_stage(Analysis(load(tmp_path / "a.yaml")))
    shares = {task.name.split("/")[0]: [it.shares for it in task.work.args[0].processes] for task in stage.tasks}
    few = {"few": 0.0}
    assert shares == {"ZZ": [{}], "WZ": [few, few], "Muon": [few, few]}


def test_an_event_in_a_blind_region_is_in_no_other_under_any_shift(filled: Path, tmp_path: Path) -> None:
    """Simulation, and data in a class, count by the share; data as a whole, by their hashes."""
    text = analysis(filled).replace("regions: {few", "regions: {tight: MET > 60, few").replace("blind: none\n", "")
    (tmp_path / "a.yaml").write_text(text.replace("into: {", "into: {tight: 1, "))
    stages = pipeline_stages(load(tmp_path / "a.yaml"), ("normalise", "score", "fill"))
    for task in [*stages[0].tasks, *stages[1].tasks]:
        task.work()
    tasks = {task.name: task.work.args[0] for task in stages[2].tasks}
    for name, share in itertools.product(("WZ/0", "WZ/3", "Muon/data"), (0, 0.25)):
        job = tasks[name]
        fill_file(replace(job, processes=[replace(it, shares={"tight": share}) for it in job.processes]))
        skim, scores, found = branches_of(job.events), branches_of(job.scores), sums(job.output)
        part = part_of(*(scores[name] for name in ("run", "luminosityBlock", "event")))
        for process in job.processes:
            is_data, prefix = process.name == "data_obs", process.prefix
            with h5py.File(job.output) as file:
                attributes = file[f"MET/few/{process.name}"].attrs
                endings, without = (json.loads(attributes[key]) for key in ("endings", "without"))
            assert without == ([] if is_data else ["tight"])
            for number, ending in enumerate(endings):
                few, tight = (
                    scores.get(f"{prefix}in_{it}{ending}", scores[f"{prefix}in_{it}"]) for it in ("few", "tight")
                )
                weights = few * np.where(tight, part < share if is_data else share, 1.0)
                edges, values = [-np.inf, *EDGES, np.inf], skim.get(f"MET{ending}", skim["MET"])
                expected = np.histogram(values, edges, weights=weights * scores[f"{prefix}eventWeight{ending}"])[0]
                assert found[f"MET/few/{process.name}/sums"][number] == pytest.approx(expected, rel=1e-6)
        assert ("MET/tight/data_obs/sums" in found) == (share > 0 and name == "Muon/data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ('high: {of: METT, bins: [4, 0, 4]}', r'a.yaml:\d+: histogram.high: .*has no branch METT. Did you mean "MET"?'),
        ("high: {of: [MET, SelJet_pt], bins: [[2, 0, 4], [2, 0, 4]]}", r"the axes of the histogram high have different numbers of entries"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled(filled: Path, tmp_path: Path, changes: str, message: str) -> None:
    text = analysis(filled)
    start, end = text.index("  high:"), text.index("  both:")
    (tmp_path / "a.yaml").write_text(text[:start] + f"  {changes}\n" + text[end:])
    stage: Any = fill_stage(Analysis(load(tmp_path / "a.yaml")))
    task = next(task for task in stage.tasks if task.name.startswith("WZ/"))
    job = task.work.args[0]
    scores = filled / "a/scores/WZ" / Path(job.scores).name
    with pytest.raises(ConfigError, match=message):
        fill_file(replace(job, scores=str(scores)))
    assert not job.output.exists()


def test_what_is_no_file_of_histograms(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match=r"no such file. `nanoml histogram` makes it"):
        Templates.read(tmp_path / "x.h5")
    (tmp_path / "x.h5").write_bytes(b"x")
    with pytest.raises(NanoMLError, match=r"is not a file of histograms, or is damaged"):
        Templates.read(tmp_path / "x.h5")


def test_a_single_network_counts_on_what_it_has_not_seen(filled: Path, tmp_path: Path) -> None:
    """The events of the first of five folds stand for all of their process, in histograms of scores alone; all data count."""
    text = analysis(filled).replace("\nscore:", "\ntrain: {folds: 1, regions: [few]}\nscore:")
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "a").symlink_to(filled / "a")
    stages = pipeline_stages(load(tmp_path / "a.yaml"), ("fill", "histogram"))
    jobs = [task.work.args[0] for task in stages[0].tasks]
    parts, totals = [], {}
    for number, job in enumerate(jobs):
        seen = [replace(process, shares={}) for process in job.processes]
        job = replace(job, output=tmp_path / f"{number}.h5", processes=seen)
        scores = branches_of(job.scores)
        prefix = next(name for name in scores if name.endswith("_fold")).removesuffix("_fold")
        fill_file(replace(job, model=prefix, plans=[_named(job, "MET"), _of(job, f"{prefix}_a")]))
        parts.append(Part(job.output, "2022" if "/ZZ/" in job.scores else "2018"))
        key = Path(job.scores).parent.name
        fold = fold_of(scores["run"], scores["luminosityBlock"], scores["event"], 5)
        inside, weights = scores["in_few"], scores["eventWeight"].astype(float)
        mine = totals.setdefault(key, np.zeros(4))
        used = weights[inside & (fold == 0)]
        mine += weights.sum(), weights[fold == 0].sum(), used.sum(), (used**2).sum()
    job = replace(stages[1].tasks[0].work.args[0], parts=parts, plans=[_named(jobs[0], "MET"), _of(jobs[0], "x")], chosen={},
                  output=tmp_path / "x.h5", root=tmp_path / "x.root")  # fmt: skip
    make_templates(job)
    of_scores, plain = (
        next(it for it in Templates.read(job.output).histogram(name).channels if it.name == "few_2018").processes
        for name in ("of", "MET")
    )
    every, unseen, inside, squares = totals["WZ"]
    assert of_scores["WZ"].nominal.sum() == pytest.approx(inside * every / unseen)
    assert of_scores["WZ"].variances.sum() == pytest.approx(squares * (every / unseen) ** 2)
    assert plain["WZ"].nominal.sum() != pytest.approx(inside * every / unseen)
    assert of_scores["data_obs"].nominal.sum() == plain["data_obs"].nominal.sum() > 0


def _named(job: Any, name: str) -> Any:
    return next(plan for plan in job.plans if plan.name == name)


def _of(job: Any, quantity: str) -> Any:
    plan = _named(job, "MET")
    return replace(plan, name="of", axes=(Axis(Expression(quantity, "a.yaml"), (-1e9, 0.0, 1e9)),), regions=("few",))


FOR_ONE_PURPOSE = """\
luminosity: 10
datasets:
  signal: {files: signal.root, class: signal, cross_section: 1}
  LO:     {files: LO.root, class: WZ, cross_section: 2, only: training}
  NLO:    {files: NLO.root, class: WZ, cross_section: 3, only: fit}
  both:   {files: both.root, class: WZ, cross_section: 4}
  tune:   {files: tune.root, cross_section: 7, varies: both, variation: tune}
  other:  {files: other.root}
  Muon:   {files: Muon.root, data: true}
regions: {SR: isTight, side: "!isTight"}
data_driven:
  fakes: {from: Muon, region: side, weight: 0.2, subtract: [NLO, LO], into: {SR: nB == 0}}
  flips: {from: Muon, region: side, weight: 0.1, into: {SR: 1}, only: fit}
convert: {features: [x]}
train: {model: mlp, folds: 1, regions: [SR]}
export: {name: linear}
score: {model: MODEL}
histogram: {y: {bins: [4, -2, 2]}, score: {of: linear_WZ, bins: [4, 0, 1]}}
"""


@pytest.fixture(scope="module")
def config_file(linear_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("only")
    for seed, name in enumerate(("signal", "LO", "NLO", "both", "tune", "other", "Muon")):
        write(directory / f"{name}.root", seed, 400, 0.1 * seed, run=320_000 if name == "Muon" else 1)
    (directory / "a.yaml").write_text(FOR_ONE_PURPOSE.replace("MODEL", str(linear_model(["x"]))))
    return directory / "a.yaml"


def test_what_is_not_filled_is_said(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    stage: Any = fill_stage(Analysis(load(config_file)))
    filled = {task.name.split("/")[0]: task.work.args[0].processes for task in stage.tasks}
    assert {name: [(it.name, it.is_seen) for it in processes] for name, processes in filled.items()} == {
        "signal": [("signal", True)],
        "NLO": [("WZ", False), ("fakes", False)],
        "both": [("WZ", True)],
        "tune": [("WZ", False)],
        "Muon": [("data_obs", False), ("fakes", True), ("flips", False)],
    }
    assert "in no histogram: LO (only: training), other (it has no class)" in capsys.readouterr().err


def expected(directory: Path, name: str, prefix: str, is_seen: bool) -> Any:
    """The events of a dataset in SR, by plain numpy: all, and those that no network has seen, which stand for all."""
    (path,) = (directory / "a/scores" / name).glob("*.root")
    with uproot.open(path) as file:
        events = file["Events"].arrays(library="np")
    weights, inside = events[f"{prefix}eventWeight"].astype(float), events[f"{prefix}in_SR"]
    fold = fold_of(events["run"], events["luminosityBlock"], events["event"], 5)
    unseen = fold == 0 if is_seen else np.ones(len(fold), bool)
    factor = weights.sum() / weights[unseen].sum()
    return np.array([weights[inside].sum(), factor * weights[inside & unseen].sum()])


def test_events_of_samples_for_the_fit_count_all_and_nothing_twice(config_file: Path) -> None:
    run_stages(config_file, "normalise", "score", "fill", "histogram")
    directory = config_file.parent
    templates = Templates.read(directory / "a/histograms/histograms.h5")
    assert templates.classes == ("signal", "WZ", "fakes", "flips")
    assert templates.histogram("score").origins == {
        "signal": Origin(("signal",)),
        "WZ": Origin(("NLO", "both")),
        "fakes": Origin(("Muon", "less NLO"), True),
        "flips": Origin(("Muon",), True),
    }
    sums = {
        "WZ": expected(directory, "NLO", "", False) + expected(directory, "both", "", True),
        "fakes": expected(directory, "Muon", "fakes_", True) + expected(directory, "NLO", "fakes_", False),
        "flips": expected(directory, "Muon", "flips_", False),
    }
    assert abs(sums["WZ"][1] / sums["WZ"][0] - 1) > 0.01
    for number, name in enumerate(("y", "score")):
        processes = next(it for it in templates.histogram(name).channels if it.region == "SR").processes
        for it, each in sums.items():
            assert processes[it].nominal.sum() == pytest.approx(each[number], rel=1e-6)
