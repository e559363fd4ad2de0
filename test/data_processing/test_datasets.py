from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_processing.datasets import find_files, output_names, resolve_datasets
from MLTools.NanoML.config import load
from MLTools.NanoML.errors import ConfigError, NanoMLError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a/1.root", "a/2.root", "b/1.root", "odd [x].root"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_paths_globs_and_urls(files: Path) -> None:
    found = find_files(["a/*.root", str(files / "b" / "1.root"), "root://host//store/x.root"], files)
    assert found == [
        str(files / "a/1.root"),
        str(files / "a/2.root"),
        str(files / "b/1.root"),
        "root://host//store/x.root",
    ]
    assert find_files(["**/1.root"], files) == [str(files / "a/1.root"), str(files / "b/1.root")]
    assert find_files(["odd [x].root"], files) == [str(files / "odd [x].root")]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["c/*.root"], r"c/\*.root: no such file in"),
        (["a/*.root", "a/1.root"], "a/1.root: is named twice"),
        (["root://host//store/*.root"], "wildcards do not work in URLs"),
        (["root://host//x.root", "root://host//x.root"], "is named twice"),
    ],
)
def test_what_cannot_be_is_refused(files: Path, patterns: list[str], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        find_files(patterns, files)


def test_a_link_to_a_file_is_the_same_file(files: Path) -> None:
    (files / "link.root").symlink_to(files / "a" / "1.root")
    with pytest.raises(NanoMLError, match="is named twice"):
        find_files(["a/1.root", "link.root"], files)


def test_outputs_have_the_inputs_names_unless_two_are_the_same() -> None:
    names = output_names(["/x/1.root", "/x/2.root", "/y/2.root", "root://h//f.root?svc=a"])
    assert names["/x/1.root"] == "1.root"
    assert names["root://h//f.root?svc=a"] == "f.root"
    assert re.fullmatch(r"2-[0-9a-f]{8}.root", names["/x/2.root"])
    assert names["/x/2.root"] != names["/y/2.root"]


def test_problems_of_a_dataset_are_given_with_their_line(files: Path) -> None:
    (files / "a.yaml").write_text(
        "datasets:\n  one:\n    files: a/*.root\n  two:\n    files: [b/1.root, a/2.root]\n"
    )
    with pytest.raises(ConfigError, match=r"a.yaml:5: datasets.two.files: .*a/2.root is also in dataset one"):
        resolve_datasets(load(files / "a.yaml"))
    (files / "a.yaml").write_text("datasets:\n  one:\n    files: none/*.root\n")
    with pytest.raises(ConfigError, match=r"a.yaml:3: datasets.one.files: none/\*.root: no such file"):
        resolve_datasets(load(files / "a.yaml"))
