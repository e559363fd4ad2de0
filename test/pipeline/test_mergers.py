"""Skims by nano_postproc.py in ranges of entries, merged by whatever merges ROOT files, have the weights of one pass."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest

pytest.importorskip("data_processing.skim.skim")

from data_processing.convert.convert import ConvertJob, Sample, convert_files
from data_processing.merge.merge import MergeJob, merge_files
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Column, Selection
from services.nanoaodtools import needs_nanoaodtools, postprocessor
from services.shifted import ShiftedSkims

pytestmark = needs_nanoaodtools

ENTRIES = 600
RANGES = ((0, 150), (150, 250), (400, 1000))  # first entry, and how many
CUT = "MET_pt > 25"
SECTIONS = {"1": [[14001, 14002], [14004, 14004]]}
OPTIONS: dict[str, dict[str, Any]] = {"all": {}, "cut": {"cut": CUT}, "json": {"jsonInput": SECTIONS}}
OPTIONS["cut and json"] = {**OPTIONS["cut"], **OPTIONS["json"]}


class Muons(Selection):
    branches = ("Muon_pt",)
    columns = {"ht": Column("f4", "sum of pt [GeV]")}

    def select(self, events: Any, cutflow: Any) -> Any:
        events = cutflow.cut("a muon", ak.num(events.Muon.pt) > 0, events)
        return events, {"ht": ak.sum(events.Muon.pt, axis=1)}


class EvenEvents:
    """A module that is no selection."""

    def beginJob(self, *_: Any) -> None:  # noqa: N802
        pass

    endJob = beginFile = endFile = beginJob  # noqa: N815

    def analyze(self, event: Any) -> bool:
        return bool(event.event % 2 == 0)


@pytest.fixture(scope="module")
def source(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulation with weights of both signs that have many digits, and three rows in Runs."""
    path = tmp_path_factory.mktemp("source") / "in.root"
    original = sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"
    with RootFile(original) as file:
        names = ("run", "luminosityBlock", "event", "genWeight", "MET_pt", "nMuon", "Muon_pt")
        branches = {name: file.branches[name] for name in names}
        events = file.read([name for name in names if name != "nMuon"], 0, ENTRIES)
        runs = {name: file.branches_of("Runs")[name] for name in ("run", "genEventSumw")}
        blocks = {name: file.branches_of("LuminosityBlocks")[name] for name in ("run", "luminosityBlock")}
        sections = file.other_tree("LuminosityBlocks", list(blocks)) or {}
    random = np.random.default_rng(3)
    events["genWeight"] = random.normal(0.4, 1, ENTRIES).astype(np.float32)
    assert (events["genWeight"] < 0).sum() > 100
    with NanoWriter(path, branches, "ZLIB:1") as writer:
        writer.events.extend(events)
        writer.write_tree("Runs", runs, {"run": np.ones(3, np.uint32), "genEventSumw": np.array([500.1, -99.7, 33.3])})
        writer.write_tree("LuminosityBlocks", blocks, sections)
        writer.finish()
    return path


Postprocess, Ranges, Whole = Callable[..., Path], Callable[[str], list[Path]], Callable[[str], Path]


@pytest.fixture(scope="module")
def postprocess(tmp_path_factory: pytest.TempPathFactory) -> Postprocess:
    number = itertools.count()

    def run(source: Path, first: int = 0, most: int | None = None, modules: Any = None, **options: Any) -> Path:
        directory, postfix = tmp_path_factory.mktemp("skims"), f"_{next(number)}"
        chosen = [PostprocModule(Muons())] if modules is None else modules
        options |= {"modules": chosen, "postfix": postfix, "firstEntry": first, "maxEntries": most}
        postprocessor()(str(directory), [str(source)], compression="none", **options).run()
        return directory / f"{source.stem}{postfix}.root"

    return run


