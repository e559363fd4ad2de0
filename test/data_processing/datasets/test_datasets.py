from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_processing.datasets.datasets import find_files, output_names, resolve_datasets
from MLTools.NanoML.config.load import load
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
        (["https://host/store/*.root"], "wildcards do not work in URLs"),
        (["root://host//x.root", "root://host//x.root"], "is named twice"),
    ],
)
def test_what_cannot_be_is_refused(files: Path, patterns: list[str], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        find_files(patterns, files)


def test_a_directory_is_no_pattern(tmp_path: Path) -> None:
    base = tmp_path / "[1] *"
    (base / "sub").mkdir(parents=True)
    (base / "sub" / "a.root").write_text("a")
    assert find_files(["sub/*.root"], base) == [str(base / "sub" / "a.root")]
    assert find_files(["sub/../sub/?.root"], base) == [str(base / "sub" / "a.root")]


def test_a_link_to_a_file_is_the_same_file(files: Path) -> None:
    (files / "link.root").symlink_to(files / "a" / "1.root")
    (files / "directory").symlink_to(files / "a")
    for other in ("link.root", "directory/1.root", str(files / "b" / ".." / "link.root")):
        with pytest.raises(NanoMLError) as raised:
            find_files(["a/1.root", "a/2.root", other], files)
        assert "link.root: has the same events as" in str(raised.value).replace("directory/1.root", "link.root")
        assert f"has the same events as {files / 'a' / '1.root'}, so that they would count twice" in str(raised.value)


def test_a_copy_has_the_same_events(sample: Path, tmp_path: Path) -> None:
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    one, other = tmp_path / "one.root", tmp_path / "other.root"
    shutil.copy(source, one)
    os.link(one, other)
    for name in (one, other):
        with pytest.raises(NanoMLError, match=f"{name}: has the same events as {source}"):
            find_files([str(source), str(name)], tmp_path)
    # of the same size alone, it is another file
    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    another = tmp_path / "another.root"
    another.write_bytes(content)
    assert len(find_files([str(source), str(another)], tmp_path)) == 2


DATA = "/store/data/Run2018A/DoubleMuon/NANOAOD/UL2018_MiniAODv2_NanoAODv9-v1/2550000/x.root"


def test_urls_of_the_same_file(tmp_path: Path) -> None:
    for first, second in (
        ("root://a//store/x.root", "root://b//store/x.root"),
        ("root://a//store/x.root", "root://a:1094///store//x.root?xrd.wantprot=unix"),
        (f"root://a/{DATA}", f"root://b//store/test/xrootd/T2_CH_CERN/{DATA}"),
        (f"root://a/{DATA}", f"root://eoscms.cern.ch//eos/cms{DATA}"),
        (f"root://a/{DATA}", f"davs://b:2880/pnfs/site/data/cms{DATA}?token=1"),
        ("root://Eos.cern.ch//eos/y.root", "xroot://eos.cern.ch:1094//eos//y.root?svcClass=a"),
        ("https://a/get?file=1", "https://A//get?file=1"),
    ):
        message = f"{second}: has the same events as {first}, so that they would count twice. Name it once."
        with pytest.raises(NanoMLError, match=f"^{re.escape(message)}$"):
            find_files([first, "root://a//store/z.root", second], tmp_path)


def test_urls_of_other_files(tmp_path: Path) -> None:
    urls = [
        "root://a//store/x.root", "root://a//store/y.root", "root://a//store/user/b/store/x.root",
        "root://a//eos/x.root", "root://b//eos/x.root", "root://a:1095//eos/x.root", "https://a/get?file=1",
        "https://a/get?file=2",
    ]  # fmt: skip
    assert find_files(urls, tmp_path) == urls


def test_a_file_may_be_reached_over_a_mount_or_as_an_url(tmp_path: Path) -> None:
    for directory in ("eos/cms", "local"):
        path = tmp_path / (directory + DATA)
        path.parent.mkdir(parents=True)
        path.write_text(directory)
    mounted, local = tmp_path / f"eos/cms{DATA}", tmp_path / f"local{DATA}"
    for other in (f"root://a/{DATA}", f"file://{mounted}", str(local)):
        with pytest.raises(NanoMLError, match="has the same events as"):
            find_files([str(mounted), other], tmp_path)
    # what is not so named that it can be there once alone may be another file
    for directory in ("a", "b"):
        (tmp_path / directory / "store" / "mc").mkdir(parents=True)
        (tmp_path / directory / "store" / "mc" / "x.root").write_text(directory)
    assert len(find_files(["?/store/mc/x.root", "root://a//store/mc/x.root"], tmp_path)) == 3


def test_outputs_have_the_inputs_names_unless_two_are_the_same() -> None:
    names = output_names(["/x/1.root", "/x/2.root", "/y/2.root", "root://h//f.root?svc=a"])
    assert names["/x/1.root"] == "1.root"
    assert names["root://h//f.root?svc=a"] == "f.root"
    assert re.fullmatch(r"2-[0-9a-f]{8}.root", names["/x/2.root"])
    assert names["/x/2.root"] != names["/y/2.root"]


def test_problems_of_a_dataset_are_given_with_their_line(files: Path) -> None:
    (files / "a.yaml").write_text("datasets:\n  one:\n    files: a/*.root\n  two:\n    files: [b/1.root, a/2.root]\n")
    with pytest.raises(ConfigError, match=r"a.yaml:5: datasets.two.files: .*a/2.root is also in dataset one"):
        resolve_datasets(load(files / "a.yaml"))
    (files / "a.yaml").write_text("datasets:\n  one:\n    files: none/*.root\n")
    with pytest.raises(ConfigError, match=r"a.yaml:3: datasets.one.files: none/\*.root: no such file"):
        resolve_datasets(load(files / "a.yaml"))


def test_a_file_of_two_names_in_two_datasets_is_named_by_both(files: Path) -> None:
    (files / "link.root").symlink_to(files / "a" / "2.root")
    for first, second, shown in (
        ("root://a//store/x.root", "root://b//store/x.root", "root://b//store/x.root"),
        ("a/2.root", "link.root", str(files / "link.root")),
    ):
        (files / "a.yaml").write_text(
            f"datasets:\n  one:\n    files: {first}\n  two:\n    files: [b/1.root, '{second}']\n"
        )
        with pytest.raises(ConfigError) as raised:
            resolve_datasets(load(files / "a.yaml"))
        assert f"a.yaml:5: datasets.two.files: {shown} is also in dataset one, as " in str(raised.value)
        assert f"{first}: an event would count twice" in str(raised.value)


def test_local_files_are_found_without_the_catalogue(files: Path) -> None:
    (files / "a.yaml").write_text("datasets: {one: {files: a/*.root}}\n")
    program = (
        "import sys\n"
        "from data_processing.datasets.datasets import resolve_datasets\n"
        "from MLTools.NanoML.config.load import load\n"
        "assert len(resolve_datasets(load('a.yaml'))['one']) == 2\n"
        "print([name for name in sys.modules if name.endswith(('.catalogue', 'datasets.sources'))])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], cwd=files, text=True) == "[]\n"
