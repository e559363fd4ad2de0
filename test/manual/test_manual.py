"""The manual: what it shows exists, its pages and its notebook do what they say, its pictures are the script's, its site is whole."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
import uproot
import yaml

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.commands.start import create
from MLTools.NanoML.config.load import schema
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.settings import complaints
from services.pages import fences, headings, prose, section_of, whole

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "python" / "templates" / "init" / "README.md",
    *sorted((ROOT / "doc").rglob("*.md")),
]
HOW_TOS = ("report.md#read-the-report", "cmssw.md#export-for-a-release", "batch.md#find-out-why-a-job-failed")
"""Sections of which it is enough that what they say can be done."""

has_parts = pytest.mark.skipif(
    not (
        (ROOT / "data_processing").is_dir() and (ROOT / "ML_processing").is_dir() and importlib.util.find_spec("torch")
    ),
    reason="a part, or what it needs, is not here",
)


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    about: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        yield from (Block(page, *fence) for fence in fences(page.read_text()))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT / "doc")) if ROOT / "doc" in page.parents else page.name


def followed() -> set[str]:
    """Pages, and sections of pages, whose blocks `bash` and `python` are run, by a test here or elsewhere."""
    tests = "".join(path.read_text() for path in (ROOT / "test").rglob("test_*.py"))
    return {*re.findall(r'follow\("(?:\.\./)?([\w/]+\.md(?:#[\w-]+)?)"', tests), *HOW_TOS}


def sections_of(block: Block) -> set[str]:
    """The page of a block, and those of its sections that the block is in."""
    text, name = block.page.read_text(), name_of(block.page)
    anchors = [anchor for _, _, anchor in headings(text)]
    inside = (anchor for anchor in anchors if block.code in (it.code for it in fences(section_of(text, anchor))))
    return {name, *(f"{name}#{anchor}" for anchor in inside)}


def test_each_block_says_what_becomes_of_it() -> None:
    pages = followed()
    for block in blocks():
        runs = block.language in ("bash", "python") and not block.about
        known = block.language in ("bash", "python", "yaml", "cpp", "text", "mermaid", "")
        assert known or re.fullmatch(r"[\w/]+[.]\w+", block.about), block
        if block.language == "bash":
            assert not block.about or block.about.startswith("needs "), block
        if runs:
            assert sections_of(block) & pages, f"{block} is run by no test"


def commands() -> Iterator[tuple[str, list[str]]]:
    """All commands of `nanoml` in the manual, with their places: in blocks, in indented lines and in the text."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        outside = prose(text)
        inline = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", outside)
        plain = [block.code for block in blocks() if block.page == page and block.language in ("bash", "text", "")]
        indented = re.findall(r"^    (nanoml .*)$", outside, re.M)
        for code in (*inline, *indented, *plain):
            for line in code.split("\n") if code in plain else [code.replace("\n", " ")]:
                for words in simple_commands(line):
                    if words[0] == "nanoml":
                        yield f"{page.relative_to(ROOT)}: `{line.strip()}`", words[1:]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line of shell, without what is done with its output."""
    lexer = shlex.shlex(line.replace("...", ""), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe: the line is none of shell
        return
    found: list[str] = []
    skip = False
    for word in [*words, ";"]:
        if not set(word) <= set("();<>|&"):
            if not skip:
                found.append(word)
            skip = False
            continue
        skip = set(word) <= set("<>")
        if not skip:
            while found and re.match(r"[A-Z_0-9]+=", found[0]):
                found = found[1:]
            if found:
                yield found
            found = []


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and what is left of them."""
    command: Any = nanoml
    context = click.Context(nanoml, info_name="nanoml")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None and command.name == "corrections":
            return command.commands["show"], words  # its name need not be said
        if found is None:
            break
        command, words = found, words[1:]
    return command, words


@whole
def test_commands_and_options_exist() -> None:
    seen = 0
    for place, words in commands():
        command, rest = resolve(words)
        shown = words and re.fullmatch(r"COMMAND|STAGE", words[0])
        is_unknown = isinstance(command, click.Group) and rest and not rest[0].startswith("-") and not shown
        assert not is_unknown, f"{place}: no such command"
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        options |= {"-h", "--help"}
        for word in rest:
            if re.match(r"--?[a-zA-Z]", word):
                assert word.partition("=")[0] in options, f"{place}: no option {word}"
        seen += 1
    assert seen > 100


@whole
def test_yaml_is_of_an_analysis() -> None:
    whole = schema()
    seen = 0
    for block in blocks():
        if block.language == "yaml" and (not block.about or "datasets:" in block.code):
            wrong = complaints(Document.parse(block.code, str(block)).data, whole)
            assert wrong == [], block
            seen += 1
    assert seen > 15


def test_python_can_be_read_and_what_it_imports_of_nanoml_is_there() -> None:
    for block in blocks():
        if block.language != "python" or block.about == "fragment":
            continue
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("MLTools"):
                module = importlib.import_module(node.module or "")
                for each in node.names:
                    assert hasattr(module, each.name) or importlib.import_module(f"{node.module}.{each.name}"), block


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for block in blocks():
        for target in re.findall(r"^make ([a-z-]+)", block.code, re.M):
            assert target in targets, block


