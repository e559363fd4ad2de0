"""An edit redoes what it changes, and nothing else: what is planned after one run, each time in a copy of its directory."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uproot

from MLTools.NanoML import dependencies
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.stages import NAMES
from MLTools.NanoML.workflow.pipeline import between, execute, planned, redraw
from MLTools.NanoML.workflow.records import Records
from processes import nanoml

ROOT = Path(__file__).resolve().parents[2]
for _module in ("data_processing.skim.stage", "ML_processing.stages", "statistical_analysis.stages"):
    pytest.importorskip(_module)

WHOLE = ("roc", "prefit_SR_2018", "postfit_SR_2018")
DRAWN = ["report", "draw", "plot"]
FILLED = ["fill", "histogram", "draw", "fit", "plot"]
LEARNT = ["train", "evaluate", "report", "export", "score", *FILLED]
BEHIND_CONVERSION = ["convert", *LEARNT]
WEIGHTED = ["convert", "evaluate", "report", "normalise", "score", *FILLED]
BEHIND_SKIMS = ["skim", "convert", "train", "evaluate", "report", "export", "normalise", "score", *FILLED]
MORE = """
import functools
import importlib
import os
from pathlib import Path

HERE = Path(__file__).parent
SCALE = float((HERE / "tables" / "sf.json").read_text())
CUTS = importlib.import_module("cuts_" + "by_name")
YEAR = os.environ.get("WZ_YEAR")


@functools.lru_cache
def kept(name):
    return float((HERE / "tables" / f"{name}.json").read_text())


def keeping(self, events, cutflow, of_wz=WZ.select):
    kept("ke" + "pt")
    (HERE / "override.json").is_file()
    return of_wz(self, events, cutflow)


