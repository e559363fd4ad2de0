from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from MLTools.NanoML import installation
from MLTools.NanoML.cli import _from_here, nanoml, page_of, where
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import entries
from MLTools.NanoML.grid.proxy import read_proxy
from MLTools.NanoML.selection import Cutflow
from MLTools.NanoML.stages import STAGES
from processes import nanoml as run

ROOT = Path(__file__).resolve().parents[2]


INNER = (
    *("config check", "config schema", "proxy init", "proxy info"),
    *(name for name in entries("commands") if " " in name),
)


@pytest.mark.parametrize("name", [*nanoml.list_commands(click.Context(nanoml)), *INNER])
def test_every_command_has_help_with_examples_that_are_right(name: str) -> None:
    result = CliRunner().invoke(nanoml, [*name.split(), "--help"])
    assert result.exit_code == 0
    about, _, examples = result.output.partition("Example:")
    assert [line for line in about.splitlines()[1:] if len(line) > 80 or line.endswith("...")] == []
    assert f"nanoml {name}" in examples
    for line in examples.split("\n")[1:]:
        words = shlex.split(line.partition(">")[0] if "> " in line else line, comments=True)
        if words:
            parses(nanoml, words[0], words[1:])
        for word in words:
            assert not re.fullmatch(r"examples/.*\.yaml", word) or (ROOT / word).is_file(), line


def parses(command: click.Command, name: str, words: list[str]) -> None:
    """Parse words as those of a command and its subcommands, without doing what they say."""
    context = command.make_context(name, words)
    if isinstance(command, click.Group):
        _, inner, rest = command.resolve_command(context, words)
        assert inner is not None
        parses(inner, words[0], rest)


def test_what_the_compiler_of_pytorch_leaves_is_collected_at_the_end() -> None:
    """It calls anything else a leak, in thirty lines on the terminal."""
    code = (
        "import atexit, gc, sys, types; atexit.register(lambda: print(gc.get_freeze_count() > 0)); sys.argv = ['nanoml', '--version']; "
        "from MLTools.NanoML.cli import main; {}main()"
    )
    for before, frozen in (("", True), ("sys.modules['triton'] = types; ", False)):
        done = subprocess.run([sys.executable, "-c", code.format(before)], capture_output=True, text=True, check=False)
        assert done.stdout.splitlines()[-1] == str(frozen), done.stderr