def test_the_demo_ends_with_the_pages_that_the_readme_names() -> None:
    (line,) = re.findall(r'^\t@echo "Look at (.*)"$', (ROOT / "Makefile").read_text(), re.M)
    pages = re.findall(r"`(examples/\w+/index\.html)`", (ROOT / "README.md").read_text())
    assert re.findall(r"\S+\.html", line) == pages
    assert len(pages) == 2


def test_workflows_may_only_read_the_repository() -> None:
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}, path.name


def test_links_between_pages_of_the_repository_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", prose(page.read_text())):
            made = "reference/" in link and ROOT / "doc" in (page.parent / link).resolve().parents
            assert made or (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_pictures_are_those_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "doc")
    pictures = importlib.import_module("pictures")
    for name, picture in pictures.PICTURES.items():
        assert (ROOT / "doc" / "images" / f"{name}.svg").read_text() == picture().svg(), "python doc/pictures.py"


def test_the_address_to_clone_from_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "doc" / "hooks")
    shown = importlib.import_module("address").shown
    assert shown("https://me:secret@example.org/nanoml.git") == "https://example.org/nanoml.git"
    assert shown("git@example.org:nanoml.git") == "git@example.org:nanoml.git"
    assert shown("/home/me/nanoml") == shown("") == "ADDRESS"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, forked_commands: Path) -> Path:
    """A new analysis with networks that are trained for two epochs, after its run."""
    directory = tmp_path_factory.mktemp("started")
    (directory / "examples").symlink_to(ROOT / "examples")
    create(directory / "myanalysis")
    analysis = directory / "myanalysis" / "analysis.yaml"
    analysis.write_text(analysis.read_text().replace("\ntrain:\n", "\ntrain:\n  epochs: 2\n"))
    faster = {**os.environ, "NANOML_CORES": "1", "NANOML_TEST_WHITE_FIGURES": "1"}
    subprocess.run([forked_commands / "nanoml", "run", analysis], env=faster, check=True, capture_output=True)
    return directory


def measured(directory: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "myanalysis" / name / "training" / "metrics.json").read_text())
    return content


@has_parts
def test_start_here(tmp_path: Path, follow: Callable[..., None]) -> None:
    follow("start.md", tmp_path)
    (told,) = re.findall(r"all seven \| about ([\d.]+)", (ROOT / "doc" / "howto" / "train.md").read_text())
    assert abs(measured(tmp_path, "results")["auc"]["network"] - float(told)) < 0.012
    results = tmp_path / "myanalysis" / "results"
    assert (results / "model.onnx").is_file()
    assert (results / "training" / "report.html").is_file()
    with uproot.open(results / "scores" / "signal" / "WprimeToWZToLNuLL_M600.root") as file:
        assert file["Events"]["myanalysis_signal"].array(library="np").mean() > 0.6


@has_parts
@pytest.mark.exhaustive("pages of the manual")
@pytest.mark.parametrize("name", HOW_TOS)
def test_a_how_to(started: Path, follow: Callable[..., None], name: str) -> None:
    follow(name, started, inside="myanalysis")


@has_parts
@pytest.mark.exhaustive("pages of the manual")
def test_how_to_deal_with_negative_weights(started: Path, follow: Callable[..., None]) -> None:
    """The sample for the result alone is in the card, with its events by plain arithmetic from the skims."""
    pytest.importorskip("statistical_analysis.stages")
    follow("weights.md", started, inside="myanalysis", quick=True)
    results, weights, total = started / "myanalysis" / "nlo", 0.0, 0.0
    for path in (results / "skims" / "WZ_NLO").glob("*.root"):
        with uproot.open(path) as file, uproot.open(started / "examples/nano/WZTo3LNu_Pt100" / path.name) as source:
            weights += file["Events"]["genWeight"].array(library="np").sum(dtype=float)
            total += source["Runs"]["genEventSumw"].array(library="np").sum()
    with uproot.open(results / "fit" / "templates.root") as file:
        assert {"signal", "WZ", "ZG"} == {key.split(";")[0] for key in file["all"].keys()} - {"data_obs"}
        assert file["all/WZ"].values().sum() == pytest.approx(0.0601 * 59.8e3 * weights / total, rel=1e-5)
    assert "WZ_NLO" in (results / "fit" / "report.html").read_text()
    assert measured(started, "nlo")["events"]["classes"]["WZ"]["events"] > 0
    assert (results / "scores" / "WZ_all").is_dir()


@has_parts
@pytest.mark.exhaustive("pages of the manual")
def test_how_to_write_a_selection(started: Path, follow: Callable[..., None]) -> None:
    follow("howto/selection.md", started, inside="myanalysis")
    assert abs(measured(started, "dimuon")["auc"]["network"] - 0.93) < 0.02


@has_parts
@pytest.mark.exhaustive("pages of the manual")
def test_how_to_choose_features(started: Path, follow: Callable[..., None]) -> None:
    follow("howto/train.md#choose-features", started, inside="myanalysis")
    for name, left_out in (("fewer", "ThreeLep_pt"), ("nomass", "ThreeLep_mass")):
        described = json.loads((started / "myanalysis" / name / "training" / "training.json").read_text())
        assert len(described["features"]) == 6
        assert left_out not in [it["name"] for it in described["features"]]
        assert measured(started, name)["auc"]["network"] > 0.8