WZ.select = keeping
"""
NEW = '  New_2018: {files: "nano/ZGToLLG/*_0.root", era: 2018, cross_section: 0.1%s}\n\nregions:'


@pytest.fixture(scope="module", autouse=True)
def sketched(no_pdfs: None) -> Iterator[None]:
    """Only the texts of figures are drawn, the label among them, except in those of WHOLE: the rest would take most of the time."""
    from matplotlib.figure import Figure

    from MLTools.NanoML.report.figures import Figures

    add, whole = Figures.add, Figure.draw

    def sketch(figure: Figure, renderer: Any) -> None:
        for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts)):
            text.draw(renderer)

    def chosen(figures: Figures, name: str, draw: Any, numbers: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "draw", whole if name in WHOLE else sketch)
            add(figures, name, draw, numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figures, "add", chosen)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sketched: None) -> Path:
    """One era of examples/wz.yaml after a run, with a training that takes no time, and a selection that reads more."""
    directory = tmp_path_factory.mktemp("edits") / "first"
    directory.mkdir()
    text = re.sub(r"\n  (\w+_)?2022:.*", "", (ROOT / "examples" / "wz.yaml").read_text()).replace("_[01].", "_0.")
    (directory / "wz.yaml").write_text(text.replace("\ntrain:\n", "\ntrain:\n  epochs: 1\n  folds: 3\n  model: mlp\n"))
    shutil.copytree(ROOT / "examples" / "corrections", directory / "corrections")
    (directory / "nano").symlink_to(ROOT / "examples" / "nano")
    (directory / "wz.py").write_text((ROOT / "examples" / "wz.py").read_text() + MORE)
    (directory / "tables").mkdir()
    (directory / "tables" / "sf.json").write_text("1.0")
    (directory / "tables" / "kept.json").write_text("1.0")
    (directory / "cuts_by_name.py").write_text("PT = 20\n")
    done = nanoml("run", "wz.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy", symlinks=True)


def redone(directory: Path, name: str = "wz.yaml") -> dict[str, list[str]]:
    """The tasks of each stage that are to be done."""
    return {it.stage.name: [*it.reasons] for it in planned(load(directory / name), NAMES) if it.reasons}


def replaced(path: str, old: str, new: str) -> Callable[[Path], Any]:
    def edit(directory: Path) -> None:
        text = (directory / path).read_text()
        assert text.count(old) == 1
        (directory / path).write_text(text.replace(old, new))

    return edit


def correction_of_the_same_size_and_time(directory: Path) -> None:
    path = directory / "corrections" / "2018" / "pileup.json"
    status = path.stat()
    text, number = re.subn(r'("content":\s*\[\s*)\d', r"\g<1>7", path.read_text(), count=1)
    assert number == 1
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def sections_in_another_order(directory: Path) -> None:
    head, *sections = (directory / "wz.yaml").read_text().split("\n\n")
    (directory / "wz.yaml").write_text("\n\n".join([head, *reversed(sections)]))


def datasets_in_another_order(directory: Path) -> None:
    lines = (directory / "wz.yaml").read_text().splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if re.match(r"  \w+_20..: ", line)]
    for place, line in zip(places, [lines[it] for it in reversed(places)], strict=True):
        lines[place] = line
    (directory / "wz.yaml").write_text("".join(lines))


LABEL = replaced("wz.yaml", "(Pythia, not CMS)", "(Pythia)")
CONTROL_REGION = replaced("wz.yaml", "nBJet > 0", "nBJet > 1")
LUMINOSITY = replaced("wz.yaml", "luminosity: 59.8", "luminosity: 60.1")
CROSS_SECTION = replaced("wz.yaml", "0.0546}", "0.06}")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        pytest.param(LABEL, DRAWN, id="a label"),
        pytest.param(
            CONTROL_REGION, ["convert", "evaluate", "report", "score", *FILLED], id="a region that is not trained on"
        ),
        pytest.param(replaced("wz.yaml", "< 15", "< 10"), BEHIND_CONVERSION, id="a region that is trained on"),
        pytest.param(replaced("wz.yaml", "epochs: 1\n", "epochs: 2\n"), LEARNT, id="the training"),
        pytest.param(
            replaced("wz.yaml", "CMSSW_14_0_X", "CMSSW_13_3_X"), ["export", "score", *FILLED], id="the release"
        ),
        pytest.param(
            replaced("wz.yaml", "wz.py:WZ\n", "wz.py:WZ\n  keep: [MET_sumEt]\n"),
            BEHIND_SKIMS,
            id="a branch of the skims",
        ),
        pytest.param(LUMINOSITY, WEIGHTED, id="the luminosity"),
        pytest.param(CROSS_SECTION, WEIGHTED, id="a cross section"),
        pytest.param(replaced("wz.yaml", "[30, 60, 120]", "[20, 60, 120]"), FILLED, id="bins of a figure"),
        pytest.param(
            replaced("wz.yaml", "background: 10 %", "background: 20 %"), ["fit", "plot"], id="an uncertainty of the fit"
        ),
        pytest.param(replaced("tables/sf.json", "1.0", "1.1"), BEHIND_SKIMS, id="a table"),
        pytest.param(replaced("cuts_by_name.py", "20", "30"), BEHIND_SKIMS, id="a helper that is imported by its name"),
        pytest.param(lambda _: os.environ.update(WZ_YEAR="2018"), BEHIND_SKIMS, id="a variable"),
        pytest.param(correction_of_the_same_size_and_time, BEHIND_SKIMS, id="a correction of the same size and time"),
    ],
)
def test_an_edit_redoes_what_follows(
    copied: Path, edit: Callable[[Path], Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WZ_YEAR", "2017")
    monkeypatch.delenv("WZ_YEAR")  # and it is so again at the end
    edit(copied)
    assert [*redone(copied)] == expected


@pytest.mark.parametrize("name", ["tables/kept.json", "override.json"])
def test_what_one_process_keeps_redoes_all_that_it_has_done(copied: Path, name: str) -> None:
    (stage,) = planned(load(copied / "wz.yaml"), ["skim"])
    (copied / name).write_text("1.1")
    assert redone(copied)["skim"] == [task.name for task in stage.stage.tasks]


def test_what_matters_to_no_result_redoes_nothing(copied: Path) -> None:
    """Comments, the order of keys and of datasets, another name of the file, and a directory that was copied and moved."""
    replaced("wz.yaml", "\nregions:", "\n# a comment\n\nregions:")(copied)
    replaced("cuts_by_name.py", "20", "20  # GeV")(copied)
    sections_in_another_order(copied)
    datasets_in_another_order(copied)
    (copied / "wz.yaml").rename(copied / "analysis.yaml")
    assert redone(copied.rename(copied.with_name("moved")), "analysis.yaml") == {}


def scored(directory: Path) -> dict[str, dict[str, bytes]]:
    """All columns of all files of scores."""
    found = {}
    for path in sorted((directory / "wz" / "scores").rglob("*.root")):
        with uproot.open(path) as file:
            found[path.name] = {key: it.array().to_list() for key, it in file["Events"].items()}
    return found


def results(directory: Path) -> tuple[object, ...]:
    return scored(directory), (directory / "wz" / "histograms/histograms.h5").read_bytes()


def metrics(directory: Path) -> dict[str, Any]:
    return {**json.loads((directory / "wz" / "training" / "metrics.json").read_text()), "created": ""}


@pytest.mark.exhaustive("what is made again in part is as the whole")
@pytest.mark.usefixtures("white_figures")
def test_weights_and_regions_are_made_again_as_the_whole_without_a_network(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.evaluations import draw_only, runs_of_networks  # need torch

    draw_only(monkeypatch)
    before, runs = results(copied), list[str]()
    kept = [copied / "wz" / ".nanoml" / name for name in ("train/network.json", "export/model.json")]
    records = [path.read_bytes() for path in kept]
    of_model = Model.run
    monkeypatch.setattr(Model, "run", lambda self, *given: runs.append(self.name) or of_model(self, *given))
    for edit in (CONTROL_REGION, LUMINOSITY, CROSS_SECTION):
        edit(copied)
    measured = metrics(copied)
    with runs_of_networks() as evaluated:
        execute(load(copied / "wz.yaml"), between(None, "histogram"), False, lambda _: None)
    assert (runs, evaluated, [path.read_bytes() for path in kept]) == ([], [], records)
    assert [*redone(copied)] == ["fit", "plot"]
    part, again = results(copied), metrics(copied)
    assert part[0] != before[0]
    assert again["regions"]["CR_b"] != measured["regions"]["CR_b"]
    with runs_of_networks() as evaluated:
        execute(load(copied / "wz.yaml"), ["evaluate"], True, lambda _: None)
    assert evaluated
    assert metrics(copied) == again
    execute(load(copied / "wz.yaml"), between("score", "histogram"), True, lambda _: None)
    assert runs
    assert results(copied) == part


@pytest.mark.exhaustive("what is drawn again in part is as the whole")
def test_a_label_is_drawn_and_nothing_is_measured_or_fitted_again(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [copied / "wz" / name for name in ("training/metrics.json", "fit/results.json", "fit/datacard.txt")]
    contents = [path.read_bytes() for path in numbers]
    for module, name in (("ML_processing.evaluation.report", "evaluate"), ("statistical_analysis.inference", "infer")):
        monkeypatch.delattr(f"{module}.{name}")
    LABEL(copied)
    config = load(copied / "wz.yaml")
    pictures = {path: path.read_bytes() for path in (copied / "wz").rglob("*.png")}
    redraw(config, ["roc", "postfit_*"], False, lambda _: None)
    changed = {path.stem for path, before in pictures.items() if path.read_bytes() != before}
    assert changed == {"roc", "postfit_SR_2018"}
    in_page = base64.b64encode((copied / "wz/training/roc.png").read_bytes()).decode()
    assert in_page in (copied / "wz/training/report.html").read_text()
    assert [*redone(copied)] == DRAWN
    redraw(config, [], False, lambda _: None)
    assert (redone(copied), [path.read_bytes() for path in numbers]) == ({}, contents)
    assert not [path for path, before in pictures.items() if path.read_bytes() == before]
    replaced("wz.yaml", "(Pythia)", "(Pythia, not CMS)")(copied)
    redraw(load(copied / "wz.yaml"), WHOLE, False, lambda _: None)
    assert {path.stem for path, before in pictures.items() if path.read_bytes() == before} == {*WHOLE}


class Program:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_measurements_of_somebody_else_run_no_program(copied: Path) -> None:
    from ML_processing.requests import MEASURED  # needs torch

    found = copied / "wz" / "training" / MEASURED
    found.write_bytes(pickle.dumps(Program(copied / "ran")))
    [evaluation] = planned(load(copied / "wz.yaml"), ["evaluate"])
    Records(copied / "wz" / ".nanoml", copied).write_outputs(evaluation.stage.tasks[0])
    LABEL(copied)
    for do in (
        lambda it: redraw(it, ["roc"], False, lambda _: None),
        lambda it: execute(it, DRAWN, False, lambda _: None),
    ):
        with pytest.raises(NanoMLError, match=rf"{MEASURED}: is damaged .* Measure again: `nanoml evaluate --force`"):
            do(load(copied / "wz.yaml"))
    assert not (copied / "ran").exists()


def test_what_is_to_be_measured_or_fitted_again_is_not_drawn(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replaced("wz.yaml", "\nfit:\n", "\nfit:\n  toys: 100\n")(copied)
    pages = {path: path.read_bytes() for path in (copied / "wz").rglob("*.html")}
    redraw(load(copied / "wz.yaml"), [], True, lambda _: None)
    told = " ".join(capsys.readouterr().err.split())
    assert "Left as it is, since drawing is not enough: fit: 1 of 1 to do all: settings.toys" in told
    assert "report: 1 of 1 to do" in told
    with pytest.raises(NanoMLError, match=r"^pulls: there is no such figure\. Known are ZCand_.*, roc, "):
        redraw(load(copied / "wz.yaml"), ["roc", "pulls"], False, lambda _: None)
    assert {path: path.read_bytes() for path in pages} == pages


@pytest.mark.parametrize(("more", "learnt"), [(", class: background", True), ("", False)])
def test_a_new_dataset_redoes_its_own_files_and_what_learns_of_it(copied: Path, more: str, learnt: bool) -> None:
    replaced("wz.yaml", "\nregions:", NEW % more)(copied)
    found = redone(copied)
    own = {"skim": ["New_2018/ZGToLLG_0"], "convert": ["New_2018"], "normalise": ["New_2018"]}
    assert {name: tasks for name, tasks in found.items() if name in own} == own
    assert [name for name in found if name not in own] == (LEARNT if learnt else ["score"])
    if not learnt:
        assert found["score"] == ["New_2018/ZGToLLG_0"]


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("python/terminal/progress.py", "_EVERY = 15.0", "_EVERY = 10.0", []),
        ("python/grid/proxy.py", "from __future__", "_another = 1\nfrom __future__", []),
        ("data_processing/convert/convert.py", "events were written of", "events have been written of", []),
        ("python/report/figures.py", "_PANEL = (3.5, 3.0)", "_PANEL = (3.6, 3.0)", DRAWN),
        ("python/model/padding.py", "from __future__", "import math\nfrom __future__", None),
        ("data_processing/convert/writing.py", "from __future__", "import math\nfrom __future__", BEHIND_CONVERSION),
    ],
)
def test_our_own_code_redoes_what_it_makes(
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    old: str,
    new: str,
    expected: list[str] | None,
) -> None:
    packages = {"MLTools.NanoML": "python", **{part: part for part in dependencies._PACKAGES[1:]}}
    ignored = shutil.ignore_patterns("__pycache__")
    trees = {name: shutil.copytree(ROOT / it, tmp_path / "code" / it, ignore=ignored) for name, it in packages.items()}
    monkeypatch.setattr(dependencies, "_directories", lambda: trees)
    text = (tmp_path / "code" / path).read_text()
    assert old in text
    (tmp_path / "code" / path).write_text(text.replace(old, new))
    found = [*redone(copied)]
    if expected is None:  # what reads objects
        assert found[-5:] == FILLED
        assert {"convert", "train"} & {*found}
    else:
        assert found == expected
