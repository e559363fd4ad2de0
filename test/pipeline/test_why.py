"""What moved a result: parts and their sum against whole runs, where all changes are made at once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from MLTools.NanoML.contracts.templates import Templates
from processes import nanoml

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
for _module in ("data_processing.skim.stage", "ML_processing.stages"):
    pytest.importorskip(_module)


def pileup(directory: Path) -> None:
    """Weights that are larger by a third, in a file that was changed by hand."""
    path = directory / "corrections" / "2018" / "pileup.json"

    def scaled(found: re.Match[str]) -> str:
        return found[1] + ", ".join(str(float(it) * 4 / 3) for it in found[2].split(","))

    path.write_text(re.sub(r'("content":\s*\[)([-0-9.e, \n]+)', scaled, path.read_text()))


def cut(directory: Path) -> None:
    path = directory / "wz.py"
    path.write_text(path.read_text().replace("events.MET.pt) > 30", "events.MET.pt) > 45"))


def edited(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        content = yaml.safe_load((directory / "analysis.yaml").read_text())
        edit(content)
        (directory / "analysis.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    return write


MORE = {"files": "data/WZTo3LNu/*_0.root", "class": "background", "cross_section": 0.1, "era": "2018"}
CHANGES: dict[str, Callable[[Path], None]] = {
    "corrections/2018/pileup.json": pileup,
    "wz.py": cut,
    "datasets.WZ.cross_section": edited(lambda it: it["datasets"]["WZ"].update(cross_section=0.06)),
    "datasets.more": edited(lambda it: it["datasets"].update(more=MORE)),
    "network": edited(lambda it: it["train"].update(seed=7)),
}


def analysis(directory: Path) -> Path:
    """A part of examples/wz.yaml, without a fit, and with a training that takes no time."""
    content = yaml.safe_load((ROOT / "examples" / "wz.yaml").read_text())
    files = {"Wprime": "WprimeToWZToLNuLL_M600", "WZ": "WZTo3LNu_Pt100", "ZG": "ZGToLLG_PtG100"}
    datasets = {
        name: {**content["datasets"][f"{name}_2018"], "files": f"data/{it}/*_0.root"} for name, it in files.items()
    }
    content["eras"] = {"2018": content["eras"].pop(2018)}
    content |= {"datasets": datasets, "train": {"regions": ["SR"], "model": "mlp", "epochs": 2, "folds": 3}}
    del content["workdir"], content["fit"]
    shutil.copytree(ROOT / "examples" / "corrections", directory / "corrections")
    shutil.copy(ROOT / "examples" / "wz.py", directory)
    (directory / "data").symlink_to(ROOT / "examples" / "data")
    (directory / "analysis.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return directory


def events(directory: Path) -> dict[str, float]:
    """The expected events of a whole run."""
    templates = Templates.read(directory / "analysis" / "histograms" / "histograms.h5")
    channels = templates.histogram("ZCand_mass").channels
    return {
        f"{name} in {it.region}": float(found.nominal.sum()) for it in channels for name, found in it.processes.items()
    }


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An analysis, and the same with all changes, both run."""
    old = tmp_path_factory.mktemp("why") / "old"
    old.mkdir()
    analysis(old)
    new = shutil.copytree(old, old.with_name("new"), symlinks=True)
    for change in CHANGES.values():
        change(new)
    for directory in (old, new):
        done = nanoml("run", "analysis.yaml", "--to", "histogram", cwd=directory)
        assert done.returncode == 0, done.stderr
    return old, new


def test_the_parts_add_up_and_are_those_of_whole_runs(states: tuple[Path, Path]) -> None:
    old, new = states
    done = nanoml("why", "old/analysis.yaml", "new", cwd=old.parent)
    assert done.returncode == 0, done.stderr
    found = json.loads((old / "analysis" / "why" / "why.json").read_text())
    parts = {name: part["shifts"] for part in found["parts"] for name in part["changes"]}
    assert ([*parts], found["notes"]) == ([*CHANGES], [])
    before, after = events(old), events(new)
    for name, value in before.items():
        assert (found["old"][name], found["new"][name]) == pytest.approx((value, after[name]))
        assert sum(it[name]["value"] for it in parts.values()) == pytest.approx(after[name] - value)
        first, last = value / 3, after[name] / 4  # of a weight that is 4 / 3, before all other changes and after them
        pileup = parts["corrections/2018/pileup.json"][name]
        assert (pileup["value"], pileup["order"]) == pytest.approx(
            ((first + last) / 2, abs(first - last) / 2), rel=1e-3, abs=1e-6
        )
        assert parts["network"][name]["value"] == pytest.approx(0, abs=1e-6 * value)
    areas = [it["AUC in SR"]["value"] for it in parts.values()]
    assert sum(areas) == pytest.approx(found["new"]["AUC in SR"] - found["old"]["AUC in SR"])
    assert abs(areas[-1]) > 1e-4
    assert areas[0] == pytest.approx(0, abs=1e-6)
