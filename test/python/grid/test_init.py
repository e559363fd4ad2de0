"""`nanoml proxy`. There is no VOMS server here: a script that stands in for voms-proxy-init has voms-proxy-fake make the proxy."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from MLTools.NanoML.commands.grid import proxy
from services.certificates import Certificates

NANOML = (sys.executable, "-m", "MLTools.NanoML.cli", "proxy")

# asks for a password as voms-proxy-init does, and makes a proxy of what was asked for
STAND_IN = """#!/bin/sh
echo "$@" > "$HOME/asked"
printf 'Enter GRID pass phrase: ' > /dev/tty && read -r password < /dev/tty || password=secret
[ "$password" = secret ] || { echo "wrong pass phrase" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case $1 in
        --voms) vo=$2; shift;; --valid) hours=${2%%:*}; shift;; --out) out=$2; shift;; --rfc) ;; *) exit 9;;
    esac
    shift
done
cd AUTHORITY && exec voms-proxy-fake -cert user.pem -key user.key -certdir certificates -rfc -quiet \\
    -hostcert voms.pem -hostkey voms.key -uri voms.localhost:15002 -voms "$vo" -fqan "/$vo/Role=NULL" \\
    -hours "$hours" -vomslife "${LESS:-$hours}" -out "$out"
"""


@pytest.fixture
def environment(certificates: Certificates, tmp_path: Path) -> dict[str, str]:
    """Variables with an empty home directory and the stand-in on the PATH."""
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "voms-proxy-init"
    program.write_text(STAND_IN.replace("AUTHORITY", str(certificates.directory)))
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "X509_USER_PROXY"}
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    return {**kept, "HOME": str(tmp_path / "home"), "PATH": path, "COLUMNS": "120"}


def run(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run without a terminal."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True}
    return subprocess.run([*NANOML, *words], env=environment, capture_output=True, text=True, check=False, **options)


def info(environment: Mapping[str, str], *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(proxy, ["info", *words], env={"X509_USER_PROXY": None, **environment})
    return done.exit_code, done.output


def on_terminal(environment: Mapping[str, str], typed: str) -> tuple[int, str]:
    """Run `nanoml proxy init` on a terminal where something is typed; return the exit code and what was shown."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(NANOML[0], [*NANOML, "init"], dict(environment))
    shown = b""
    try:
        while b"phrase: " not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, typed.encode() + b"\n")
        while piece := os.read(terminal, 1000):
            shown += piece
    except OSError:  # Linux says so that the terminal has been closed
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


def test_a_proxy_at_home(environment: dict[str, str]) -> None:
    done = run(environment, "init")
    assert done.returncode == 0, done.stderr
    path = Path(environment["HOME"], ".globus", f"x509up_u{os.getuid()}")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    asked = Path(environment["HOME"], "asked").read_text()
    assert asked.startswith("--rfc --voms cms --valid 192:00 --out ")
    first, *rest = done.stdout.splitlines()
    assert first == f"{path}: /DC=test/DC=nanoml/CN=user, VO cms, valid for 7 d 23 h"
    assert rest == ["For other grid tools, also in ~/.bashrc:", f"    export X509_USER_PROXY={path}"]
    found = json.loads(info(environment, "--json")[1])
    assert (found["path"], found["valid"], found["vo"]) == (str(path), True, "cms")


def test_the_terminal_is_that_of_voms_proxy_init(environment: dict[str, str]) -> None:
    path = Path(environment["HOME"], ".globus", f"x509up_u{os.getuid()}")
    code, shown = on_terminal(environment, "wrong")
    assert code == 1
    assert "wrong pass phrase" in shown
    assert "voms-proxy-init made no proxy (exit code 1): see what it says above." in shown
    assert list(path.parent.iterdir()) == []
    path.write_text("what was there before")
    assert on_terminal(environment, "wrong")[0] == 1
    assert path.read_text() == "what was there before"
    assert on_terminal(environment, "secret")[0] == 0
    assert path.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")


def test_another_place_and_another_vo(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "my proxy"
    done = run(environment, "init", "-o", str(path), "--hours", "24", "--vo", "atlas")
    assert done.returncode == 0, done.stderr
    assert "--voms atlas --valid 24:00" in Path(environment["HOME"], "asked").read_text()
    assert f"export X509_USER_PROXY='{path}'" in done.stdout
    environment["X509_USER_PROXY"] = str(path)
    again = run({**environment, "LESS": "24"}, "init")
    assert again.returncode == 0, again.stderr
    assert "VO cms" in again.stdout
    assert "export" not in again.stdout
    assert "That is less than the 8 d that were asked for" in again.stdout
    assert "valid for 23 h 59 min" in again.stdout
    assert not Path(environment["HOME"], ".globus").exists()


def test_what_is_wrong_is_told_with_its_remedy(environment: dict[str, str], certificates: Certificates) -> None:
    path = certificates.proxy(30)
    environment["X509_USER_PROXY"] = str(path)
    code, shown = info(environment)
    assert code == 0, shown
    for said in ("/DC=test/DC=nanoml/CN=user", "/cms/Role=NULL", "1 d 5 h", "permissions 0600", "In order."):
        assert said in shown
    path.chmod(0o604)
    code, shown = info(environment, "--hours", "48")
    assert code == 1
    assert f"The proxy can be read by others (permissions 0604). Fix it: chmod 600 {path}" in shown
    assert "more, but 2 d are needed. Fix it: nanoml proxy init" in shown
    found = json.loads(info(environment, "--json")[1])
    said = "the proxy can be read by others (permissions 0604)"
    assert found["problems"] == [{"what": said, "remedy": f"chmod 600 {path}"}]
    (key,) = [part for part in path.read_text().split("-----") if "PRIVATE" not in part and "MIIE" in part[:6]]
    assert not any(line in shown for line in key.split())


def test_no_proxy_and_no_program(environment: dict[str, str], tmp_path: Path) -> None:
    environment["X509_USER_PROXY"] = str(tmp_path / "nowhere")
    code, shown = info(environment)
    assert code == 1
    assert f"{tmp_path}/nowhere: the proxy cannot be read: no such file or directory" in shown
    found = json.loads(info(environment, "--json")[1])
    assert (found["path"], found["valid"]) == (str(tmp_path / "nowhere"), False)
    done = run({**environment, "PATH": str(tmp_path)}, "init")
    assert done.returncode == 1
    assert "voms-proxy-init: is not installed here" in done.stderr
