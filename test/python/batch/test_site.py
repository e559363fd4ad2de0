from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from MLTools.NanoML.batch.site import load_site
from MLTools.NanoML.batch.staging import url_of
from MLTools.NanoML.errors import ConfigError


def test_the_shipped_sites_can_be_read(tmp_path: Path) -> None:
    shared, cern = load_site("shared", tmp_path), load_site("cern", tmp_path)
    assert (shared.name, shared.shared, shared.environment) == ("shared", True, "here")
    assert (cern.name, cern.on, cern.shared, cern.environment) == ("cern", "condor", False, "cmssw")
    assert url_of("/eos/user/a/ann/x.root", cern.storage) == "root://eosuser.cern.ch//eos/user/a/ann/x.root"
    assert url_of("/eos/home-a/ann/x.root", cern.storage) == "root://eosuser.cern.ch//eos/user/a/ann/x.root"
    assert url_of("/eos/cms/x.root", cern.storage) == "root://eoscms.cern.ch//eos/cms/x.root"
    assert url_of("/afs/cern.ch/eos/user/x.root", cern.storage) is None


def test_the_site_follows_from_the_name_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "lxplus9.cern.ch")
    assert load_site(None, tmp_path).name == "cern"
    monkeypatch.setattr(socket, "getfqdn", lambda: "desk.uni.example")
    assert load_site(None, tmp_path).name == "shared"


@pytest.mark.parametrize(
    ("seconds", "flavour"),
    [
        (1, "espresso"),
        (1200, "espresso"),
        (1201, "microcentury"),
        (86400, "tomorrow"),
        (7 * 86400, "nextweek"),
    ],
)
def test_the_flavour_is_the_shortest_that_is_long_enough(seconds: int, flavour: str, tmp_path: Path) -> None:
    assert load_site("cern", tmp_path).flavour(seconds) == flavour


def test_no_flavour_is_long_enough(tmp_path: Path) -> None:
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
        ("on: slurms\n", "site.yaml:1: on: "),
        ("shared: maybe\n", "site.yaml:1: shared: "),
        ("storage:\n  /eos/: 5\n", "site.yaml:2: storage./eos/: "),
        ("on: [\n", "site.yaml:2"),
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
    with pytest.raises(ConfigError, match='"cren" is no site, and no YAML file in .*Known: cern, shared'):
        load_site("cren", tmp_path)
    with pytest.raises(ConfigError, match="is no site, and no YAML file"):
        load_site("../none.yaml", tmp_path)