def by_haddnano(paths: Sequence[Path], output: Path) -> None:
    script = shutil.which("haddnano.py")
    if script is None:
        pytest.skip("haddnano.py is not in the PATH")
    subprocess.run([sys.executable, script, str(output), *map(str, paths)], capture_output=True, check=True)


def by_root(paths: Sequence[Path], output: Path) -> None:
    import ROOT

    merger = ROOT.TFileMerger(False)
    assert merger.OutputFile(str(output), "RECREATE")
    for path in paths:
        assert merger.AddFile(str(path))
    assert merger.Merge()


def by_nanoml(paths: Sequence[Path], output: Path) -> None:
    merge_files(MergeJob([str(path) for path in paths], output))


MERGERS = {"haddnano": by_haddnano, "TFileMerger": by_root, "nanoml merge": by_nanoml}


def converted(paths: Sequence[Path], output: Path, **settings: Any) -> dict[int, bytes]:
    """The rows of the HDF5 file, by event."""
    sources = [str(path) for path in paths]
    sample = Sample("a", "a", 2.5)
    convert_files(ConvertJob(sources, output, ["ht", "MET_pt"], {}, sample, ["a"], 59.7, **settings))
    with h5py.File(output) as file:
        rows = file["events"][:]
    found = {int(row["event"]): row.tobytes() for row in rows}
    assert len(found) == len(rows) > 20
    return found


def accounting(path: Path) -> Accounting:
    with RootFile(path) as file:
        record: Any = Provenance.of(file)
    return record.accounting


@pytest.fixture(scope="module")
def ranges(source: Path, postprocess: Postprocess) -> Ranges:
    """The skims of the three ranges, by the options."""
    return functools.cache(lambda name: [postprocess(source, *each, **OPTIONS[name]) for each in RANGES])


@pytest.fixture(scope="module")
def whole(source: Path, postprocess: Postprocess) -> Whole:
    """The skim of one pass, by the options."""
    return functools.cache(lambda name: postprocess(source, **OPTIONS[name]))


@pytest.mark.parametrize("merger", list(MERGERS))
@pytest.mark.parametrize("options", list(OPTIONS))
def test_merged_ranges_have_the_weights_of_one_pass(
    options: str, merger: str, ranges: Ranges, whole: Whole, tmp_path: Path
) -> None:
    paths = ranges(options)
    if "json" in options and merger == "haddnano":
        # only the first range has Runs then, and haddnano.py wants in all files what the first one has
        paths = [*paths[1:], paths[0]]
    expected = converted([whole(options)], tmp_path / "whole.h5")
    MERGERS[merger](paths, tmp_path / "merged.root")
    assert converted([tmp_path / "merged.root"], tmp_path / "merged.h5") == expected
    found, one = accounting(tmp_path / "merged.root"), accounting(whole(options))
    assert (found.entries, found.selected, found.sum_of_weights) == (ENTRIES, one.selected, one.sum_of_weights)
    assert found.sum_of_weights == 500.1 - 99.7 + 33.3
    assert [(step.cut, step.events) for step in found.cutflow] == [(step.cut, step.events) for step in one.cutflow]
    content = inspect_file(tmp_path / "merged.root").to_json()
    assert content["warnings"] == content["errors"] == []
    assert content["sum_of_weights"] == one.sum_of_weights


def test_ranges_need_not_be_merged(ranges: Ranges, whole: Whole, tmp_path: Path) -> None:
    expected = converted([whole("cut")], tmp_path / "whole.h5")
    assert converted(ranges("cut")[::-1], tmp_path / "ranges.h5") == expected


