"""What the manual says about adding to NanoML is done: a stage is a folder and a line, a correction or a batch system a file and a line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from processes import copied

pytestmark = pytest.mark.exhaustive("pages of the manual")

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "doc" / "contributing.md").read_text()
PARTS = ("python", "data_processing", "ML_processing", "statistical_analysis")
TABLES = {
    "python/stages.py": ")\n\n\ndef _in_order",
    "python/config/batch.py": '}\n"""The batch systems: ',
    "python/corrections/era.py": '}\n"""The entries of objects, ',
}
"""Where an entry goes that the page shows for one of these files."""


class Copy(NamedTuple):
    """A copy of the repository, and the environment in which Python finds it."""

    checkout: Path
    environment: dict[str, str]

    def run(self, program: str, directory: Path) -> str:
        line = [sys.executable, "-c", program]
        found = subprocess.run(line, cwd=directory, env=self.environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """One with the files that the page shows, as far as their parts are here."""
    checkout, environment = copied(ROOT, tmp_path_factory.mktemp("copy"), PARTS)
    made = Copy(checkout, {**environment, "NANOML_CORES": "1"})  # each worker would import all again
    shown = re.findall(r"`([\w/]+\.py)`[^`]*:\n\n```python fragment\n(.*?)```", PAGE, re.S)
    assert len(shown) == 10
    for name, code in shown:
        path = made.checkout / name
        if name in TABLES:
            text = path.read_text()
            assert text.count(TABLES[name]) == 1
            path.write_text(text.replace(TABLES[name], f"    {code.rstrip()},\n{TABLES[name]}"))
        elif (ROOT / name.partition("/")[0]).is_dir():
            path.parent.mkdir(exist_ok=True)
            assert not path.exists()
            path.write_text(code)
    return made


def test_names_in_the_walk_through_the_code_are_those_of_the_code() -> None:
    pages = (ROOT / "doc" / "architecture.md").read_text() + PAGE
    shown = re.findall(r"\[`(\w+)`\]\(\.\./([\w/]+\.py)\)", pages)
    assert len(shown) > 30
    for name, path in shown:
        assert re.search(rf"^ *(?:def|class) {name}\b|^{name} = ", (ROOT / path).read_text(), re.M), f"{path}: {name}"


STAGE = """
import json
from pathlib import Path
from click.testing import CliRunner
from MLTools.NanoML.cli import nanoml

def run(*arguments):
    done = CliRunner().invoke(nanoml, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout

run("run", "a.yaml")
run("run", "a.yaml", "--dry-run", "--json")
kernel = Path(KERNEL)
kernel.write_text(kernel.read_text().replace("counts = {}", "counts: dict[str, int] = {}"))
plan = json.loads(run("run", "a.yaml", "--dry-run", "--json"))
print(json.dumps({each["stage"]: each["to_do"] for each in plan}))
assert "accepted" in run("accept", "count", "a.yaml")
assert "Count events" in run("--help") and "nanoml count " in run("count", "--help")
run("count", "a.yaml", "--force")
run("submit", "count", "a.yaml", "--on", "local", "--force", "--dry-run")
"""


def test_a_stage(copy: Copy, tmp_path: Path, sample: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    (tmp_path / "a.yaml").write_text(
        f"datasets: {{ZG: {{files: {source}}}}}\nskim: {{cut: nMuon >= 2}}\nbatch: {{stages: {{count: {{cores: 2}}}}}}\n"
    )
    kernel = copy.checkout / "data_processing" / "count" / "count.py"
    plan = json.loads(copy.run(STAGE.replace("KERNEL", repr(str(kernel))), tmp_path))
    assert plan == {"skim": {}, "count": {"ZG": "data_processing.count.count was changed"}}
    ((skim, events),) = json.loads((tmp_path / "a" / "counts" / "ZG.json").read_text()).items()
    assert skim == str(tmp_path / "a" / "skims" / "ZG" / "ZGToLLG_0.root")
    assert 0 < events < 800
    jobs = tmp_path / "jobs" / "a-dry-run" / "jobs"
    assert [path.name for path in jobs.glob("*.json")] == ["count-0000.json"]


NETWORK = """
import torch
from ML_processing.events.inputs import Inputs, Shape
from MLTools.NanoML.config.load import load
from ML_processing.models.network import make_network
train = load("a.yaml").train
network = make_network(train.model, train.options, Shape(("MET_pt", "nJet", "PV_npvs"), (), 2))
print([list(it.shape) for it in network.parameters()])
"""


def test_a_network(copy: Copy, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "a.yaml").write_text("train: {files: a.h5, model: linear, options: {bias: false}}\n")
    assert copy.run(NETWORK, tmp_path) == "[[2, 3]]\n"


SETTING = """
from click.testing import CliRunner
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.training import SCORES, Train
assert "smoothing" in Train.about([SCORES])  # so that networks for ratios have its default
for model in ("mlp", "bdt"):
    content = "{train: {files: a.h5, model: %s, smoothing: 0.1}, tune: {space: {smoothing: {low: 0, high: 1}}}}"
    open("a.yaml", "w").write(content % model)
    print(CliRunner().invoke(nanoml, ["config", "check", "a.yaml"]).exception)
"""


def test_a_setting(copy: Copy, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (line,) = re.findall(r"^    smoothing: .*\n", PAGE, re.MULTILINE)
    path, place = copy.checkout / "python" / "config" / "training.py", "    signal: Optional[str] = setting("
    path.write_text(path.read_text().replace(place, line + place))
    found = copy.run(SETTING, tmp_path)
    assert found.count("means nothing to the model") == found.count('means nothing to the model "bdt"') == 2


def test_a_command(copy: Copy, tmp_path: Path) -> None:
    program = "import sys; from MLTools.NanoML.cli import main; sys.argv[1:] = {}; main()"
    assert copy.run(program.format(["greet"]), tmp_path) == "Hello.\n"
    shown = copy.run(program.format(["--help"]), tmp_path).partition("Run an")[0]
    assert re.search(r"^  greet +Greet the user\.$", shown, re.M)


CORRECTION = """
from click.testing import CliRunner
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.corrections import boosted_taus
from MLTools.NanoML.selection import Column, DatasetInfo, Selection
from MLTools.NanoML.selection.tryout import on_events

class Taus(Selection):
    branches = tuple(f"boostedTau_{name}" for name in ("pt", "eta", "decayMode", "genPartFlav"))
    columns = {"pt": Column("f4", "pt of the first tau [GeV]")}

    def prepare(self, events):
        return boosted_taus.corrected(events, self.dataset.corrections.boosted_taus)

    def select(self, events, cutflow):
        return events, {"pt": events.boostedTau.pt[:, 0]}

found = CliRunner().invoke(nanoml, ["corrections", "era.yaml"], catch_exceptions=False)
assert found.exit_code == 0 and "tau_energy_scale" in found.stdout, found.output
columns = {"pt": [[40.0], [60.0]], "eta": [[0.1], [2.0]], "decayMode": [[0], [10]], "genPartFlav": [[5], [5]]}
events = {f"boostedTau_{name}": values for name, values in columns.items()}
print(on_events(Taus().of_dataset(DatasetInfo(corrections_file="era.yaml")), events).columns["pt"].tolist())
"""


def test_a_correction_of_objects(copy: Copy, tmp_path: Path) -> None:
    pytest.importorskip("correctionlib")
    inputs = [{"name": "dm", "type": "int"}, {"name": "id", "type": "string"}]
    scales = [{"key": mode, "value": scale} for mode, scale in ((0, 1.5), (10, 0.5))]
    data = {"nodetype": "category", "input": "dm", "content": scales}
    output = {"name": "scale", "type": "real"}
    scale = {"name": "tau_energy_scale", "version": 1, "inputs": inputs, "output": output, "data": data}
    (tmp_path / "tau.json").write_text(json.dumps({"schema_version": 2, "corrections": [scale]}))
    (tmp_path / "era.yaml").write_text("boosted_taus: {file: tau.json, inputs: {id: DeepTau2017v2p1}}\n")
    assert copy.run(CORRECTION, tmp_path) == "[60.0, 30.0]\n"


SECTION = """
import json
from pathlib import Path
from click.testing import CliRunner
from matplotlib.figure import Figure
from MLTools.NanoML.cli import nanoml

def run(*arguments):
    done = CliRunner().invoke(nanoml, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout

def draw_ours(figure, renderer):  # all others take longer than the rest
    if any(axes.get_xlabel() == "Weight" for axes in figure.axes):
        draw(figure, renderer)

draw, Figure.draw = Figure.draw, draw_ours
run("run", "a.yaml", "--to", "evaluate")
module = Path(MODULE)
module.write_text(module.read_text().replace('"Weight"', '"Weight of an event"'))
plan = json.loads(run("run", "a.yaml", "--to", "evaluate", "--dry-run", "--json"))
print(json.dumps([each["to_do"] for each in plan if each["to_do"]]))
"""


def test_a_figure_of_the_report(copy: Copy, tmp_path: Path, sample: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("data_processing.convert.convert")
    datasets = {
        name: {"files": f"{sample}/{name}/*.root", "class": name, "cross_section": 1.0}
        for name in ("WZTo3LNu_Pt100", "ZGToLLG_PtG100")
    }
    train = {"model": "mlp", "epochs": 1, "device": "cpu"}
    content = {"luminosity": 1.0, "datasets": datasets, "convert": {"features": ["MET_pt", "nJet"]}, "train": train}
    (tmp_path / "a.yaml").write_text(json.dumps(content))
    module = copy.checkout / "ML_processing" / "evaluation" / "sections" / "weights.py"
    measured, _ = json.loads(copy.run(SECTION.replace("MODULE", repr(str(module))), tmp_path))
    assert measured == {"report": "ML_processing.evaluation.sections.weights was changed"}
    run = tmp_path / "a" / "training"
    shown = json.loads((run / "metrics.json").read_text())["plots"]["weights"]
    assert [it["name"] for it in shown["classes"]] == ["WZTo3LNu_Pt100", "ZGToLLG_PtG100"]
    image = pytest.importorskip("matplotlib.image")
    assert [image.imread(run / f"{name}.png")[..., :3].std() > 0.01 for name in ("weights", "roc")] == [True, False]
    page = (run / "report.html").read_text()
    assert '<a href="#weights">Weights by class</a>' in page
    assert page.index('id="weights"') > page.index('id="loss"')


SYSTEM = """
import json, time
from pathlib import Path
from click.testing import CliRunner
from MLTools.NanoML.cli import nanoml

def run(*arguments, code=0):
    done = CliRunner().invoke(nanoml, arguments, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout

gate = Path("closed")
gate.touch()
assert "jobs of a shell" in run("doctor", "--for", "shell")
assert "2 jobs on shell" in run("submit", "skim", "a.yaml")
log = Path("jobs/a-1/logs/skim-0000.log")
while not log.exists() or "waiting" not in log.read_text():
    time.sleep(0.1)
assert json.loads(run("status", "a.yaml", "--json"))["active"]
run("kill", "a.yaml")
assert "No job is active." in run("status", "a.yaml", "--wait", "--every", "1", code=1)
gate.unlink()
assert "skim: 2 tasks in 2 jobs" in run("resubmit", "a.yaml")
assert "Everything is done." in run("status", "a.yaml", "--wait", "--every", "1")
assert "waiting" in run("logs", "a.yaml", "--job", "skim-0000")
plan = json.loads(run("run", "a.yaml", "--dry-run", "--json"))
print(json.dumps([each["to_do"] for each in plan if each["stage"] == "skim"]))
"""


def test_a_batch_system(copy: Copy, tmp_path: Path, sample: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    files = [str(sample / "ZGToLLG" / f"ZGToLLG_{number}.root") for number in range(2)]
    (tmp_path / "a.yaml").write_text(
        f"datasets: {{ZG: {{files: {json.dumps(files)}}}}}\nskim: {{cut: nMuon >= 2}}\n"
        "batch: {on: shell, files_per_job: 1, setup: [echo waiting, 'while [ -e ../../closed ]; do sleep 0.1; done']}\n"
    )
    assert copy.run(SYSTEM, tmp_path) == "[{}]\n"
    skims = (tmp_path / "a" / "skims" / "ZG").glob("*.root")
    assert sorted(path.name for path in skims) == ["ZGToLLG_0.root", "ZGToLLG_1.root"]
