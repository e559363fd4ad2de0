"""The extension of the manual, installed into an empty environment: found in a checkout and beside a wheel, and nothing goes stale."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from processes import copied
from services.pages import fences

pytestmark = pytest.mark.exhaustive("an extension of others, with NanoML as a checkout and as a wheel")
for _module in ("torch", "data_processing.convert.convert", "ML_processing.evaluation.report"):
    pytest.importorskip(_module)

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "doc" / "contributing.md").read_text()
BASES = ("python", "extensions", "data_processing", "ML_processing", "statistical_analysis")


class Place(NamedTuple):
    """An environment with an extension of which nothing is installed but its package and, beside a wheel, NanoML."""

    python: Path
    directory: Path
    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0) -> str:
        line = [str(self.python), "-W", "error::UserWarning:nanoml_heaviest", "-m", "MLTools.NanoML.cli", *arguments]
        done = subprocess.run(
            line, cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def install(self, source: Path) -> None:
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall")
        line = [str(self.python), "-m", "pip", "install", *options, str(source)]
        subprocess.run(line, check=True, capture_output=True, env=self.environment)

    def to_do(self) -> dict[str, dict[str, str]]:
        plan = json.loads(self.run("run", "a.yaml", "--to", "report", "--dry-run", "--json"))
        return {each["stage"]: each["to_do"] for each in plan if each["to_do"]}


@pytest.fixture(params=["checkout", "wheel"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    venv, own = tmp_path / "venv", tmp_path / "analysis"
    own.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "others.pth").write_text("\n".join(it for it in sys.path if it.endswith("-packages")))
    checkout, environment = copied(ROOT, tmp_path, BASES)
    environment["NANOML_CORES"] = "1"
    made = Place(venv / "bin" / "python", own, environment)
    if request.param == "wheel":
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, checkout)
        (tmp_path / "path" / "MLTools" / "NanoML").unlink()
        environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        made.install(checkout)
        assert not [*site.glob("MLTools/NanoML/extensions/*/test")]
    return made


def written(directory: Path) -> Path:
    for it in fences(PAGE):
        if it.about.startswith("heaviest/"):
            path = directory / it.about
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(it.code)
    return directory / "heaviest"


def test_an_extension_of_others(place: Place, tmp_path: Path, sample: Path) -> None:
    datasets = {
        name: {"files": f"{sample}/{name}/*.root", "class": name, "cross_section": 1.0}
        for name in ("WZTo3LNu_Pt100", "ZGToLLG_PtG100")
    }
    content = {
        "luminosity": 1.0,
        "datasets": datasets,
        "convert": {"features": ["MET_pt", "nJet"]},
        "train": {"model": "mlp", "epochs": 1, "device": "cpu"},
        "evaluate": {"heaviest": 5},
    }
    (place.directory / "a.yaml").write_text(json.dumps(content))
    error = place.run("run", "a.yaml", code=2)
    assert "evaluate.heaviest: unknown key" in error
    assert re.search(r"Extensions here: (\w+, )+\w+", error)
    source = written(tmp_path)
    place.install(source)
    assert re.search(r"^extensions: .*heaviest", place.run("--version"), re.M)
    assert "  heaviest  " in place.run("--help")
    place.run("run", "a.yaml", "--to", "report")
    run = place.directory / "a" / "training"
    shares = json.loads((run / "metrics.json").read_text())["plots"]["heaviest"]["shares"]
    assert {name: len(it) for name, it in shares.items()} == dict.fromkeys(datasets, 5)
    assert (run / "heaviest.png").is_file()
    assert "Their share of the weight." in (run / "report.html").read_text()
    assert re.search(r"WZTo3LNu_Pt100: [\d.]+% in 5 events", place.run("heaviest", "a.yaml"))
    assert not place.to_do()
    # what it reads is not the user's, and another version redoes what it takes part in alone
    figure = source / "nanoml_heaviest" / "figure.py"
    figure.write_text(figure.read_text().replace('"Events"', '"Number of events"'))
    text = (source / "pyproject.toml").read_text()
    (source / "pyproject.toml").write_text(text.replace('"1.0"', '"1.1"'))
    place.install(source)
    changed = "nanoml_heaviest.figure was changed"
    todo = place.to_do()
    assert {*todo} == {"evaluate", "report"}
    assert [*todo["evaluate"].values()] == [changed]
    # without it, what asks for it is an error; and what does not is done without it
    assert "unknown key" in place.run("--without", "heaviest", "run", "a.yaml", code=2)
    del content["evaluate"]
    (place.directory / "a.yaml").write_text(json.dumps(content))
    subprocess.run([str(place.python), "-m", "pip", "uninstall", "--yes", "nanoml-heaviest"], check=True)
    assert {*place.to_do()} == {"evaluate", "report"}


def test_a_folder_of_extensions_is_an_extension(tmp_path: Path) -> None:
    checkout, environment = copied(ROOT, tmp_path, BASES)
    shutil.move(written(tmp_path) / "nanoml_heaviest", checkout / "extensions" / "heaviest")
    made = Place(Path(sys.executable), tmp_path, environment)
    assert '"heaviest": {' in made.run("config", "schema")
    assert "No such command" not in made.run("heaviest", "--help")
    shutil.rmtree(checkout / "extensions" / "heaviest")
    assert '"heaviest": {' not in made.run("config", "schema")
    shutil.rmtree(checkout / "extensions")  # and NanoML does without any
    assert "extensions: none" in made.run("--version")
