from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from MLTools.NanoML.doctor import software
from MLTools.NanoML.doctor.software import answers, ask, has
from services.daemons import wait_for
from services.nanoaodtools import MISSING

Program = Callable[[str, str], Path]
ROOT = Path(__file__).resolve().parents[3]


def required() -> dict[str, dict[str, str]]:
    """The packages of each part, as pyproject.toml has them."""
    text = (ROOT / "pyproject.toml").read_text()

    def listed(key: str) -> dict[str, str]:
        (block,) = re.findall(rf"^{key} = \[(.*?)\]$", text, re.M | re.S)
        return dict(re.findall(r'"([\w-]+)>=([\d.]+)[,"]', block))

    return {"core": listed("dependencies"), **{name: listed(name) for name in software.PARTS if name != "core"}}


def test_the_table_is_that_of_the_packaging() -> None:
    assert required() == software.PARTS


def test_the_packages_of_the_tests_are_here() -> None:
    finding = software.packages("core")
    assert finding.fine, finding.found
    assert re.search(r"uproot \d+\.\d+", finding.found)
    assert software.python().fine
    assert sys.executable in software.python().found


def test_what_is_missing_or_old_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"numpy": "999.1", "no-such-package": "1.0", "click": "1.0"}
    monkeypatch.setitem(software.PARTS, "tune", {"json": "1.0"})
    assert software.packages("tune").fine  # it has no version
    monkeypatch.setitem(software.PARTS, "tune", wanted)
    finding = software.packages("tune")
    assert not finding.fine
    assert re.fullmatch(r"no no-such-package; numpy [\d.]+ \(older than 999\.1\)", finding.found)
    assert finding.mend == f"pip install '{ROOT}[tune]'"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="training needs Python 3.10")
def test_a_release_that_has_pytorch_needs_only_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMSSW_BASE", "/area")
    for torch, said in (("2.10.0", "beside the release's PyTorch: .*lightgbm$"), (None, "pip install .*train")):
        known = {"lightgbm": None, "torch": torch}
        monkeypatch.setattr(software, "_version", lambda package, known=known: known.get(package, "99"))
        found = software.packages("train")
        assert not found.fine
        assert re.search(said, found.mend)


def test_in_cmssw_its_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(software.PARTS, "train", {"no-such-package": "1.0"})
    monkeypatch.setenv("CMSSW_BASE", "/somewhere")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert software.packages("train").mend.startswith("in a shell without cmsenv: python3 -m venv ~/nanoml && ")


HAS_TABLE = importlib.util.find_spec("ML_processing") is not None
needs_table = pytest.mark.skipif(not HAS_TABLE, reason="ML_processing/ has been taken out")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMSSW_BASE", str(tmp_path))
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_14_0_19")
    monkeypatch.setenv("SCRAM_ARCH", "el9_amd64_gcc12")
    return tmp_path


def test_no_cmssw(nothing: Path) -> None:
    assert [(it.fine, "cmsrel" in it.mend) for it in (software.cmssw(), software.cmssw_area())] == [(False, True)] * 2
    assert software.onnx_runtime().fine


