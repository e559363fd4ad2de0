"""Where jobs run, what travels there, and what is refused before anything is submitted, each by one message."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml

from MLTools.NanoML.batch.job import url_of
from MLTools.NanoML.batch.site import (
    check_inputs,
    check_place,
    check_search,
    files_below,
    load_site,
    named,
    needs_credential,
    pack,
    place_of,
    usable_credentials,
)
from MLTools.NanoML.batch.system import BatchSite, Place, system_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.workflow.task import Task
from services.certificates import Certificates
from services.tokens import Tokens

STORAGE = {"/eos/user/": "root://eosuser.cern.ch//eos/user/"}
APART = BatchSite(shared=False, storage=STORAGE, name="apart")
EOS = "/eos/user/a/ann/work"


def test_the_shipped_sites_can_be_read(tmp_path: Path) -> None:
    shared, cern = load_site("shared", tmp_path), load_site("cern", tmp_path)
    assert (shared.name, shared.shared, shared.environment) == ("shared", True, "here")
    assert (cern.name, cern.on, cern.shared, cern.environment) == ("cern", "condor", False, "cmssw")
    assert url_of("/eos/user/a/ann/x.root", cern.storage) == "root://eosuser.cern.ch//eos/user/a/ann/x.root"
    assert url_of("/eos/home-a/ann/x.root", cern.storage) == "root://eosuser.cern.ch//eos/user/a/ann/x.root"
    assert url_of("/eos/cms/x.root", cern.storage) == "root://eoscms.cern.ch//eos/cms/x.root"
    assert url_of("/afs/cern.ch/eos/user/x.root", cern.storage) is None


def test_the_site_follows_from_the_name_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "lxplus9.cern.ch")
    assert load_site(None, tmp_path).name == "cern"
    monkeypatch.setattr(socket, "getfqdn", lambda: "desk.uni.example")
    assert load_site(None, tmp_path).name == "shared"


def test_the_flavour_is_the_shortest_that_is_long_enough(tmp_path: Path) -> None:
    flavours = {1: "espresso", 1200: "espresso", 1201: "microcentury", 86400: "tomorrow", 7 * 86400: "nextweek"}
    assert {seconds: load_site("cern", tmp_path).flavour(seconds) for seconds in flavours} == flavours
    with pytest.raises(ConfigError, match="site cern: no queue allows 604801 s, the longest 7d"):
        load_site("cern", tmp_path).flavour(7 * 86400 + 1)
    assert load_site("shared", tmp_path).flavour(10**9) is None


def test_a_site_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "our cluster.yaml").write_text("on: slurm\nlines:\n  - '#SBATCH --qos=low'\n")
    site = load_site("our cluster.yaml", tmp_path)
    assert (site.name, site.on, site.shared) == ("our cluster", "slurm", True)
    assert site.lines == ["#SBATCH --qos=low"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("on: slurm\nshraed: false\n", 'site.yaml:2: shraed: unknown key. Did you mean "shared"?'),
        *(("on: slurms\n", "site.yaml:1: on: "), ("shared: maybe\n", "site.yaml:1: shared: ")),
        *(("storage:\n  /eos/: 5\n", "site.yaml:2: storage./eos/: "), ("on: [\n", "site.yaml:2")),
        ("flavours:\n  short: 20 parsecs\n", "site.yaml:2: flavours.short: "),
        ("storage:\n  '/eos/(': root://a//\n", "site.yaml:2: storage./eos/(: "),
        ("storage:\n  '/eos/': 'root://a//\\3'\n", "site.yaml:2: storage./eos/: "),
    ],
)
def test_a_mistake_is_one_message_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(content)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_site("site.yaml", tmp_path)


def test_a_site_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='"cren" is not a site, and not a YAML file in .*Known: cern, shared'):
        load_site("cren", tmp_path)
    with pytest.raises(ConfigError, match="is not a site, and not a YAML file"):
        load_site("../none.yaml", tmp_path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Config]:
    def write(workdir: str = "work", skim: Optional[Mapping[str, Any]] = None, **batch: Any) -> Config:
        datasets, skim = {"WZ": {"files": "*.root", "class": "WZ"}}, {"cut": "nMuon > 0", **(skim or {})}
        content = {"workdir": workdir, "datasets": datasets, "skim": skim, "batch": batch}
        (tmp_path / "analysis.yaml").write_text(yaml.safe_dump(content))
        return load(tmp_path / "analysis.yaml")

    return write


def test_what_can_work_is_not_refused(make: Callable[..., Config]) -> None:
    for place in (
        *(Place(BatchSite(), system_of("slurm"), "here"), Place(BatchSite(), system_of("condor"), "here")),
        Place(APART, system_of("local"), "here"),  # this machine sees its own files
        Place(BatchSite(), system_of("slurm"), "packed"),
    ):
        check_place(make(), place)
    check_place(make(EOS), Place(APART, system_of("condor"), "packed"))
    check_place(make(EOS, image="a.sif"), Place(APART, system_of("condor"), "container"))


def test_from_where_one_cannot_submit(make: Callable[..., Config], tmp_path: Path) -> None:
    site = replace(BatchSite(), not_from={f"{tmp_path}/": "not from here"})
    with pytest.raises(ConfigError, match=r"analysis.yaml:\d+: not from here."):
        check_place(make(), Place(site, system_of("condor"), "here"))
    check_place(make(), Place(site, system_of("local"), "here"))


@pytest.mark.parametrize(
    ("site", "system", "environment", "workdir", "message"),
    [
        (APART, "slurm", "packed", EOS, ".yaml.*: on Slurm workers must see the same files, and site apart says"),
        (APART, "condor", "packed", "/afs/w", r":\d+: workdir: workers at site apart cannot write to /afs/w"),
        (replace(APART, storage={}), "condor", "packed", "/afs/w", "nothing is named in `storage` of the site"),
        (APART, "condor", "here", EOS, r":\d+: batch.environment: workers at site apart do not see"),
        (APART, "condor", "container", EOS, "image: say which image the container is made from"),
        (BatchSite(), "slurm", "container", EOS, "image: say which image the container is made from"),
    ],
)
def test_what_cannot_work_is_refused(
    make: Callable[..., Config], site: BatchSite, system: str, environment: str, workdir: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_place(make(workdir, environment=environment), Place(site, system_of(system), environment))


def test_a_search_needs_files_that_all_workers_see(make: Callable[..., Config]) -> None:
    check_search(make(), Place(BatchSite(), system_of("condor"), "here"))
    with pytest.raises(ConfigError, match="a search needs workers that see the same files"):
        check_search(make(EOS), Place(APART, system_of("condor"), "packed"))


def test_the_place_is_what_is_asked_for_else_what_is_written(make: Callable[..., Config], tmp_path: Path) -> None:
    assert place_of(make(), "slurm").system.name == "slurm"
    assert place_of(make(on="condor"), None).system.name == "condor"
    assert place_of(make(on="condor"), "local").environment == "here"
    (tmp_path / "site.yaml").write_text("on: slurm\nenvironment: packed\n")
    place = place_of(make(site="site.yaml"), None)
    assert (place.system.name, place.environment) == ("slurm", "packed")
    with pytest.raises(ConfigError, match="say where jobs run: --on local, condor, slurm,? .*or crab"):
        place_of(make(site="shared"), None)


def task(path: str, stage: str = "skim", output: str = "/w/a.root") -> Task:
    return Task(stage, "WZ/0", (path,), (Path(output),), {}, "", dict)


def test_inputs_that_are_not_there(make: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="/none.root: no such file; skim needs it. Run or submit the earlier"):
        check_inputs(make(), {"skim": [task(f"{tmp_path}/none.root")]}, None)
    made = f"{tmp_path}/made.root"
    check_inputs(make(), {"skim": [task("root://a//b.root", output=made)], "convert": [task(made, "convert")]}, None)
    with pytest.raises(NanoMLError, match="made.root: no such file; convert needs it"):
        check_inputs(make(), {"convert": [task(made, "convert")]}, None)


def test_inputs_that_workers_do_not_see(make: Callable[..., Config], tmp_path: Path) -> None:
    path = tmp_path / "in.root"
    path.touch()
    check_inputs(make(), {"skim": [task(str(path))]}, None)
    with pytest.raises(ConfigError, match="in.root: workers do not see it, and skim reads it.*: /eos/user/"):
        check_inputs(make(), {"skim": [task(str(path))]}, STORAGE)
    check_inputs(make(), {"skim": [task(str(path))]}, {f"{tmp_path}/": "root://a//b/"})
    (tmp_path / "good.json").write_text("{}")
    config = make(skim={"certified": "good.json"})  # travels with the jobs
    check_inputs(config, {"skim": [task(str(tmp_path / "good.json"))]}, STORAGE)


def test_files_on_cvmfs_are_told(make: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [task("/cvmfs/none/a.json"), task("/cvmfs/none/b.json")]
    with pytest.raises(NanoMLError, match="/cvmfs/none/a.json: no such file"):
        check_inputs(make(), {"skim": tasks}, STORAGE)
    said = "skim: jobs read /cvmfs/none/a.json and 1 more file on CVMFS, which workers must have mounted.\n"
    assert capsys.readouterr().err == said


def test_files_of_the_grid_need_a_proxy() -> None:
    grid = ["root://cms-xrd-global.cern.ch//a.root", "roots://host:1094//a.root", "root://user@host//a.root"]
    others = ["root://localhost:1094//a", "root://127.0.0.1:24471//a", "root://[::1]:1094//a", "https://host/a", "/a"]
    assert [url for url in (*grid, *others) if needs_credential([task("/data/b.root"), task(url)])] == grid


@pytest.mark.service
def test_a_proxy_must_outlive_the_jobs(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    day = int(timedelta(hours=20).total_seconds())
    path = str(certificates.proxy(hours=26))
    monkeypatch.setenv("X509_USER_PROXY", path)
    assert usable_credentials(day, shared=False) == (path, None)
    with pytest.raises(NanoMLError, match=str(path)):
        usable_credentials(day + int(timedelta(hours=6).total_seconds()), shared=False)
    monkeypatch.setenv("X509_USER_PROXY", str(certificates.proxy(hours=-1)))
    with pytest.raises(NanoMLError, match="nanoml proxy init"):
        usable_credentials(60, shared=False)


@pytest.mark.service
def test_proxies_and_tokens_where_workers_do_not_see_them(
    certificates: Certificates, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy, token = str(certificates.proxy(12)), str(tokens.token())
    if not proxy.startswith("/tmp/"):
        pytest.skip("the tests' directories are not in /tmp")
    monkeypatch.setenv("X509_USER_PROXY", proxy)
    with pytest.raises(NanoMLError, match="workers do not see /tmp of this machine"):
        usable_credentials(60, shared=True)
    monkeypatch.setenv("BEARER_TOKEN_FILE", token)
    assert usable_credentials(60, shared=False) == (proxy, token)
    assert capsys.readouterr().err == ""
    with pytest.raises(NanoMLError, match=f"{token}: workers do not see it. Write the token to a file of mode 600"):
        usable_credentials(60, shared=True)
    monkeypatch.setenv("X509_USER_PROXY", str(certificates.proxy(hours=-1)))
    assert usable_credentials(3600 * 20, shared=False) == (None, token)
    assert re.search(f"bearer token {token} .* is valid for 5 h 59 min: renew it there", capsys.readouterr().err)
    monkeypatch.setenv("BEARER_TOKEN", Path(token).read_text())
    with pytest.raises(NanoMLError, match="^BEARER_TOKEN: workers do not see it"):
        usable_credentials(60, shared=False)


def tree(directory: Path) -> Path:
    for name in ("a.py", "b.txt", "deep/er/c.py", "__pycache__/a.pyc", ".git/config", ".hidden", "é ñ/'x y'.py"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


def test_all_files_below_but_hidden_ones_and_what_python_makes(tmp_path: Path) -> None:
    tree(tmp_path)
    shown = ("a.py", "b.txt", "deep/er/c.py", "é ñ/'x y'.py")
    assert dict(files_below(tmp_path, "lib")) == {f"lib/{name}": tmp_path / name for name in shown}
    assert sorted(dict(files_below(tmp_path, "lib", (".py",)))) == ["lib/a.py", "lib/deep/er/c.py", "lib/é ñ/'x y'.py"]
    assert files_below(tmp_path / "none", "lib") == []


def test_links_are_followed_on_request_and_never_in_circles(tmp_path: Path) -> None:
    one, other = tree(tmp_path / "one"), tmp_path / "other"
    other.mkdir()
    (other / "d.py").write_text("d")
    (one / "link").symlink_to(other)
    (other / "back").symlink_to(one)
    (one / "self").symlink_to(one)
    (one / "nowhere.py").symlink_to(tmp_path / "none")
    (one / "file.py").symlink_to(other / "d.py")
    assert "x/link/d.py" not in dict(files_below(one, "x"))
    assert "x/file.py" in dict(files_below(one, "x"))
    found = [name for name, _ in files_below(one, "x", follow=True)]
    assert "x/link/d.py" in found
    assert len(found) == len({os.path.realpath(path) for _, path in files_below(one, "x", follow=True)}) + 1


def test_the_same_content_has_the_same_name_and_is_packed_once(tmp_path: Path) -> None:
    one, other = tree(tmp_path / "one"), tree(tmp_path / "other")
    os.utime(other / "a.py", (1, 1))
    first = pack("code", files_below(one, "lib"), tmp_path / "jobs")
    content, inode = first.read_bytes(), first.stat().st_ino
    assert pack("code", reversed(files_below(other, "lib")), tmp_path / "jobs") == first
    assert first.stat().st_ino == inode
    first.unlink()
    assert pack("code", files_below(other, "lib"), tmp_path / "jobs").read_bytes() == content
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [first.name]
    assert first.name.startswith("code-")


def test_any_other_content_has_another_name(tmp_path: Path) -> None:
    one = tree(tmp_path / "one")
    names = [pack("code", files_below(one, "lib"), tmp_path).name]
    names.append(pack("code", files_below(one, "base"), tmp_path).name)
    (one / "a.py").write_text("other")
    names.append(pack("code", files_below(one, "lib"), tmp_path).name)
    (one / "a.py").chmod(0o755)
    names.append(pack("code", files_below(one, "lib"), tmp_path).name)
    (one / "a.py").rename(one / "z.py")
    names.append(pack("code", files_below(one, "lib"), tmp_path).name)
    assert len(set(names)) == len(names)


def test_an_archive_has_the_files_as_they_are(tmp_path: Path) -> None:
    one = tree(tmp_path / "one")
    (one / "a.py").chmod(0o700)
    (one / "link.py").symlink_to(one / "b.txt")
    path = pack("code", files_below(one, "lib"), tmp_path)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xzf", path, "-C", tmp_path / "out"], check=True)
    for name, original in files_below(one, "lib"):
        found = tmp_path / "out" / name
        assert found.read_bytes() == original.read_bytes()
        assert not found.is_symlink()
        assert os.access(found, os.X_OK) == os.access(original, os.X_OK)
    with tarfile.open(path) as archive:
        assert {(it.uid, it.mtime, it.uname) for it in archive.getmembers()} == {(0, 0, "")}


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20))
    with pytest.raises(NanoMLError, match="the disk is full"):
        pack("code", [("large", tmp_path / "large")], disk)
    assert list(disk.iterdir()) == []


def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="none.py: cannot read"):
        pack("code", [("none.py", tmp_path / "none.py")], tmp_path)


@pytest.mark.parametrize("init", ["weights.pt", "{file: weights.pt, frozen: body}"])
def test_a_network_and_its_checkpoint_travel(init: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    (tmp_path / "a.yaml").write_text(f"train: {{files: a.h5, model: 'net.py:Net', init: {init}}}\n")
    assert [text for _, text in named(load(tmp_path / "a.yaml"))] == ["net.py", "weights.pt"]
