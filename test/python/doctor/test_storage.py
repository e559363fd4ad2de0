from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path

import pytest

from MLTools.NanoML.doctor import storage

Program = Callable[[str, str], Path]

# as `fs listquota` and `eos quota ls -m` print them
AFS = """cat <<'END'
Volume Name                    Quota       Used %Used   Partition
user.jane                   10000000    {used}   12%         34%
END"""
EOS = (
    "echo 'quota=node uid=jane space=/eos/user/ usedbytes=4000 usedlogicalbytes={used} usedfiles=3 maxbytes=0 "
    "maxlogicalbytes=1000000000000 maxfiles=1000000 percentageusedbytes=0.1 statusbytes=ok statusfiles=ok'"
)


def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finding = storage.disk()
    assert f"free in {tmp_path}" in finding.found


def test_a_small_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk)
    finding = storage.disk()
    assert not finding.fine
    assert "102 kB free" in finding.found
    assert finding.mend


def test_afs(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/afs/cern.ch/user/j/jane")
    program("fs", AFS.format(used=1234567))
    assert storage.afs().found == "/afs/cern.ch/user/j/jane: 1.26 GB of 10.2 GB used"
    assert storage.afs().fine
    program("fs", AFS.format(used=9950000))
    assert not storage.afs().fine
    assert "EOS" in storage.afs().mend
    program("fs", 'echo "fs: You don\'t have the required access rights" >&2; exit 1')
    assert "required access rights" in storage.afs().found
    assert "kinit" in storage.afs().mend


def test_a_home_that_is_not_on_afs(nothing: Path) -> None:
    assert storage.afs().fine


def test_eos(program: Program) -> None:
    user = getpass.getuser()
    program("eos", f'[ "$1" = root://eosuser.cern.ch ] || exit 2\n{EOS.format(used=250_000_000_000)}')
    assert storage.eos().found == f"/eos/user/{user[0]}/{user}: 250 GB of 1 TB used"
    program("eos", EOS.format(used=999_900_000_000))
    assert not storage.eos().fine
    program("eos", "echo 'error: permission denied' >&2; exit 13")
    assert not storage.eos().fine
    assert "permission denied" in storage.eos().found


def test_elsewhere_there_is_no_eos_and_no_cvmfs(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not storage.eos().fine
    monkeypatch.setattr(storage, "_CVMFS", nothing / "cms.cern.ch" / "cmsset_default.sh")
    assert not storage.cvmfs().fine
    assert storage.cvmfs().found == f"{nothing}/cms.cern.ch is not there"
    (nothing / "cms.cern.ch").mkdir()
    (nothing / "cms.cern.ch" / "cmsset_default.sh").touch()
    assert storage.cvmfs().fine
