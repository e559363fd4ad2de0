"""Datasets of a configuration: what a run reads, which stays the same, and what `nanoml datasets` says about it."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import processes
from data_processing.datasets.datasets import describe_datasets, find_files, overview, query, resolve_datasets
from data_processing.datasets.files import FilePattern, list_remote
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.parallel import locked
from services.catalogue import HALF, STORE, WZ, ZZ, CatalogueServer, Content
from services.xrootd import Cluster, Storage

pytestmark = pytest.mark.service

Analysis = Callable[[str], Config]
FILE = Path(__file__).resolve().parents[3] / "examples" / "nano" / "ZGToLLG" / "ZGToLLG_0.root"
PATTERN = "/WZTo*/*NanoAODv9*/NANOAODSIM"


@pytest.fixture
def analysis(dbs: CatalogueServer, tmp_path: Path) -> Analysis:
    """Makes a configuration of the lines under "datasets:"."""

    def make(datasets: str) -> Config:
        path = tmp_path / "a.yaml"
        path.write_text("read: {redirectors: ['root://first.ch/', 'root://second.ch/']}\ndatasets:\n" + datasets)
        return load(path)

    return make


def url(number: int) -> str:
    return f"root://first.ch/{STORE}/{number:04d}.root"


def test_what_a_run_reads(analysis: Analysis, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.root").write_text("own")
    config = analysis(f"  WZ: {{das: {WZ}}}\n  ZZ: {{das: ['{ZZ}'], files: own.root}}\n")
    found = describe_datasets(config)
    assert list(found) == ["WZ", "ZZ"]
    assert [file.name for file in found["WZ"].files] == [url(number) for number in range(12) if number != 3]
    second = found["WZ"].files[1]
    assert (second.events, second.size, second.adler32) == (100, 100_001, "00000001")
    names = ["root://first.ch//store/mc/ZZ/0.root", "root://first.ch//store/mc/ZZ/1.root", str(tmp_path / "own.root")]
    assert resolve_datasets(config)["ZZ"] == names
    assert found["ZZ"].files[2].name == str(tmp_path / "own.root")
    told = capsys.readouterr().err
    assert f"WZ: left out 1 file of {WZ} that the catalogue calls invalid." in told
    assert told.count("calls invalid") == 1  # not each time


def test_sites_are_those_that_have_everything(das: CatalogueServer, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"datasets: {{WZ: {{das: {WZ}}}}}\n")
    assert describe_datasets(load(tmp_path / "a.yaml"))["WZ"].files[0].sites == ("T2_DE_DESY",)


def test_only_so_many(analysis: Analysis, tmp_path: Path) -> None:
    for setting, numbers in (
        ("max_files: 3", [0, 1, 2]),
        ("max_files: 300", [0, 1, 2, *range(4, 12)]),
        ("max_events: 1", [0, 1]),
        ("max_events: 300", [0, 1, 2]),
        ("max_events: 301", [0, 1, 2, 4]),
        ("max_events: 1000000", [0, 1, 2, *range(4, 12)]),
        ("max_files: 2, max_events: 300", [0, 1]),
    ):
        config = analysis(f"  WZ: {{das: {WZ}, {setting}}}\n")
        assert resolve_datasets(config)["WZ"] == [url(number) for number in numbers]
    for number in range(3):
        (tmp_path / f"{number}.root").write_text(str(number))
    config = analysis("  local: {files: '[012].root', max_files: 2}\n")
    assert resolve_datasets(config)["local"] == [str(tmp_path / "0.root"), str(tmp_path / "1.root")]
    message = r"a.yaml:3: datasets.local.max_events: the number of events of .* Use max_fi"
    with pytest.raises(ConfigError, match=message):
        resolve_datasets(analysis("  local: {files: '[012].root', max_events: 2}\n"))


def test_the_list_of_a_run_stays(analysis: Analysis, dbs: CatalogueServer, tmp_path: Path) -> None:
    lines = f"  WZ: {{das: {WZ}}}\n"
    before = resolve_datasets(analysis(lines))
    asked = len(dbs.asked)
    dbs.datasets[WZ].files[f"{STORE}/9999.root"] = 1
    dbs.datasets[WZ].invalid = [f"{STORE}/0001.root"]
    (tmp_path / "cache").rename(tmp_path / "cache of yesterday")
    assert resolve_datasets(analysis(lines)) == before
    assert len(dbs.asked) == asked
    # what is new in the configuration is looked up, and nothing else
    both = resolve_datasets(analysis(lines + f"  ZZ: {{das: {ZZ}}}\n"))
    assert both["WZ"] == before["WZ"]
    assert not any(WZ in path for path in dbs.asked[asked:])
    (dataset,) = overview(analysis(lines))
    assert dataset.news == [
        f"{WZ}, as it was on {(dataset.parts[0].date or '')[:10]}: now 2 files more and 1 file less, which must not be used "
        "any more; --refresh takes the files of today."
    ]
    assert resolve_datasets(analysis(lines)) == before
    (dataset,) = overview(analysis(lines), refresh=True)
    assert (dataset.read.files, dataset.parts[0].invalid, dataset.news) == (12, 1, [])
    after = resolve_datasets(analysis(lines))["WZ"]
    assert url(9999) in after
    assert url(1) not in after


def test_what_is_pinned_is_asked_of_nobody(analysis: Analysis, dbs: CatalogueServer, tmp_path: Path) -> None:
    lines = f"  WZ: {{das: '{WZ[:-12]}*/NANOAODSIM'}}\n"
    before = resolve_datasets(analysis(lines))
    dbs.stop()
    (tmp_path / "cache").rename(tmp_path / "nowhere")
    assert resolve_datasets(analysis(lines)) == before
    (dataset,) = overview(analysis(lines))
    assert re.search(r": it may have changed. The catalogue does not answer: localhost:\d+: can", dataset.news[0])
    with pytest.raises(NanoMLError, match="does not answer") as raised:
        overview(analysis(lines), refresh=True)
    assert not isinstance(raised.value, ConfigError)
    assert resolve_datasets(analysis(lines)) == before
    with pytest.raises(NanoMLError, match=r"a.yaml:4: datasets.ZZ.das: .*does not answer"):
        resolve_datasets(analysis(lines + f"  ZZ: {{das: {ZZ}}}\n"))


def test_what_a_dataset_has_become_is_told_and_nothing_taken_anew_while_a_run_reads_it(
    analysis: Analysis, dbs: CatalogueServer, tmp_path: Path
) -> None:
    config = analysis(f"  WZ: {{das: {WZ}}}\n")
    before = resolve_datasets(config)
    with locked(tmp_path / "a"), pytest.raises(NanoMLError, match="another run is active here"):
        overview(config, refresh=True)
    dbs.datasets[WZ].status = "INVALID"
    (tmp_path / "cache").rename(tmp_path / "nowhere")
    (dataset,) = overview(config)
    assert ": now it is INVALID in the catalogue: do not use it" in dataset.news[0]
    assert resolve_datasets(config) == before
    pin = tmp_path / "a" / ".nanoml" / "datasets" / "WZ.json"
    for damage in ("", "{", "[]", '{"schema": 2}', '{"schema": 1, "names": {}, "lists": {"x": []}}'):
        pin.write_text(damage)
        with pytest.raises(NanoMLError, match=rf"{pin}: cannot be read. It has the list of files of WZ: restore it"):
            resolve_datasets(config)


def test_files_of_the_configuration_alone_are_not_pinned(
    analysis: Analysis, dbs: CatalogueServer, tmp_path: Path
) -> None:
    for number in range(2):
        (tmp_path / f"{number}.root").write_text(str(number))
        config = analysis("  local: {files: '*.root'}\n")
        assert len(resolve_datasets(config)["local"]) == number + 1
        overview(config)
    assert not (tmp_path / "a").exists()
    assert dbs.asked == []


def test_wildcards_must_be_confirmed(analysis: Analysis, dbs: CatalogueServer, tmp_path: Path) -> None:
    lines = f"  all:\n    das: {PATTERN}\n"
    with pytest.raises(ConfigError) as raised:
        resolve_datasets(analysis(lines))
    assert str(raised.value) == (
        f"{tmp_path}/a.yaml:4: datasets.all.das: {PATTERN}: matches 2 datasets:\n  {ZZ}\n  {WZ}\n"
        f"Name those that you want, or take all: `nanoml datasets {tmp_path}/a.yaml` helps with both."
    )
    asked: list[tuple[str, str, list[str]]] = []

    def answer(yes: bool) -> Callable[[str, str, Sequence[str]], bool]:
        def confirm(name: str, wildcard: str, names: Sequence[str]) -> bool:
            asked.append((name, wildcard, list(names)))
            return yes

        return confirm

    with pytest.raises(ConfigError, match=r"matches 2 datasets. Name those that you want, or take all by `nanoml da"):
        describe_datasets(analysis(lines), confirm=answer(False))
    found = describe_datasets(analysis(lines), confirm=answer(True))
    assert len(found["all"].files) == 13
    assert asked == [("all", PATTERN, [ZZ, WZ])] * 2
    assert len(resolve_datasets(analysis(lines))["all"]) == 13  # once confirmed, it is for all commands
    dbs.datasets[HALF].status = "VALID"
    (tmp_path / "cache").rename(tmp_path / "nowhere")
    (dataset,) = overview(analysis(lines))
    assert dataset.news == [f"{PATTERN}: now also matches {HALF}; --refresh takes the files of today."]
    with pytest.raises(ConfigError, match="matches 3 datasets"):
        overview(analysis(lines), refresh=True, confirm=answer(False))
    assert len(resolve_datasets(analysis(lines))["all"]) == 13


def test_a_wildcard_for_one_dataset_needs_no_confirmation(analysis: Analysis) -> None:
    assert len(resolve_datasets(analysis("  WZ: {das: '/WZTo3*/*/NANOAODSIM'}\n"))["WZ"]) == 11
    config = analysis("  half: {das: '/WZTo4*/*/NANOAODSIM'}\n")
    with pytest.raises(ConfigError, match="matches 1 dataset of status PRODUCTION, none of VALID"):
        resolve_datasets(config)
    config = analysis("  half: {das: '/WZTo4*/*/NANOAODSIM', status: [VALID, PRODUCTION]}\n")
    assert len(resolve_datasets(config)["half"]) == 1


def test_all_that_is_wrong_is_told_with_its_place(analysis: Analysis, tmp_path: Path) -> None:
    typing_error = WZ.replace("pythia8", "pythia9")
    config = analysis(f"  a: {{das: {typing_error}}}\n  b: {{das: {ZZ}}}\n  c:\n    das:\n    - {ZZ}\n    - {HALF}\n")
    with pytest.raises(ConfigError) as raised:
        resolve_datasets(config)
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{tmp_path}/a.yaml:3: datasets.a.das: {typing_error}: is not in the catalogue")
    assert second.startswith(f"{tmp_path}/a.yaml:8: datasets.c.das[1]: {HALF}: is PRODUCTION")
    assert not (tmp_path / "a" / ".nanoml" / "datasets").exists()


def test_events_do_not_count_twice(analysis: Analysis, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"a.yaml:4: datasets.b.das: {url(0)} is also in dataset a: an event would"):
        resolve_datasets(analysis(f"  a: {{das: {WZ}}}\n  b: {{das: {WZ}}}\n"))
    for server in ("root://second.ch/", "", "root://eos.ch//eos/cms"):
        other = f"{server}{STORE}/0007.root"
        with pytest.raises(ConfigError, match="datasets.b.files: .*0007.root is also in dataset a"):
            resolve_datasets(analysis(f"  a: {{das: {WZ}}}\n  b: {{files: '{other}'}}\n"))
    with pytest.raises(ConfigError, match="datasets.a.das: .* is named twice"):
        resolve_datasets(analysis(f"  a: {{das: ['{WZ}', '/WZTo3*/*/NANOAODSIM']}}\n"))


def test_a_user_dataset(analysis: Analysis, dbs: CatalogueServer) -> None:
    name = "/Mine/me-skim-0123abcd/USER"
    assert resolve_datasets(analysis(f"  mine: {{das: {name}}}\n"))["mine"] == ["root://first.ch//store/user/me/0.root"]
    dbs.datasets[name].instance = "prod/phys01"
    with pytest.raises(ConfigError, match=r"is not in the catalogue \(prod/phys03\)"):
        overview(analysis(f"  mine: {{das: {name}}}\n"), refresh=True)
    assert len(resolve_datasets(analysis(f"  mine: {{das: {name}, instance: prod/phys01}}\n"))["mine"]) == 1


def test_a_query_without_a_configuration(dbs: CatalogueServer) -> None:
    found = query(PATTERN)
    assert [each.status for each in found.datasets] == ["VALID", "VALID", "PRODUCTION"]
    assert found.details is None
    details: Any = query("/WZTo3*/*/NANOAODSIM").details
    assert (details.name, details.files, details.invalid, len(details.names)) == (WZ, 11, 1, 11)
    assert query(HALF).datasets[0].status == "PRODUCTION"
    assert query("/Mine/*/USER").instance == "prod/phys03"


@pytest.fixture
def nanoml(dbs: CatalogueServer, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    return functools.partial(processes.nanoml, "datasets", cwd=tmp_path, COLUMNS="120")


def test_the_command_on_an_analysis(
    nanoml: Callable[..., Any], analysis: Analysis, dbs: CatalogueServer, tmp_path: Path
) -> None:
    (tmp_path / "own.root").write_text("own")
    analysis(f"  WZ: {{das: {WZ}, class: WZ, max_files: 2}}\n  own: {{files: own.root}}\n")
    done = nanoml("a.yaml")
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("\n\n")[0]
    assert re.search(r"WZ +WZ +- +2 of 11 +100 of 6,300 +100 kB +DBS", table)
    assert re.search(r"own +- +- +1 +- +3 bytes +this machine", table)
    assert f"\nWZ: {WZ}\n" in done.stdout
    assert "11 (1 invalid left out)" in done.stdout
    content = json.loads(nanoml("a.yaml", "--json").stdout)
    assert [each["name"] for each in content] == ["WZ", "own"]
    assert content[0]["read"] == {"files": 2, "events": 100, "size": 100_002}
    dbs.datasets[WZ].files["/store/mc/new.root"] = 1
    assert nanoml("a.yaml", "--refresh").returncode == 0
    assert json.loads(nanoml("a.yaml", "--json").stdout)[0]["available"]["files"] == 12
    assert "The instance of a configuration's dataset is written there" in nanoml("a.yaml", "--instance", "x").stderr


def test_the_command_on_wildcards(nanoml: Callable[..., Any], analysis: Analysis) -> None:
    analysis(f"  all: {{das: '{PATTERN}'}}\n")
    lines = f"    das:\n      - {ZZ}\n      - {WZ}\n"
    done = nanoml("a.yaml")
    assert done.returncode == 2
    assert done.stdout == f"all: {PATTERN} matches 2 datasets. To choose, write into a.yaml:\n{lines}"
    assert "matches 2 datasets. Name those that you want, or take all by `nanoml datasets a.yaml --yes`." in done.stderr
    done = nanoml("a.yaml", "--yes", "--json")
    assert json.loads(done.stdout)[0]["read"]["files"] == 13
    assert lines in done.stderr
    assert "matches 2" not in nanoml("a.yaml").stdout


@pytest.mark.parametrize(("typed", "code"), [("y", 0), ("n", 2)])
def test_the_command_asks_on_a_terminal(
    typed: str, code: int, nanoml: Callable[..., Any], analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis(f"  all: {{das: '{PATTERN}'}}\n")
    ours, theirs = os.openpty()
    os.write(ours, f"{typed}\n".encode())
    with open(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        done = nanoml("a.yaml")
    os.close(ours)
    assert "Take all 2 for all? [y/N]: " in done.stdout
    assert done.returncode == code


def test_the_command_on_a_name(nanoml: Callable[..., Any]) -> None:
    done = nanoml(PATTERN)
    assert done.stdout == (
        f"2 VALID, for a configuration:\n    das:\n      - {ZZ}\n      - {WZ}\n1 PRODUCTION:\n        {HALF}\n"
    )
    done = nanoml(WZ)
    assert done.stdout.splitlines()[0] == WZ
    assert "6,300" in done.stdout
    assert json.loads(nanoml(WZ, "--json").stdout)["details"]["events"] == 6300
    done = nanoml("/A/B;C/NANOAOD")
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected a name of the catalogue" in done.stderr
    done = nanoml("/A/B/NANOAOD", "--instance", "prod/phys03")
    assert done.returncode == 1
    assert "/A/B/NANOAOD: is not in the catalogue (prod/phys03)" in done.stderr


# directories of real XRootD servers; through a redirector, all servers' files must come together


@pytest.fixture
def quickly(read_with: Callable[..., None]) -> None:
    """Give up at once where nobody is."""
    pytest.importorskip("XRootD")
    read_with(tries=1)


def names(url: str) -> list[str]:
    return [file.name for file in list_remote(url)]


def test_a_redirector_gives_the_files_of_all_its_servers(xrootd_cluster: Callable[..., Cluster], quickly: None) -> None:
    both = {f"/store/user/me/WZ/{number}.root": FILE for number in (1, 2)}
    own = {
        0: {"/store/user/me/WZ/0.root": FILE, "/store/user/me/WZ/notes.txt": FILE, "/store/user/me/ZZ/5.root": FILE},
        1: {"/store/user/me/WZ/3.root": FILE, "/store/user/me/ZG/6.root": FILE},
    }
    cluster = xrootd_cluster(both, own)
    top = f"{cluster.url}/store/user/me"
    found = list_remote(f"{top}/WZ/")
    assert [file.name for file in found] == [f"{top}/WZ/{number}.root" for number in range(4)]
    assert {file.size for file in found} == {FILE.stat().st_size}
    assert names(f"{top}/WZ/[12]*") == [f"{top}/WZ/{number}.root" for number in (1, 2)]
    every = [f"{top}/WZ/{number}.root" for number in range(4)]
    assert names(f"{top}/*/*.root") == sorted([*every, f"{top}/ZZ/5.root", f"{top}/ZG/6.root"])
    assert names(f"{cluster.url}/store/*/me/Z[Z]/") == [f"{top}/ZZ/5.root"]
    with pytest.raises(NanoMLError, match=r"W\*/x\*.root: no such file"):
        list_remote(f"{top}/W*/x*.root")
    with pytest.raises(NanoMLError, match="nowhere"):
        list_remote(f"{top}/nowhere/")


def test_a_server_that_does_not_answer_leaves_no_gap(
    xrootd_cluster: Callable[..., Cluster], quickly: None, read_with: Callable[..., None]
) -> None:
    cluster = xrootd_cluster({}, {number: {f"/store/user/me/{number}.root": FILE} for number in (0, 1)})
    url = f"{cluster.url}/store/user/me/"
    assert len(list_remote(url)) == 2
    cluster.servers[1].stop()  # it hangs: the redirector still counts on it
    read_with(tries=1, timeout=3)
    with pytest.raises(NanoMLError, match="cannot be listed"):
        list_remote(url)
    cluster.servers[1].go_on()
    read_with()
    assert len(list_remote(url)) == 2


def test_a_server_alone(storage: Storage, quickly: None, tmp_path: Path) -> None:
    directory = storage.directory / "eos" / "user" / "me"
    (directory / "deep.root").mkdir(parents=True)
    for name in ("a.root", "b.root", "c d.root", "a.txt"):
        (directory / name).write_text(name)
    url = f"{storage.url}/eos/user/me"
    expected = [f"{url}/{name}" for name in ("a.root", "b.root", "c d.root")]
    assert find_files([f"{url}/"], tmp_path) == expected
    assert find_files([f"{url}/*.root"], tmp_path) == expected
    (tmp_path / "all.txt").write_text(f"{url}/a.root\n{url}/[bc]*.root\n")
    assert find_files(["all.txt"], tmp_path) == expected
    with pytest.raises(NanoMLError, match=r"a.root: is named twice"):
        find_files([f"{url}/a.root", f"{url}/*.root"], tmp_path)


def test_what_an_analysis_reads_stays(storage: Storage, quickly: None, tmp_path: Path) -> None:
    directory = storage.directory / "eos" / "user" / "pinned"
    directory.mkdir(parents=True)
    for name in ("a.root", "b.root"):
        (directory / name).write_text(name)
    url = f"{storage.url}/eos/user/pinned/"
    (tmp_path / "own.root").write_text("own")
    (tmp_path / "a.yaml").write_text(f"datasets: {{a: {{files: [own.root, '{url}']}}}}\n")
    config = load(tmp_path / "a.yaml")
    before = describe_datasets(config)["a"].files
    own = (str(tmp_path / "own.root"), None)
    assert [(file.name, file.size) for file in before] == [own, (f"{url}a.root", 6), (f"{url}b.root", 6)]
    (directory / "c.root").write_text("c.root")
    assert describe_datasets(config)["a"].files == before
    (dataset,) = overview(config)
    assert "now 1 file more; --refresh takes the files of today." in dataset.news[0]
    (dataset,) = overview(config, refresh=True)
    assert (dataset.read.files, dataset.read.events, dataset.read.size) == (4, None, 21)
    assert len(describe_datasets(config)["a"].files) == 4


def test_a_server_that_is_not_there(quickly: None) -> None:
    with pytest.raises(NanoMLError, match=r"root://127.0.0.1:1//store/x: cannot be listed"):
        list_remote("root://127.0.0.1:1//store/x/")


def test_what_is_a_listing() -> None:
    listings = ("root://host//store/x/", "root://host//store/x/*.root", "root://host//store/[xy]/z.root")
    others = ("root://host//store/x.root?svc=*", "https://host/store/x/", "store/x/")
    for text in (*listings, *others):
        assert FilePattern(text, Path(), "", 0).is_listing is (text in listings)


def test_a_dataset_of_the_catalogue_is_skimmed(dbs: CatalogueServer, xrootd: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("fsspec_xrootd")
    names = [f"/store/WZTo3LNu/WZTo3LNu_{number}.root" for number in (0, 1)]
    dbs.datasets[WZ] = Content(dict.fromkeys(names, 1000))
    (tmp_path / "a.yaml").write_text(
        f"read: {{redirectors: ['{xrootd.url}']}}\n"
        f"datasets: {{WZ: {{das: {WZ}}}}}\n"
        "skim: {cut: nMuon >= 2, keep: [MET_pt]}\n"
    )
    done = processes.nanoml("skim", "a.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (first, second) = sorted((tmp_path / "a" / ".nanoml" / "skim" / "WZ").glob("*.json"))
    for record, name in ((first, names[0]), (second, names[1])):
        (accounting,) = Accounting.from_json(json.loads(record.read_text())["summary"]).files
        assert accounting.file == f"{xrootd.url}{name}" or accounting.file.endswith(f"/{name}")
        assert 0 < accounting.selected < accounting.entries
    skims = (tmp_path / "a" / "skims" / "WZ").glob("*.root")
    assert {path.name for path in skims} == {"WZTo3LNu_0.root", "WZTo3LNu_1.root"}
