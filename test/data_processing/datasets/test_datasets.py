"""What can stand for files, text files of it, and which of them are the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_processing.datasets.datasets import describe_datasets, find_files, output_names, resolve_datasets
from data_processing.datasets.files import _content, _head, _samples, file_patterns, find_same, url_of
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, NanoMLError

REDIRECTORS = ["root://cms-xrd-global.cern.ch/"]
LFN = "/store/mc/Run2/WZ/NANOAODSIM/v1/0/1.root"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a/1.root", "a/2.root", "b/1.root", "odd [x].root", "lists/a.root", "lists/b c.root", "d.root"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_paths_globs_and_urls(files: Path) -> None:
    found = find_files(["a/*.root", str(files / "b" / "1.root"), "root://host//store/x.root"], files)
    local = [str(files / name) for name in ("a/1.root", "a/2.root", "b/1.root")]
    assert found == [*local, "root://host//store/x.root"]
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
        text = f"datasets:\n  one:\n    files: {first}\n  two:\n    files: [b/1.root, '{second}']\n"
        (files / "a.yaml").write_text(text)
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


def test_logical_names_are_read_through_the_first_redirector(files: Path) -> None:
    assert find_files([LFN], files) == [f"root://cms-xrd-global.cern.ch/{LFN}"]
    for server in ("root://host", "root://host/", "root://host//"):
        assert url_of(LFN, [server, "root://other"]) == f"root://host/{LFN}"
    with pytest.raises(NanoMLError, match=r"needs a redirector, but none is named. Name one: .read: {redir"):
        url_of(LFN, [])
    servers = "read: {redirectors: ['root://here.ch:1094/', 'root://there.ch/']}\n"
    (files / "a.yaml").write_text(f"{servers}datasets: {{a: {{files: {LFN}}}}}\n")
    (file,) = describe_datasets(load(files / "a.yaml"))["a"].files
    assert file.name == f"root://here.ch:1094/{LFN}"
    assert (file.events, file.size, file.valid) == (None, None, True)


def test_text_files_name_one_file_a_line(files: Path) -> None:
    (files / "lists" / "all.txt").write_text(
        f"\ufeff# what there is\n\n  a.root  # relative to the list\r\nb c.root\n{LFN}\nroot://host//eos/x#1.root\n../d.root\n"
    )
    remote = [f"root://cms-xrd-global.cern.ch/{LFN}", "root://host//eos/x#1.root"]
    expected = [str(files / "lists/a.root"), str(files / "lists/b c.root"), *remote, str(files / "d.root")]
    assert find_files(["lists/all.txt"], files) == expected
    assert find_files(["lists/*.txt"], files) == expected
    (files / "lists" / "open.txt").write_text("a.root\nb c.root")  # without an end of the last line
    assert find_files(["lists/open.txt"], files) == expected[:2]
    assert [entry.number for entry in file_patterns(["d.root", "lists/all.txt"], files, REDIRECTORS)] == [0, *[1] * 5]


def test_lists_that_are_none(files: Path) -> None:
    for content, message in (
        (b"a.root\n\nmissing.root\n", r"all.txt:3: missing.root: no such file in .*lists"),
        (b"# nothing\n\n", r"all.txt: names no file"),
        (b"", r"all.txt: names no file"),
        (b"\xff\xfe\x00", r"all.txt: is not a text file with one file per line"),
        (b"a.root\na\x00b.root\n", r"all.txt:2: is not text: expected one file per line"),
        (b"other.txt\n", r"all.txt:1: other.txt: a list cannot name another list"),
        (b"a.root\na.root\n", r"a.root: is named twice"),
        (b"https://host/*.root\n", r"all.txt:1: https://host/\*.root: wildcards do not work in URLs other than"),
    ):
        (files / "lists" / "all.txt").write_bytes(content)
        with pytest.raises(NanoMLError, match=message):
            find_files(["lists/all.txt"], files)


def test_mistakes_are_told_with_what_to_do(files: Path) -> None:
    for entry, message in (
        ("lists/none.txt", "lists/none.txt: no such file in"),
        ("lists", r"lists: .*lists is a directory. For the files in it, write lists/\*.root"),
        ("list*", r"lists is a directory. For the files in it, write list\*/\*.root"),
        ("/A/B-v1/NANOAODSIM", 'If it is a dataset of CMS\'s catalogue, write it as "das"'),
        ("/eos/user/x/y.root", "Where EOS is not mounted, write root://eosuser.cern.ch/ or root://eoscms.cern.ch/ "),
        ("root://host//store/**/x.root", r"\*\* does not work on servers"),
        ("root://host//*/x.root", "begins with a wildcard, which would list all of the server"),
    ):
        with pytest.raises(NanoMLError, match=message):
            find_files([entry], files)


def test_the_place_of_a_mistake_in_a_configuration(files: Path) -> None:
    (files / "a.yaml").write_text("datasets:\n  a:\n    files:\n      - d.root\n      - lists/all.txt\n")
    (files / "lists" / "all.txt").write_text("a.root\nx.root\n")
    with pytest.raises(NanoMLError, match=r"a.yaml:5: datasets.a.files\[1\]: .*all.txt:2: x.root: no such file in"):
        resolve_datasets(load(files / "a.yaml"))


MANY = 20_000


def test_many_files_of_one_size_are_told_apart_by_their_beginnings(tmp_path: Path) -> None:
    files = []
    for number in range(500):
        path = tmp_path / f"{number}.root"
        path.write_bytes(number.to_bytes(8, "big") + bytes(2000))
        files.append(str(path))
    assert find_same(files) is None
    (tmp_path / "copy.root").write_bytes((tmp_path / "123.root").read_bytes())
    assert find_same([*files, str(tmp_path / "copy.root")]) == (123, 500)


def test_files_are_read_once_and_only_as_far_as_it_takes_to_tell_them_apart(tmp_path: Path) -> None:
    def make(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    alike = [make(f"alike{n}", bytes(9500) + n.to_bytes(2, "big") + bytes(5499)) for n in range(300)]
    ends = [make(f"end{n}", bytes(20_000) + bytes([n])) for n in range(3)]
    beginnings = [make(f"beginning{n}", bytes([n]) + bytes(30_000)) for n in range(3)]
    sizes = [make(f"size{n}", bytes(40_000 + n)) for n in range(3)]
    for digest in (_head, _samples, _content):
        digest.cache_clear()
    for _ in range(2):
        assert find_same([*alike, *ends, *beginnings, *sizes]) is None
        read = [digest.cache_info().misses for digest in (_head, _samples, _content)]
        assert read == [306, 303, 300]
    make("alike7", (tmp_path / "alike8").read_bytes())
    assert find_same(alike) == (7, 8)
    make("alike7", bytes(15_001))
    assert find_same(alike) == (0, 7)


def test_what_cannot_be_looked_at_is_left_to_who_reads_it(tmp_path: Path) -> None:
    (tmp_path / "link.root").symlink_to("nowhere")
    (tmp_path / "empty.root").touch()
    (tmp_path / "also empty.root").touch()
    os.mkfifo(tmp_path / "pipe.root")
    names = ("link.root", "empty.root", "also empty.root", "pipe.root", "missing.root")
    assert find_same([str(tmp_path / name) for name in names]) is None
    assert find_same([str(tmp_path / "link.root"), str(tmp_path / "nowhere")]) == (0, 1)


@pytest.mark.exhaustive("speed with tens of thousands of files")
def test_20_000_urls_take_a_second(tmp_path: Path) -> None:
    names = (f"/store/mc/Run/A{number % 7}/NANOAODSIM/v1/{number // 1000}/{number:08X}.root" for number in range(MANY))
    (tmp_path / "all.txt").write_text("\n".join(names))
    (tmp_path / "a.yaml").write_text("datasets: {a: {files: all.txt}}\n")
    check_quick(tmp_path / "a.yaml")


@pytest.mark.exhaustive("speed with tens of thousands of files")
def test_5_000_local_files_take_a_second(tmp_path: Path) -> None:
    for number in range(MANY // 4):
        if number % 1000 == 0:
            directory = tmp_path / f"{number:06d}"
            directory.mkdir()
        with open(directory / f"{number}.root", "wb") as file:
            file.write(number.to_bytes(4, "big"))
            file.truncate(1000 + number % 5000)
    (tmp_path / "a.yaml").write_text("datasets: {a: {files: '*/*.root'}}\n")
    check_quick(tmp_path / "a.yaml", MANY // 4)


def check_quick(path: Path, number: int = MANY) -> None:
    start = time.process_time()
    files = resolve_datasets(load(path))["a"]
    names = output_names(files)
    assert time.process_time() - start < 1e-4 * number  # a fifth of it on a quiet machine
    assert len(set(names.values())) == len(files) == number