def test_the_rule_for_folds_is_that_of_the_program() -> None:
    (code,) = (it.code for it in blocks() if it.page.name == "model.md" and it.about == "folds.py")
    there: dict[str, Any] = {}
    exec(code, there)
    numbers = np.random.default_rng(1).integers(0, 2**63, (3, 100), dtype=np.uint64)
    assert (there["fold"](*numbers, 5) == fold_of(*numbers, 5)).all()


@has_parts
@pytest.mark.exhaustive("pages of the manual")
def test_how_to_tell_overtraining(started: Path, follow: Callable[..., None]) -> None:
    follow("report.md#tell-whether-a-network-is-overtrained", started, inside="myanalysis")
    gaps = {}
    for name in ("results", "overtrained"):
        found = measured(started, name)
        gaps[name] = found["auc_on_training_events"] - found["auc"]["network"]
    assert gaps["results"] < 0.01 < gaps["overtrained"]


@has_parts
@pytest.mark.exhaustive("pages of the manual")
def test_how_to_train_a_network_of_ones_own(started: Path, follow: Callable[..., None]) -> None:
    follow("networks.md#train-a-network-of-your-own", started, inside="myanalysis", quick=True)
    (file,) = (started / "myanalysis" / "heads" / "scores" / "signal").glob("*.root")
    tree = uproot.open(file)["Events"]
    mass, error = (tree[f"heads_{name}"].array(library="np") for name in ("ThreeLep_mass", "error"))
    assert 100 < np.median(mass) < 1000
    assert (error > 0).all()
    assert measured(started, "finetuned")["auc"]["network"] > 0.7
    assert list((started / "myanalysis" / "finetuned" / "scores" / "WZ").glob("*.root"))


@has_parts
@pytest.mark.exhaustive("pages of the manual")
def test_the_page_on_hdf5(tmp_path: Path, follow: Callable[..., None]) -> None:
    pytest.importorskip("pandas")
    follow("hdf5.md", tmp_path)


@has_parts
def test_what_users_may_import_keeps_its_name_and_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no longer as it was breaks somebody's code; `python doc/hooks/reference.py` writes the list again."""
    pytest.importorskip("mkdocs")
    monkeypatch.syspath_prepend(ROOT / "doc" / "hooks")
    reference = importlib.import_module("reference")
    promised = (ROOT / "doc" / "promised.txt").read_text().splitlines()
    assert list(reference.promised()) == promised


@pytest.mark.exhaustive("pages of the manual")
def test_the_site_is_whole(tmp_path: Path) -> None:
    """Links, anchors and the navigation, as `make doc` checks them; nothing is fetched from another host."""
    pytest.importorskip("material")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text):
            assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{page.relative_to(tmp_path)}: {tag}"
    commands_page = (tmp_path / "reference" / "commands.html").read_text()
    for name in nanoml.list_commands(click.Context(nanoml)):
        assert f"nanoml {name}</h2>" in re.sub(r"<a class=.*?</a>", "", commands_page), name
    assert "train.decorrelate" in (tmp_path / "reference" / "configuration.html").read_text()
    # a page that was opened from disk can search only in what is a script
    assert (tmp_path / "search" / "search_index.js").is_file()
    home = (tmp_path / "index.html").read_text()
    assert home.index("iframe-worker.js") < home.index("stems.js")  # the one makes what the other changes


NOTEBOOK = ROOT / "examples" / "trilepton.ipynb"

EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def text(cell: dict[str, Any]) -> str:
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def test_the_notebook_is_kept_without_outputs() -> None:
    assert cells(NOTEBOOK)
    for cell in cells(NOTEBOOK):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@has_parts
@pytest.mark.exhaustive("pages of the manual")
def test_the_notebook_goes_the_whole_way(tmp_path: Path) -> None:
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package)
    shutil.copytree(
        ROOT / "examples",
        tmp_path / "examples",
        ignore=shutil.ignore_patterns("trilepton", "leptons", "opendata_invented", "wz"),
    )
    config = tmp_path / "examples" / "trilepton.yaml"
    config.write_text(config.read_text().replace("  model: mlp\n", "  model: mlp\n  epochs: 2\n  folds: 3\n"))
    line = [sys.executable, "-c", EXECUTE, "trilepton.ipynb"]
    faster = {**os.environ, "NANOML_CORES": "1", "NANOML_TEST_WHITE_FIGURES": "1"}
    done = subprocess.run(line, cwd=tmp_path / "examples", env=faster, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = cells(tmp_path / "examples" / "trilepton.ipynb")
    assert all(cell["execution_count"] for cell in executed)
    said = "\n".join(map(text, executed))
    for expected in ("three good leptons", "score: 9 of 9 to do", "Better than a BDT?", "CMSSW_14_0_X"):
        assert expected in said
    assert "Traceback" not in said
    pictures = [output for cell in executed for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 5