def test_the_release(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert software.cmssw().found == f"CMSSW_14_0_19 (el9_amd64_gcc12) in {base}"
    for release, fine in (("CMSSW_10_6_30", False), ("CMSSW_13_3_0", True), ("CMSSW_20_1_X_2027-01-01-2300", True)):
        monkeypatch.setenv("CMSSW_VERSION", release)
        assert software.cmssw().fine == fine


@needs_table
def test_the_onnx_runtime_is_compared_with_the_table(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.14.1")
    assert software.onnx_runtime().fine
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_14_1_0")
    finding = software.onnx_runtime()
    assert not finding.fine
    assert finding.found == "Python finds 1.14.1, but CMSSW_14_1_0 has 1.17.1"
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_99_0_0")
    assert "1.14.1 (CMSSW_99_0_0 is not in the table)" in software.onnx_runtime().found


# as SCRAM V3 prints it; it must run in an area, and fails elsewhere
SCRAM = """
if [ ! -d .SCRAM ]; then
    echo "SCRAM fatal: Unable to locate the top of local release. Please run this command from a SCRAM-based area." >&2
    exit 1
fi
[ "$*" = "tool info onnxruntime" ] || exit 2
cat << END
Tool info as configured in location $PWD
++++++++++++++++++++++++++++++++++++++++++
Name : onnxruntime
Version : 1.25.1-27dc9ae2aa3b1ae1a6eef2b9e0d25a2f
++++++++++++++++++++

INCLUDE=/cvmfs/cms.cern.ch/el9_amd64_gcc13/external/onnxruntime/1.25.1-27dc9ae2aa3b1ae1a6eef2b9e0d25a2f/include
LIB=onnxruntime
USE=protobuf cuda

END
"""


@pytest.mark.parametrize(
    ("name", "here", "fine", "found"),
    [
        ("CMSSW_17_0_0", "1.25.1", True, "1.25.1 (CMSSW_17_0_0 is not in the table): "),
        ("CMSSW_15_0_1", "1.25.1", True, "1.25.1 (the table says 1.20.1): "),
        ("CMSSW_15_0_1", "1.20.1", False, "Python finds 1.20.1, but CMSSW_15_0_1 has 1.25.1"),
    ],
)
@needs_table
def test_scram_knows_the_release_better_than_the_table(
    base: Path, program: Program, monkeypatch: pytest.MonkeyPatch, name: str, here: str, fine: bool, found: str
) -> None:
    program("scram", SCRAM)
    (base / ".SCRAM").mkdir()
    monkeypatch.setenv("CMSSW_VERSION", name)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: here)
    finding = software.onnx_runtime()
    assert (finding.fine, finding.found[: len(found)]) == (fine, found)
    assert finding.found.endswith("nanoml export --onnxruntime 1.25.1") is fine


@needs_table
def test_what_scram_lacks_is_in_the_table(base: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program("scram", SCRAM)  # there is no area
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.14.1")
    assert software.onnx_runtime().found == "1.14.1, export.cmssw: CMSSW_14_0_19"


@needs_table
def test_models_that_the_release_cannot_read(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = base / "src" / "MLTools" / "NanoML" / "data"
    data.mkdir(parents=True)
    for suffix in ("onnx", "json"):
        shutil.copy(ROOT / "data" / f"leptons.{suffix}", data)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.14.1")
    assert software.onnx_runtime().fine
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_12_3_0")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.7.2")
    finding = software.onnx_runtime()
    assert not finding.fine
    assert finding.found == "1.7.2 cannot read MLTools/NanoML/data/leptons.onnx (opset 15, IR 8; at most 13 and 7)"
    assert "--onnxruntime 1.7.2" in finding.mend
    (data / "leptons.json").unlink()  # then it is not a model of ours
    assert software.onnx_runtime().fine


def test_the_area(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, library = base / "src" / "MLTools" / "NanoML", base / "lib" / "el9_amd64_gcc12"
    monkeypatch.setattr(software, "checkout", lambda: tmp_path)
    assert software.cmssw_area().mend == f"put a clone of NanoML at {source}"  # an archive was unpacked
    (tmp_path / ".git").mkdir()
    assert software.cmssw_area().mend == f"git clone {tmp_path} {source}"
    (source / "plugins").mkdir(parents=True)
    (source / "plugins" / "NanoMLProducer.cc").touch()
    assert software.cmssw_area().mend == "cd $CMSSW_BASE/src && scram b -j4"
    library.mkdir(parents=True)
    (library / software.PLUGIN).touch()
    assert software.cmssw_area().fine
    os.utime(library / software.PLUGIN, (1, 1))
    assert "changed after it was built" in software.cmssw_area().found


def test_the_plugin_is_called_as_scram_calls_it() -> None:
    text = (ROOT / "plugins" / "BuildFile.xml").read_text()
    assert f'name="{software.PLUGIN.removeprefix("plugin").removesuffix(".so")}"' in text


def test_gpus(program: Program) -> None:
    program("nvidia-smi", "printf 'NVIDIA A100, 40960 MiB\\nNVIDIA A100, 40960 MiB\\n'")
    assert software.gpu().found == "NVIDIA A100, 40960 MiB; NVIDIA A100, 40960 MiB"
    program("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert not software.gpu().fine


@pytest.mark.skipif(not MISSING, reason="ROOT and nanoAOD-tools are here")
def test_nanoaod_tools_or_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "PhysicsTools", raising=False)  # of other tests
    finding = software.nanoaod_tools()
    assert not finding.fine
    assert re.search(r"--module.*cmsenv.*pip install root, git clone https://github.com/cms-nanoAOD/", finding.mend)
    (tmp_path / "PhysicsTools" / "NanoAODTools").mkdir(parents=True)
    (tmp_path / "PhysicsTools" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert software.nanoaod_tools().fine
    sys.modules.pop("PhysicsTools", None)


def test_what_a_program_says() -> None:
    answer = ask(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (answer.code, answer.text, answer.first_line) == (3, "out\nerr\n", "out")
    assert ask(["true"]).first_line == "no answer"
    assert not has("no-such-program")
    assert ask(["no-such-program"]).code == 127


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    answer = ask(["sh", "-c", "sleep 1234 | cat"], 0.5, str(tmp_path))
    assert answer.code is None
    assert answer.first_line.startswith("no answer in")
    # the kernel ends what is killed when that is next scheduled
    wait_for(lambda: str(tmp_path) not in places(), "the end of what the program started")


def places() -> Iterator[str]:
    """The directories of all processes; one that has ended, and is not yet waited for, has none."""
    for process in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            yield os.readlink(process)


def test_files_are_looked_for_with_a_bound_on_the_time(program: Program, tmp_path: Path) -> None:
    assert answers(tmp_path) is True
    assert answers(tmp_path / "nothing") is False
    assert answers(Path(sys.executable)) is True
    program("ls", "sleep 30")
    assert answers(tmp_path, seconds=0.3) is None  # as of a file system that does not answer
