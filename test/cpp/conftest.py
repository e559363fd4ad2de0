"""The C++ of the package and its tests, built where CMSSW is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cplusplus import run

ROOT = Path(__file__).resolve().parents[2]
HEADERS = "#include <onnxruntime_cxx_api.h>\n#include <nlohmann/json.hpp>\n"


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """Builds the tests into a directory of build/, which it returns."""
    if not shutil.which("g++") or not shutil.which("make"):
        pytest.skip("there is no g++, or no make")
    probe = ["g++", "-std=c++17", "-isystem", "/usr/include/onnxruntime", "-fsyntax-only", "-x", "c++", "-"]
    if subprocess.run(probe, input=HEADERS, text=True, capture_output=True, check=False).returncode:
        pytest.skip("the Debian packages libonnxruntime-dev and nlohmann-json3-dev are not installed")

    def make(name: str, *targets: str, **variables: str) -> Path:
        directory = ROOT / "build" / f"cpp-{name}"
        options = [f"{key}={value}" for key, value in variables.items()]
        programs = [str(directory / target) for target in targets]
        where = ROOT / "test" / "cpp"
        # files of tests run side by side and use the same programs
        run("flock", str(where), "make", "-j2", "-C", str(where), f"BUILD={directory}", *options, *programs)
        return directory

    return make


@pytest.fixture(scope="session")
def programs(build: Callable[..., Path]) -> Path:
    """The tests in C++17, which stop at the first wrong address and at undefined behaviour."""
    flags = "-g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    tests = ("testNanoML", "testTables", "testScores", "testDamage", "testJob")
    return build("17", *tests, STD="17", FLAGS=flags, OPTIMIZE="-O0")  # half the time of -O1


@pytest.fixture(scope="session")
def newest(build: Callable[..., Path]) -> Path:
    """Tests in C++20, with today's interface of CMSSW, which stop where threads disturb each other."""
    flags = "-g1 -fsanitize=thread -DNANOML_TEST_2026"
    return build("20", "testNanoML", "testAllocations", "testScores", STD="20", FLAGS=flags, OPTIMIZE="-O0", UNITY="1")