def test_gaps_are_refused_or_scaled(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    paths = [ranges("all")[0], ranges("all")[2]]
    by_root(paths, tmp_path / "merged.root")
    with pytest.raises(NanoMLError, match=r"merged.root: lacks entries 150 to 399 of .*in.root, and no other"):
        converted([tmp_path / "merged.root"], tmp_path / "a.h5")
    assert inspect_file(tmp_path / "merged.root").warnings == [f"The file lacks entries 150 to 399 of {source}."]
    with RootFile(source) as file:
        weights = np.asarray(file.read(["genWeight"])["genWeight"], np.float64)
    total = (500.1 - 99.7 + 33.3) * (weights.sum() - weights[150:400].sum()) / weights.sum()
    converted([tmp_path / "merged.root"], tmp_path / "a.h5", allow_gaps=True)
    with h5py.File(tmp_path / "a.h5") as file:
        events = file["events"][:]
    entries = events["event"].astype(int)
    with RootFile(source) as file:
        order = {event: n for n, event in enumerate(file.read(["event"])["event"].tolist())}
    expected = weights[[order[event] for event in entries]] * 2.5 * 1000 * 59.7 / total
    assert events["weight"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("merger", list(MERGERS))
def test_overlaps_are_refused(source: Path, ranges: Ranges, postprocess: Any, merger: str, tmp_path: Path) -> None:
    paths = [*ranges("all"), postprocess(source, 380, 30)]
    with pytest.raises(NanoMLError, match=r"was made from entries 380 to 399 of .*in.root, as .* was: these events"):
        MERGERS[merger](paths, tmp_path / "merged.root")
        converted([tmp_path / "merged.root"], tmp_path / "a.h5")


@pytest.mark.parametrize("merger", list(MERGERS))
def test_skims_by_other_options_do_not_belong_together(ranges: Ranges, merger: str, tmp_path: Path) -> None:
    paths = [*ranges("all")[:2], ranges("cut")[2]]
    with pytest.raises(NanoMLError, match=r"selected (by the cut MET_pt > 25|without a cut)"):
        MERGERS[merger](paths, tmp_path / "merged.root")
        converted([tmp_path / "merged.root"], tmp_path / "a.h5")


def test_the_record_names_cut_json_and_modules(source: Path, postprocess: Postprocess) -> None:
    output = postprocess(source, 100, 300, [EvenEvents(), PostprocModule(Muons())], cut=CUT, jsonInput=SECTIONS)
    with RootFile(output) as file:
        record: Any = Provenance.of(file)
    criteria = record.criteria
    assert (criteria.cut, criteria.certified and criteria.certified.file) == (CUT, "luminosity JSON")
    assert [name.rpartition(":")[2] for name in criteria.modules] == ["EvenEvents", "Muons"]
    (one,) = record.accounting.files
    assert one.part is not None
    assert (one.part.first, one.entries, one.part.file_entries) == (100, 300, ENTRIES)
    assert one.file == str(source)
    with RootFile(source) as file:
        assert one.uuid == file.uuid
        weights = file.read(["genWeight"])["genWeight"].to_numpy().astype(float)
    assert one.part.weights == pytest.approx(weights[100:400].sum(), abs=1e-12)
    assert [step.cut for step in one.cutflow] == ["all", "reached Muons", "a muon"]
    assert one.cutflow[0].events == 300


@pytest.mark.parametrize("merger", list(MERGERS))
def test_a_range_without_events_counts(source: Path, postprocess: Postprocess, merger: str, tmp_path: Path) -> None:
    cut = "MET_pt > 25 && (Entry$ < 150 || Entry$ >= 400)"
    paths = [postprocess(source, *each, cut=cut) for each in RANGES]
    expected = converted([postprocess(source, cut=cut)], tmp_path / "whole.h5")
    assert [accounting(path).selected > 0 for path in paths] == [True, False, True]
    MERGERS[merger](paths, tmp_path / "merged.root")
    assert converted([tmp_path / "merged.root"], tmp_path / "merged.h5") == expected
    assert accounting(tmp_path / "merged.root").entries == ENTRIES


def test_an_input_that_is_not_there_any_more(
    source: Path, tmp_path: Path, postprocess: Postprocess, capsys: Any
) -> None:
    copy = tmp_path / "in.root"
    shutil.copy(source, copy)

    class Removing(EvenEvents):
        """Stands for prefetched files, which nanoAOD-tools removes."""

        def endJob(self) -> None:  # noqa: N802
            copy.unlink()

    output = postprocess(copy, modules=[Removing(), PostprocModule(Muons())], cut="0")
    assert "has no event, and gets no record, since" in capsys.readouterr().err
    content = inspect_file(output).to_json()
    assert (content["events"], content["record"]) == (0, None)
    assert content["sum_of_weights"] == 500.1 - 99.7 + 33.3


def test_files_that_nanoaodtools_merges(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Whole
) -> None:
    if shutil.which("haddnano.py") is None:
        pytest.skip("haddnano.py is not in the PATH")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    settings: dict[str, Any] = {"modules": [PostprocModule(Muons())], "compression": "none", "haddFileName": "all.root"}
    postprocessor()(str(tmp_path), [str(source)], **settings).run()
    expected = converted([whole("all")], tmp_path / "whole.h5")
    assert converted([tmp_path / "all.root"], tmp_path / "all.h5") == expected


def event_loop(source: Path, output: Path, entries: range) -> Path:
    """An event loop of somebody's own."""
    postprocessor()  # quietly
    import ROOT
    from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import InputTree
    from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import eventLoop
    from PhysicsTools.NanoAODTools.postprocessing.framework.output import FullOutput

    gc.collect()
    read, written = ROOT.TFile.Open(str(source)), ROOT.TFile.Open(str(output), "RECREATE")
    tree = InputTree(read.Get("Events"))
    made = FullOutput(read, tree, written)
    eventLoop([PostprocModule(Muons())], read, written, tree, made, eventRange=entries)
    made.write()
    written.Close()
    read.Close()
    return output


def test_where_no_postprocessor_is_the_range_is_unknown(source: Path, whole: Whole, tmp_path: Path) -> None:
    part = event_loop(source, tmp_path / "part.root", range(100, 400))
    (one,) = accounting(part).files
    assert one.part is not None
    assert (one.part.first, one.entries) == (None, ENTRIES)
    assert [(step.cut, step.events) for step in one.cutflow[:2]] == [("all", ENTRIES), ("reached Muons", 300)]
    with pytest.raises(NanoMLError, match=r"part.root: its record does not say which entries of .*in.root"):
        converted([part], tmp_path / "a.h5", allow_gaps=True)
    everything = event_loop(source, tmp_path / "all.root", range(ENTRIES))
    assert converted([everything], tmp_path / "b.h5") == converted([whole("all")], tmp_path / "c.h5")


def test_a_range_beyond_the_end_is_refused(source: Path, postprocess: Postprocess) -> None:
    with pytest.raises(NanoMLError, match=r"has 600 entries, and --first-entry is 700, but .* Leave the file out"):
        postprocess(source, 700, 100)


@pytest.mark.parametrize("merge", [by_root, by_haddnano])
@pytest.mark.parametrize(("places", "is_refused"), [((0, 1), True), ((1, 0), True), ((2, 0), True), ((0, 2), False)])
def test_columns_under_shifts_that_only_some_files_have(
    shifted_skims: ShiftedSkims, tmp_path: Path, merge: Callable[..., None], places: Sequence[int], is_refused: bool
) -> None:
    """Number 2 has no events; the others have different columns."""
    output = tmp_path / "merged.root"
    merge([Path(shifted_skims.shifted[place]) for place in places], output)
    job = ConvertJob([str(output)], tmp_path / "merged.h5", ["MET"], sample=Sample("WZ"))
    if is_refused:
        with pytest.raises(NanoMLError, match="columns with values under shifts, .* `nanoml merge`"):
            convert_files(job)
    else:
        selected = [each.selected for each in convert_files(job).datasets[0].accounting.files]
        assert [number > 0 for number in selected] == [True, False]
