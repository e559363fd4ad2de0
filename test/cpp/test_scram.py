"""The package in CMSSW's build system: its BuildFiles, and where there is CMSSW or its SCRAM, all that is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
# SCRAM only prints a line about a tag that it does not know
TAGS = {"use": {"name"}, "export": set(), "lib": {"name"}, "library": {"file", "name"}, "bin": {"file", "name"}}
TAGS |= {"flags": {"EDM_PLUGIN", "NO_TESTRUN"}, "test": {"name", "command"}}
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "leptons", "trilepton")
BUILD_FILES = ["BuildFile.xml", "plugins/BuildFile.xml", "test/BuildFile.xml"]


def parsed(name: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{(ROOT / name).read_text()}</all>")


def products(tag: str) -> Iterator[tuple[Path, ElementTree.Element]]:
    for name in BUILD_FILES:
        for element in parsed(name).iter(tag):
            yield (ROOT / name).parent, element


@pytest.mark.parametrize("name", BUILD_FILES)
def test_scram_knows_all_tags(name: str) -> None:
    for element in list(parsed(name).iter())[1:]:
        assert element.tag in TAGS, element.tag
        assert set(element.keys()) <= TAGS[element.tag], element.attrib


def test_all_that_is_named_is_there() -> None:
    names = []
    for tag in ("library", "bin"):
        for directory, element in products(tag):
            names.append(element.get("name", ""))
            assert list(directory.glob(element.get("file", ""))), element.attrib
    for directory, element in products("test"):
        names.append(element.get("name", ""))
        program, *arguments = element.get("command", "").split()
        if program == "cmsRun":
            assert Path(arguments[0].replace("${LOCALTOP}/src/MLTools/NanoML", str(ROOT))).is_file()
        else:
            assert program == "python3" or os.access(directory / program, os.X_OK), program
    assert len(set(names)) == len(names) > 4
    # names of products are those of the whole of CMSSW
    assert all("MLToolsNanoML" in name for name in names)


def test_what_scram_generates_can_be_imported(tmp_path: Path) -> None:
    generated = tmp_path / "cfipython" / "el8_amd64_gcc12" / "MLTools" / "NanoML"
    generated.mkdir(parents=True)
    (generated / "nanoMLProducer_cfi.py").write_text("nanoMLProducer = 'generated'\n")
    code = "from MLTools.NanoML.nanoMLProducer_cfi import *; print(nanoMLProducer)"
    command = [sys.executable, "-c", code]
    area = {"CMSSW_BASE": str(tmp_path), "SCRAM_ARCH": "el8_amd64_gcc12"}
    done = subprocess.run(command, env={**os.environ, **area}, capture_output=True, text=True, check=False)
    assert done.stdout == "generated\n", done.stderr
    other = {**area, "SCRAM_ARCH": "el9_amd64_gcc13"}
    done = subprocess.run(command, env={**os.environ, **other}, capture_output=True, text=True, check=False)
    assert "No module named 'MLTools.NanoML.nanoMLProducer_cfi'" in done.stderr


def scram(directory: Path, *arguments: str) -> str:
    """Run scram outside of any area; return what it printed."""
    outside = ("CMSSW_", "SCRAMRT_", "LOCALRT", "LOCALTOP")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    done = subprocess.run(
        ["scram", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.exhaustive("a build by SCRAM")
def test_scram_builds_it_and_its_tests_pass(tmp_path: Path) -> None:
    release, architecture = os.environ.get("CMSSW_RELEASE_BASE"), os.environ.get("SCRAM_ARCH")
    if not (shutil.which("scram") and release and architecture):
        pytest.skip("this is not CMSSW: there is no scram, or cmsenv has not been run")
    scram(tmp_path, "project", release)
    [area] = [path for path in tmp_path.iterdir() if path.is_dir()]
    package = area / "src" / "MLTools" / "NanoML"
    shutil.copytree(ROOT, package, ignore=LEFT_OUT)
    told = scram(package, "build", "-j2")
    assert "Unknown tag" not in told
    library, test = area / "lib" / architecture, area / "test" / architecture
    for path in (
        library / "libMLToolsNanoML.so",
        library / "pluginMLToolsNanoMLPlugins.so",
        library / "pluginMLToolsNanoMLTestModules.so",
        test / "testMLToolsNanoML",
        test / "testMLToolsNanoMLScores",
        area / "bin" / architecture / "nanoml",
        area / "cfipython" / architecture / "MLTools" / "NanoML" / "nanoMLProducer_cfi.py",
    ):
        assert path.is_file(), path
    told = scram(package, "build", "runtests")
    for _, element in products("test"):
        assert f"MLTools/NanoML/{element.get('name')}" in told
    assert "Fail " not in told
