"""`nanoml doctor`, whole."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.commands import start as command
from MLTools.NanoML.doctor import software, ways
from MLTools.NanoML.doctor.software import Finding
from MLTools.NanoML.doctor.ways import CHECKS, WAYS, CheckState, examine, guess
from services.certificates import Certificates
from services.condor import CondorPool
from services.tokens import Tokens
from services.xrootd import Cluster

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


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "doctor", *arguments]
    given = {name: value for name, value in os.environ.items() if not name.startswith(("CMSSW", "X509"))}
    return subprocess.run(line, cwd=cwd, env={**given, **environment}, capture_output=True, text=True, check=False)


def test_ways_name_checks_that_there_are() -> None:
    assert tuple(WAYS) == command.WAYS
    for way in WAYS.values():
        named = [*way.needs, *way.options]
        assert len(named) == len(set(named))
        assert set(named) <= set(CHECKS)
    assert set(CHECKS) == {name for way in WAYS.values() for name in (*way.needs, *way.options)}


@pytest.mark.parametrize("way", WAYS)
def test_nowhere_a_traceback(way: str, nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has nothing of CERN's."""
    monkeypatch.chdir(nothing)
    done = CliRunner().invoke(nanoml, ["doctor", "--for", way, "--json"], standalone_mode=False)
    found = json.loads(done.output)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert set(states) >= {*WAYS[way].needs, *WAYS[way].options}
    assert done.return_value == (0 if found["ready"] else 1)
    assert found["ready"] == ("missing" not in states.values())
    for check in found["checks"]:
        assert check["found"]
        assert (check["state"] == "fine") <= (not check["mend"])
        assert "could not be checked" not in check["found"]


def test_it_says_what_to_do(tmp_path: Path) -> None:
    done = run("--for", "crab", cwd=tmp_path, HOME=str(tmp_path), PATH="/nowhere", COLUMNS="200")
    assert done.returncode == 1
    assert "-> source /cvmfs/cms.cern.ch/common/crab-setup.sh" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Missing for crab: ")
    assert "a guess" not in done.stdout


