from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from MLTools.NanoML.config.analysis import Config, load
from MLTools.NanoML.config.datasets import Read
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.remote import reading


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return load(path)


def test_what_is_set_is_read(read_with: Callable[..., None]) -> None:
    settings = Read(redirectors=["root://a/"], tries=7, timeout=5, copy=True, max_missing_files="1 %")
    reading.use(settings)
    assert reading.current() == settings
    reading.use(Read())
    assert reading.current() == Read()


def test_processes_inherit_it(read_with: Callable[..., None]) -> None:
    reading.use(Read(tries=9))
    code = "from MLTools.NanoML.rootio.remote import reading; print(reading.current().tries)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"9\n"


def test_without_settings_there_are_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(reading.VARIABLE, raising=False)
    assert reading.current() == Read()
    assert reading.current().redirectors[0] == "root://cms-xrd-global.cern.ch/"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"tires": 3}', "3"])
def test_a_variable_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(reading.VARIABLE, text)
    with pytest.raises(NanoMLError, match=r"^NANOML_READING=.*: cannot be understood .* Unset it.$"):
        reading.current()


def test_the_settings_of_an_analysis_count_if_there_are_any(read_with: Callable[..., None]) -> None:
    read_with(tries=8)
    reading.adopt(Read())
    assert reading.current().tries == 8
    reading.adopt(Read(tries=5))
    assert reading.current() == Read(tries=5)


def test_the_section_of_a_configuration(tmp_path: Path) -> None:
    assert loaded(tmp_path, "luminosity: 1\n").read == Read()
    config = loaded(tmp_path, "read: {redirectors: root://a.b/, tries: 1, max_missing_files: 3}\n")
    assert config.read == Read(redirectors=["root://a.b/"], tries=1, max_missing_files=3)
    assert loaded(tmp_path, "read: {max_missing_files: 0.5 %}\n").read.max_missing_files == "0.5 %"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_missing_files: 1.5", "read.max_missing_files: expected .*1.5"),
        ("max_missing_files: few", 'expected a number of files, or a percentage such as "1 %", got "few"'),
        ("max_missing_files: -1", "expected a whole number of at least 0, got -1"),
        ("redirectors: [https://a/]", "expected a server such as root://"),
        ("timeout: 0", "at least 1"),
        ("tires: 3", 'unknown key. Did you mean "tries"?'),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, f"read: {{{text}}}\n")


@pytest.mark.parametrize(("variable", "timeout"), [({}, 7), ({"XRD_REQUESTTIMEOUT": "77"}, 77)])
def test_the_users_own_variables_of_xrootd_win(variable: dict[str, str], timeout: int) -> None:
    pytest.importorskip("XRootD")
    code = (
        "from MLTools.NanoML.config.datasets import Read; from MLTools.NanoML.rootio.remote import reading, client;"
        "reading.use(Read(timeout=7)); found = client.client(); print(found.EnvGetInt('RequestTimeout'))"
    )
    environment = {**os.environ, **variable}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert int(done.stdout) == timeout


def test_the_end_of_the_client_says_nothing_of_other_packages() -> None:
    pytest.importorskip("XRootD")
    pytest.importorskip("torch")
    code = "import torch.distributed; from MLTools.NanoML.rootio.remote import client; client.client()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b""
