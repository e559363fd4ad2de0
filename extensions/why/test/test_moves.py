"""What moved a result: parts and their sum against whole runs, where all changes are made at once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uproot
import yaml
from click.testing import CliRunner, Result

from MLTools.NanoML.cli import nanoml as command
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.why.path import sampled
from MLTools.NanoML.workflow.pipeline import execute
from processes import nanoml

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.exhaustive("what moved a result, against whole runs"), pytest.mark.usefixtures("one_core")]
for _module in ("data_processing.skim.stage", "ML_processing.stages"):
    pytest.importorskip(_module)


SELECTION = """
from MLTools.NanoML.selection import Weight
from MLTools.NanoML.trilepton import Trilepton


class WZ(Trilepton):
    simulated = ("Pileup_nTrueInt",)
    weights = {"pileup": Weight()}

    def select(self, events, cutflow):
        cutflow.weigh("pileup", lambda: self.dataset.corrections.pileup(events.Pileup.nTrueInt))
        return super().select(cutflow.cut("missing momentum", events.MET.pt > 30, events), cutflow)
"""


def pileup(directory: Path) -> None:
    """Weights that are larger by a third, in a file that was changed by hand."""
    path = directory / "corrections" / "2018" / "pileup.json"

    def scaled(found: re.Match[str]) -> str:
        return found[1] + ", ".join(str(float(it) * 4 / 3) for it in found[2].split(","))

    path.write_text(re.sub(r'("content":\s*\[)([-0-9.e, \n]+)', scaled, path.read_text()))


def cut(directory: Path) -> None:
    path = directory / "wz.py"
    path.write_text(path.read_text().replace("MET.pt > 30", "MET.pt > 45"))


def edited(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        content = yaml.safe_load((directory / "analysis.yaml").read_text())
        edit(content)
        (directory / "analysis.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    return write


STAGES = ("skim", "convert", "train", "export", "normalise", "score", "fill", "histogram")
MORE = {"files": "nano/WZTo3LNu/*_0.root", "class": "background", "cross_section": 0.1}
CHANGES: dict[str, Callable[[Path], None]] = {
    "corrections/2018/pileup.json": pileup,
    "wz.py": cut,
    "datasets.WZ.cross_section": edited(lambda it: it["datasets"]["WZ"].update(cross_section=0.06)),
    "datasets.more": edited(lambda it: it["datasets"].update(more=MORE)),
    "network": edited(lambda it: it["train"].update(seed=7)),
}


def analysis(directory: Path) -> Path:
    """A part of examples/trilepton.yaml with a weight and a cut more, and with a training that takes no time."""
    content = yaml.safe_load((ROOT / "examples" / "trilepton.yaml").read_text())
    files = {"signal": "WprimeToWZToLNuLL_M600", "WZ": "WZTo3LNu_Pt100", "ZG": "ZGToLLG_PtG100"}
    for name, it in files.items():
        content["datasets"][name] = {**content["datasets"].pop(it), "files": f"nano/{it}/*_0.root"}
        if name != "signal":
            content["datasets"][name]["class"] = "background"
    content["train"] |= {"epochs": 2, "folds": 3}
    content |= {"skim": {"selection": "wz.py:WZ", "keep": ["MET_pt"]}, "corrections": "corrections/2018.yaml"}
    content |= {"regions": {"SR": "abs(ZCand_mass - 91.2) < 15"}, "histogram": {"ZCand_mass": {"bins": [30, 60, 120]}}}
    del content["workdir"]
    of_2018 = shutil.ignore_patterns("2022*")
    shutil.copytree(ROOT / "examples" / "corrections", directory / "corrections", ignore=of_2018)
    (directory / "nano").symlink_to(ROOT / "examples" / "nano")
    (directory / "wz.py").write_text(SELECTION)
    (directory / "analysis.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return directory


def events(directory: Path) -> dict[str, float]:
    templates = Templates.read(directory / "analysis" / "histograms" / "histograms.h5")
    channels = templates.histogram("ZCand_mass").channels
    found = [(it.region, name, each) for it in channels for name, each in it.processes.items()]
    return {f"{name} in {region}": float(each.nominal.sum()) for region, name, each in found}


def test_the_parts_add_up_and_are_those_of_whole_runs(tmp_path: Path) -> None:
    old, new = (analysis(tmp_path / name) for name in ("old", "new"))
    for change in CHANGES.values():
        change(new)
    for directory in (old, new):  # without what is not needed here: the report of the training
        execute(load(directory / "analysis.yaml"), STAGES, False, lambda _: None)
    done = nanoml("why", "old/analysis.yaml", "new", "--one-order", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((old / "analysis" / "why" / "why.json").read_text())
    parts = {name: part["shifts"] for part in found["parts"] for name in part["changes"]}
    assert ([*parts], found["notes"]) == ([*CHANGES], [])
    before, after = events(old), events(new)
    for name, value in before.items():
        assert (found["old"][name], found["new"][name]) == pytest.approx((value, after[name]))
        assert sum(it[name]["value"] for it in parts.values()) == pytest.approx(after[name] - value)
        assert parts["corrections/2018/pileup.json"][name]["value"] == pytest.approx(value / 3)
        assert parts["network"][name]["value"] == pytest.approx(0, abs=1e-6 * value)
    areas = [it["AUC in SR"]["value"] for it in parts.values()]
    assert sum(areas) == pytest.approx(found["new"]["AUC in SR"] - found["old"]["AUC in SR"])
    assert abs(areas[-1]) > 1e-4
    assert areas[0] == pytest.approx(0, abs=1e-6)


def why(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["why", *map(str, arguments)])


def test_what_differs_is_listed_with_the_runs_that_it_takes(tmp_path: Path) -> None:
    old, new = (analysis(tmp_path / name) for name in ("old", "new"))
    assert why(old, new, "--dry-run").stdout == "Nothing differs that moves what is expected.\n"
    CHANGES["wz.py"](new)
    CHANGES["datasets.WZ.cross_section"](new)
    edited(lambda it: it["style"].update(label="another"))(new)
    (new / "wz.py").write_text((new / "wz.py").read_text() + "# a comment\n")
    told = why(old, new, "--dry-run").stdout.splitlines()
    assert told == [
        "These differ:",
        "  1  wz.py: other code",
        "  2  datasets.WZ.cross_section: 0.0546 -> 0.06",
        "NOTE: what also differs moves nothing that is expected: style.label.",
        "4 runs: OLD, OLD + 1, OLD + 1 + 2, OLD + 2",
    ]
    assert not (old / "analysis").exists()


@pytest.mark.parametrize("name", ["wz.py", "corrections/2018.yaml"])
def test_a_file_that_is_no_longer_there_is_one_error_that_says_where_to_get_it(tmp_path: Path, name: str) -> None:
    old, new = (analysis(tmp_path / it) for it in ("old", "new"))
    (old / name).unlink()
    problem = why(old / "analysis.yaml", new).exception
    assert isinstance(problem, NanoMLError)
    assert f"{name}: no such file" in str(problem)
    assert "take git's copy of it (git worktree add DIRECTORY COMMIT), or a copy of the directory" in str(problem)


def test_a_sample_is_always_the_same_and_stands_for_all_events(tmp_path: Path) -> None:
    files = sorted(map(str, (ROOT / "examples" / "nano" / "WZTo3LNu_Pt100").glob("*.root")))
    assert sampled(files, 5000, tmp_path).files == tuple(files)
    found, again = (sampled(files, 600, tmp_path / name) for name in ("one", "other"))
    (one,), (other,) = found.files, again.files
    kept = [uproot.open(it)["Events"]["event"].array().to_list() for it in (one, other)]
    assert kept[0] == kept[1]
    assert 500 < len(kept[0]) < 700
    with uproot.open(next(it for it in files if Path(it).name == Path(one).name)) as source:
        assert found.factor == pytest.approx(source["Events"].num_entries / len(kept[0]))
