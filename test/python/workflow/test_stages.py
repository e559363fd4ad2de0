"""Stages, what their jobs ask for, what a run imports, and `nanoml accept`: a change of code that does not matter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, in_words
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.stages import NAMES, declared, seconds_in
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.pipeline import between


def test_stages_follow_each_other() -> None:
    assert between(None, None) == NAMES
    assert between("convert", "train") == ("convert", "shuffle", "train")
    assert between("evaluate", "evaluate") == ("evaluate", "report")


def test_the_label_of_an_analysis_reaches_the_stages_that_draw_alone() -> None:
    pytest.importorskip("ML_processing.stages")
    pytest.importorskip("data_processing.skim.skim")
    analysis = Analysis(load(Path(__file__).resolve().parents[3] / "examples" / "trilepton.yaml"))
    for stage, label in (("skim", None), ("train", None), ("report", "Example (Pythia, not CMS)")):
        made = analysis.stage(declared(stage))
        assert made is not None
        assert all((task.settings.get("style") or {}).get("label") == label for task in made.tasks)


RUN = """
import sys
from MLTools.NanoML.cli import nanoml
nanoml.main(["run", "a.yaml", "--to", "skim"], standalone_mode=False)
ours = [name for name in sys.modules if name.startswith(("MLTools.NanoML.", "data_processing."))]
print(*ours)
print("torch" in sys.modules, "matplotlib" in sys.modules)
"""


def test_a_skim_of_local_files_imports_neither_batch_systems_nor_the_catalogue(tmp_path: Path, sample: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    (tmp_path / "a.yaml").write_text(f"datasets: {{ZG: {{files: {source}}}}}\nskim: {{cut: nMuon >= 2}}\n")
    line = [sys.executable, "-c", RUN]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    modules, others = done.stdout.splitlines()
    folders = {name.removeprefix("MLTools.NanoML.").partition(".")[0] for name in modules.split()}
    assert "data_processing.skim.skim" in modules.split()
    assert not folders & {"batch", "grid", "doctor", "inspection"}
    assert not [name for name in modules.split() if name.endswith("datasets.catalogue") or "crab" in name]
    assert not [name for name in modules.split() if "nanoaodtools" in name]
    core = [name for name in modules.split() if ".extensions" not in name]
    assert len(core) < 110  # some of them make the page of the analysis
    assert others == "False False"
    assert len(list((tmp_path / "a" / "skims").rglob("*.root"))) == 1


SELECTION = """
from MLTools.NanoML.selection import Selection

class TwoJets(Selection):
    branches = ("nJet",)
    columns = {}
    def select(self, events, cutflow):
        return cutflow.cut("two jets", events.nJet > 1, events), {}
"""


def run(*arguments: object) -> str:
    done = CliRunner().invoke(nanoml, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output


@pytest.fixture(scope="module")
def skimmed(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """An analysis of two files and of a selection in a file, after its skim."""
    directory = tmp_path_factory.mktemp("accepted") / "first"
    directory.mkdir()
    (directory / "mine.py").write_text(SELECTION)
    lines = [f"  {name}: {{files: {sample / name / name}_0.root}}" for name in ("ZGToLLG", "WZTo3LNu")]
    path = directory / "a.yaml"
    path.write_text("\n".join(["datasets:", *lines, "skim: {selection: mine.py:TwoJets, workers: 1}\n"]))
    run("skim", path)
    return directory


@pytest.fixture
def config(skimmed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(skimmed, tmp_path / "copy") / "a.yaml"


def test_a_change_is_accepted_once(config: Path) -> None:
    assert run("accept", "skim", config) == "skim: up to date, nothing to accept\n"
    (config.parent / "mine.py").write_text(SELECTION + "\n# a comment\n")
    assert run("run", config, "--dry-run") == "skim: up to date (2 of 2)\n"
    (config.parent / "mine.py").write_text(SELECTION.replace("> 1", ">= 2"))
    plan = run("run", config, "--dry-run")
    assert "skim: 2 of 2 to do" in plan
    assert "mine.py was changed" in plan
    would = run("accept", "skim", config, "--dry-run")
    assert would == "skim: 2 of 2 would be accepted as they are: mine.py was changed\n"
    assert run("run", config, "--dry-run") == plan
    assert run("accept", "skim", config) == would.replace("would be", "are")
    assert run("run", config, "--dry-run") == "skim: up to date (2 of 2)\n"
    for record in (config.parent / "a" / ".nanoml" / "skim").rglob("*.json"):
        assert [each["because"] for each in json.loads(record.read_text())["accepted"]] == ["mine.py was changed"]


def test_what_is_changed_otherwise_stays_to_do(config: Path) -> None:
    (config.parent / "mine.py").write_text(SELECTION.replace("> 1", ">= 2"))
    next((config.parent / "a" / "skims").rglob("*.root")).unlink()
    assert run("accept", "skim", config).splitlines() == [
        "skim: 1 of 2 are accepted as they are: mine.py was changed",
        "skim: 1 of 2 are out of date for another reason",
    ]


def test_a_stage_that_the_analysis_has_not(config: Path) -> None:
    done = CliRunner().invoke(nanoml, ["accept", "train", str(config)])
    assert "has no section for train" in str(done.exception)


def test_times() -> None:
    times = {"90s": 90, "30min": 1800, "2m": 120, "8h": 28800, "1.5h": 5400, "2d": 172800, " 1 d ": 86400, "0s": 1}
    assert {text: seconds_in(text) for text in times} == times
    for text in ("", "8", "h", "-1h", "8 hours", "1h30", "8h\n8h", "nan h"):
        with pytest.raises(ConfigError, match="is not a time: write it as 30min, 8h or 2d"):
            seconds_in(text)
    assert [in_words(it) for it in (45, 720, 12600, 181440)] == ["45 s", "12 min", "3.5 h", "2.1 d"]


def test_a_job_that_lacked_something_asks_for_twice_of_it() -> None:
    before = Resources()
    assert before.after("memory") == Resources(memory=4000)
    assert before.after("time") == Resources(time=7200)
    assert before.after("disk") == Resources(disk=4000)
    assert before.after("killed") is before
    assert before.after("memory").changes_since(before) == "memory 2000 -> 4000 MB"
    assert Resources(7200, disk=4000).changes_since(before) == "time 60 min -> 2.0 h, disk 2000 -> 4000 MB"
    assert before.changes_since(before) == ""