def test_it_answers_where_packages_of_nanoml_are_missing(tmp_path: Path) -> None:
    hide = "import sys; sys.modules.update(dict.fromkeys(['yaml', 'numpy', 'jinja2']))"
    program = f"{hide}; from MLTools.NanoML.cli import main; main()"
    line = [sys.executable, "-c", program, "doctor", "--for", "crab", "--json"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert {*WAYS["crab"].needs} <= {check["name"] for check in json.loads(done.stdout)["checks"]}


def test_a_check_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise RuntimeError("boom")

    monkeypatch.setitem(CHECKS, "GPU", broken)  # type: ignore[index]
    found = examine("laptop")
    assert found.findings["GPU"].found == "could not be checked: RuntimeError: boom"
    assert found.state("GPU") is CheckState.ABSENT
    monkeypatch.setitem(CHECKS, "Python", broken)  # type: ignore[index]
    assert "Python" in examine("laptop").missing


def test_the_way_is_guessed(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guess() == "laptop"
    (nothing / "sbatch").symlink_to(shutil.which("sh", path=os.defpath) or "/bin/sh")
    monkeypatch.setenv("PATH", str(nothing))
    assert guess() == "slurm"
    monkeypatch.setenv("CMSSW_BASE", "/somewhere")
    assert guess() == "cmssw"
    monkeypatch.setattr("socket.gethostname", lambda: "lxplus947.cern.ch")
    assert guess() == "lxplus"
    assert run(cwd=nothing, HOME=str(nothing), PATH=os.defpath).stdout.splitlines()[1].startswith("(a guess")


def make_certificate(directory: Path, days: float) -> None:
    """usercert.pem and userkey.pem of a user, which are valid for some days more."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Jane Tester")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days, minutes=5))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    (directory / "usercert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "userkey.pem"
    path.unlink(missing_ok=True)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    path.chmod(0o400)


def test_the_certificate(nothing: Path) -> None:
    assert "usercert.pem and no" in ways.certificate().found
    directory = nothing / ".globus"
    make_certificate(directory, 300)
    assert ways.certificate().found == "/CN=Jane Tester: valid for 300 d"
    (directory / "userkey.pem").chmod(0o644)
    assert ways.certificate().mend == "chmod 400 ~/.globus/userkey.pem"
    make_certificate(directory, 3)
    assert ways.certificate().fine
    assert "expires in 3 d" in ways.certificate().found
    make_certificate(directory, -3)
    assert not ways.certificate().fine
    assert "expired 2 d 23 h ago" in ways.certificate().found
    (directory / "usercert.pem").write_text("nothing")
    assert not ways.certificate().fine


def test_no_proxy(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.exists(f"/tmp/x509up_u{os.getuid()}"):
        pytest.skip("there is a proxy of this user in /tmp")
    assert CHECKS["proxy"]().mend == "nanoml proxy init"
    (nothing / "proxy").write_text("nothing")
    monkeypatch.setenv("X509_USER_PROXY", str(nothing / "proxy"))
    finding = CHECKS["proxy"]()
    assert not finding.fine
    assert finding.mend == "nanoml proxy init"
    assert "no certificate in it" in finding.found


def test_a_proxy(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificates.proxy(5)
    monkeypatch.setenv("X509_USER_PROXY", str(path))
    finding = CHECKS["proxy"]()
    assert finding.fine, finding
    assert finding.found.startswith(f"proxy {path} (cms): valid for 4 h 5")
    assert finding.found.endswith("permissions 0600")
    path.chmod(0o644)
    assert CHECKS["proxy"]().mend == f"chmod 600 {path}"
    monkeypatch.setenv("X509_USER_PROXY", str(certificates.proxy(vo=None)))
    assert not CHECKS["proxy"]().fine
    assert "for no VO" in CHECKS["proxy"]().found


def test_a_token(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tokens.token(hours=1)))
    found = CHECKS["token"]().found
    said = r"^bearer token \S+ \(https://issuer.*storage.read:/.*\): valid for (59 min|1 h), permissions 0600$"
    assert re.search(said, found)
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tokens.token(hours=-2)))
    finding = CHECKS["token"]()
    assert finding.found.endswith(": the bearer token expired 2 h ago")
    assert finding.mend.startswith("htgettoken")
    monkeypatch.setenv("BEARER_TOKEN_FILE", "/none")
    said = "/none: the bearer token cannot be read: no such file or directory. Make a new one"
    assert CHECKS["token"]().found == said


def test_programs_and_packages(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for check in (*(CHECKS[name] for name in ("HTCondor", "Slurm", "CRAB")), software.gpu):
        finding = check()
        assert not finding.fine
        assert finding.mend
    assert not ways.dasgoclient().fine
    assert "root:// files cannot be read" in ways.xrootd_client().found or ways.xrootd_client().fine
    shutil.copy("/bin/ls", nothing / "dasgoclient")
    monkeypatch.setenv("PATH", str(nothing))
    assert ways.dasgoclient().fine


@pytest.mark.service
def test_a_redirector_that_answers(xrootd: Cluster) -> None:
    server = xrootd.url.removeprefix("root://").rstrip("/")
    assert ways.redirector(server).found == f"{server} answers"
    assert ways.redirector(xrootd.url).fine


def test_a_server_of_another_protocol_and_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(20)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        assert "not as XRootD does" in ways.redirector(f"127.0.0.1:{port}").found
        thread.join()
    assert "refused" in ways.redirector(f"127.0.0.1:{port}").found
    assert not ways.redirector("localhost:port").fine


def test_the_ticket(program: Program) -> None:
    program("klist", '[ "$1" = -s ]')
    assert ways.kerberos().fine
    program("klist", "exit 1")
    assert not ways.kerberos().fine
    assert ways.kerberos().mend == "kinit"


def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finding = ways.disk()
    assert f"free in {tmp_path}" in finding.found
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert ways.disk() == Finding(False, f"{tmp_path}: you may not write here", "cd to a directory of yours")


def test_a_small_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk)
    finding = ways.disk()
    assert not finding.fine
    assert "102 kB free" in finding.found
    assert finding.mend


def test_afs(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/afs/cern.ch/user/j/jane")
    program("fs", AFS.format(used=1234567))
    assert ways.afs().found == "/afs/cern.ch/user/j/jane: 1.26 GB of 10.2 GB used"
    assert ways.afs().fine
    program("fs", AFS.format(used=9950000))
    assert not ways.afs().fine
    assert "EOS" in ways.afs().mend
    program("fs", 'echo "fs: You don\'t have the required access rights" >&2; exit 1')
    assert "required access rights" in ways.afs().found
    assert "kinit" in ways.afs().mend


def test_eos(program: Program) -> None:
    user = getpass.getuser()
    program("eos", f'[ "$1" = root://eosuser.cern.ch ] || exit 2\n{EOS.format(used=250_000_000_000)}')
    assert ways.eos().found == f"/eos/user/{user[0]}/{user}: 250 GB of 1 TB used"
    program("eos", EOS.format(used=999_900_000_000))
    assert not ways.eos().fine
    program("eos", "echo 'error: permission denied' >&2; exit 13")
    assert not ways.eos().fine
    assert "permission denied" in ways.eos().found


def test_elsewhere_there_is_no_afs_no_eos_and_no_cvmfs(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ways.afs().fine
    assert not ways.eos().fine
    assert "klist is not in the PATH" in ways.kerberos().found
    monkeypatch.setattr(ways, "_CVMFS", nothing / "cms.cern.ch" / "cmsset_default.sh")
    assert not ways.cvmfs().fine
    assert ways.cvmfs().found == f"{nothing}/cms.cern.ch is not there"
    (nothing / "cms.cern.ch").mkdir()
    (nothing / "cms.cern.ch" / "cmsset_default.sh").touch()
    assert ways.cvmfs().fine


@pytest.mark.service
def test_a_queue_that_answers_and_one_that_does_not(condor_pool: CondorPool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in condor_pool.environment.items():
        monkeypatch.setenv(name, value)
    assert CHECKS["HTCondor"]().found == "the queue answers"
    monkeypatch.setenv("CONDOR_CONFIG", "/nonexistent")
    finding = CHECKS["HTCondor"]()
    assert not finding.fine
    assert finding.found.startswith("condor_q: ")


def test_a_queue_that_is_down(program: Program) -> None:
    program("sbatch", "exit 0")
    program("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    finding = CHECKS["Slurm"]()
    assert finding.found == "squeue: slurm_load_jobs error: Unable to contact slurm controller"
    program("squeue", "exit 0")
    assert CHECKS["Slurm"]().fine