def test_usage_errors_end_with_2(tmp_path: Path) -> None:
    assert run("trian", cwd=tmp_path).returncode == 2
    assert run("skim", "a.root", cwd=tmp_path).returncode == 2
    assert run("skim", "--selection", "a:B", "a.root", cwd=tmp_path).returncode == 2
    assert run("run", "a.yaml", "--from", "score", "--to", "skim", cwd=tmp_path).returncode != 0
    done = run("run", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "See doc" not in done.stderr  # which has no page


@pytest.mark.parametrize(("typed", "meant"), [("rnu", "run"), ("fti", "fit"), ("valdate", "validate"), ("zzz", None)])
def test_a_command_is_suggested(typed: str, meant: str | None) -> None:
    (error,) = (line for line in CliRunner().invoke(nanoml, [typed]).output.splitlines() if line.startswith("Error"))
    assert error.startswith(
        f'Error: "{typed}" is not a command. ' + (f'Did you mean "{meant}"?' if meant else "Extensions here: ")
    )


def test_an_option_is_suggested(tmp_path: Path) -> None:
    done = run("run", "--dryrun", cwd=tmp_path)
    assert done.returncode == 2
    assert "--dry-run" in done.stderr
    assert "`nanoml run --help` says more." in done.stderr


def test_commands_are_in_groups_each_with_one_line() -> None:
    text = CliRunner().invoke(nanoml, ["--help"]).output.partition("Options:")[2]
    groups = {each.partition(":")[0]: each.splitlines()[1:] for each in text.split("\n\n")[1:]}
    assert list(groups) == [
        "Start", "Run an analysis", "Its stages, one by one", "Look at results", "Work on files", "Correct the simulation",
        "Batch systems", "Grid",
    ]  # fmt: skip
    lines = [line for each in groups.values() for line in each]
    known = set(nanoml.list_commands(click.Context(nanoml)))
    assert {line.split()[0] for line in lines} == known - {"work"}
    assert all(re.fullmatch(r"  \w+ +\S.*[^.]\.", line) and len(line) < 80 for line in lines)


def test_the_only_analysis_in_a_directory_is_taken(tmp_path: Path) -> None:
    assert "Name the YAML file of an analysis: this directory has none." in run("run", cwd=tmp_path).stderr
    (tmp_path / "other.yaml").write_text("a: 1\n")
    for arguments in ("run --dry-run", "train", "fit", "skim", "config check", "unblind", "submit pipeline"):
        (tmp_path / "mine.yaml").write_text("skim: 1\n")
        done = run(*arguments.split(), cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0] == "Taking mine.yaml, the only analysis here."
        assert "mine.yaml:1: skim" in done.stderr
        (tmp_path / "more.yml").write_text("train: {}\n")
        done = run(*arguments.split(), cwd=tmp_path)
        assert done.returncode == 2
        assert "Error: Name one of the analyses here: mine.yaml, more.yml." in done.stderr.splitlines()
        (tmp_path / "more.yml").unlink()


def test_files_to_convert_must_be_named(tmp_path: Path) -> None:
    pytest.importorskip("data_processing.convert.convert")
    assert "Name the FILEs." in run("convert", "-o", "out.h5", cwd=tmp_path).stderr


def test_the_schema_is_printed() -> None:
    result = CliRunner().invoke(nanoml, ["config", "schema"])
    assert "datasets" in json.loads(result.output)["properties"]


@pytest.mark.parametrize("package", ["rich", "yaml"])
def test_a_package_that_is_missing_is_one_message(package: str, tmp_path: Path) -> None:
    program = f"import sys; sys.modules['{package}'] = None; from MLTools.NanoML.cli import main; main()"
    line = [sys.executable, "-c", program, "doctor", "--for", "laptop"]
    if package == "yaml":
        line[-3:] = ["config", "schema"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The Python package {package} is missing. Install it: pip install ")
    assert len(done.stderr.splitlines()) == 1


MAPPED = "ImportError('libtorch_cpu.so: failed to map segment from shared object')"


@pytest.mark.parametrize("fails", ["bytes(1 << 60)", "raise_(RuntimeError('bad allocation'))", f"raise_({MAPPED})"])
def test_too_little_memory_is_one_message(fails: str) -> None:
    program = "from MLTools.NanoML import cli\ndef raise_(problem): raise problem\n"
    program += f"cli.nanoml.main = lambda **_: {fails}\ncli.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("The memory is used up: there is too little memory for it: lower the chunk")
    assert len(done.stderr.splitlines()) == 1


def test_all_pages_exist() -> None:
    parts = [ROOT / it for it in ("python", "data_processing", "ML_processing", "statistical_analysis")]
    modules = [path for part in parts for path in part.rglob("*.py")]
    pages = [re.findall('^PAGE = "(.*)"$', path.read_text(), re.MULTILINE) for path in modules]
    assert any(pages)
    for (page,) in filter(None, pages):
        assert (ROOT / "doc" / page).is_file(), page
    for stage in STAGES:
        assert stage.page is None or (ROOT / "doc" / stage.page).is_file(), stage


def test_the_module_that_raised_it_decides(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError) as caught:
        Cutflow(np.ones(3)).cut("two muons", [True])
    assert page_of(caught.value) == "howto/selection.md"
    assert page_of(NanoMLError("never raised")) is None
    with pytest.raises(NanoMLError) as caught:  # the longest of the names of packages
        read_proxy(tmp_path / "proxy")
    assert page_of(caught.value) == "cern.md"


def test_a_mistake_in_an_option_leads_to_a_page(tmp_path: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "a.root").touch()
    done = run("skim", "--selection", "mine.py:Mine", "-o", "out", "a.root", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"See doc: {ROOT}/doc/howto/selection.md"
    assert done.stderr.startswith('selection "mine.py:Mine": mine.py')


def test_names_from_files_cannot_control_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x\x1b[2J": "f4"}).extend({"x\x1b[2J": [1.0]})
    for arguments in (["inspect", "--branches", "*", path], ["inspect", path, "--json"]):
        done = run(*arguments, cwd=tmp_path)
        assert "x?[2J" in done.stdout or "x\\u001b[2J" in done.stdout
        assert not re.search(r"[^\n -~\xa0-\U0010ffff]", done.stdout)
    assert run("inspect", "no\x1b]0;title\x07.root", cwd=tmp_path).stderr.startswith("no?]0;title?.root: no such file")


def test_files_are_named_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    others = f"/data{tmp_path}/a.root, root://x/{tmp_path}/a.root, {tmp_path}"
    shown = _from_here(f'{tmp_path}/a.yaml:3: "{tmp_path}/.nanoml/a.root", {others}')
    assert shown == f'a.yaml:3: ".nanoml/a.root", {others}'


def test_a_mistake_in_a_task_leads_to_the_page_of_its_stage(sample: Path, tmp_path: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    (tmp_path / "mine.py").write_text(
        "from MLTools.NanoML.selection import Selection\n\n\n"
        "class Mine(Selection):\n    branches = ('MET_pt',)\n\n    def select(self, events, cutflow):\n        return None\n"
    )
    source = str(sample / "ZGToLLG" / "ZGToLLG_0.root")
    done = run("skim", "--selection", "mine.py:Mine", "-o", "out", source, cwd=tmp_path)
    assert done.returncode == 1
    *_, what, page = done.stderr.splitlines()
    assert "select returned nothing" in what
    assert page == f"See doc: {ROOT}/doc/howto/selection.md"


def test_without_a_checkout_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert where("skim.md") == str(ROOT / "doc" / "skim.md")
    monkeypatch.setattr(installation, "checkout", lambda: None)
    assert where("skim.md") == "doc/skim.md of NanoML"
