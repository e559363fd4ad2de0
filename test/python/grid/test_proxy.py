"""Proxies as voms-proxy-fake makes them, compared with what voms-proxy-info says of them."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid import proxy as places
from MLTools.NanoML.grid.proxy import VARIABLE, Proxy, check_proxy, duration, find_proxy, read_proxy, use_proxy
from services.certificates import Certificates

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without a proxy, and no other proxy either."""
    path = tmp_path / "home"
    (path / ".globus").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(places, "_temporary_place", lambda: tmp_path / "tmp" / f"x509up_u{os.getuid()}")
    (tmp_path / "tmp").mkdir()
    return path


def info(path: Path, certificates: Certificates, *options: str) -> list[str]:
    """What voms-proxy-info says."""
    if shutil.which("voms-proxy-info") is None:
        pytest.skip("needs voms-proxy-info")
    line, environ = ["voms-proxy-info", "-file", str(path), *options], {**os.environ, **certificates.environment}
    return subprocess.run(line, env=environ, capture_output=True, text=True, check=False).stdout.splitlines()


def whats(proxy: Proxy, needed: timedelta = timedelta(0), vo: str = "cms") -> str:
    return "\n".join(problem.what for problem in proxy.problems(needed, vo))


@pytest.mark.parametrize(("hours", "vo", "vo_hours"), [(100, "cms", 3), (2, "cms", 30), (5, None, None)])
def test_as_voms_proxy_info(hours: float, vo: str | None, vo_hours: float | None, certificates: Certificates) -> None:
    path = certificates.proxy(hours, vo, vo_hours)
    found = read_proxy(path)
    assert info(path, certificates, "-identity") == [found.subject] == [certificates.subject]
    (seconds,) = info(path, certificates, "-timeleft")
    assert abs(int(seconds) - (found.expires - datetime.now(timezone.utc)).total_seconds()) < 5
    assert info(path, certificates, "-vo") == ([vo] if vo else [])
    assert found.vo == vo
    assert info(path, certificates, "-fqan") == list(found.fqans)
    assert len(found.fqans) == bool(vo)
    if vo:
        assert found.vo_expires is not None
        (seconds,) = info(path, certificates, "-actimeleft")
        assert abs(int(seconds) - (found.vo_expires - datetime.now(timezone.utc)).total_seconds()) < 5
    else:
        assert found.vo_expires is None


def test_what_can_be_wrong_with_the_time(certificates: Certificates) -> None:
    short = read_proxy(certificates.proxy())
    assert short.problems() == short.problems(11 * HOUR) == []
    assert short.begins < datetime.now(timezone.utc)
    assert 11 * HOUR < short.left() < 12 * HOUR
    assert re.fullmatch(r"the proxy is valid for 11 h 5\d min more, but 2 d are needed", whats(short, 48 * HOUR))
    (problem,) = short.problems(300 * HOUR)
    assert problem.remedy == "nanoml proxy init --hours 300"
    past = read_proxy(certificates.proxy(hours=-2))
    assert re.fullmatch("the proxy expired (2 h|1 h 5[0-9] min) ago", whats(past))
    early = read_proxy(certificates.proxy(20, vo_hours=3))
    assert whats(early) == ""
    assert "its membership in cms is valid for 2 h 59 min more, but 10 h are needed" in whats(early, 10 * HOUR)
    (problem,) = early.problems(now=datetime.now(timezone.utc) + 4 * HOUR)
    assert re.fullmatch(r"its membership in cms expired (1 h|59 min) ago", problem.what)
    assert problem.remedy == "nanoml proxy init"
    (problem,) = early.problems(now=datetime.now(timezone.utc) - 48 * HOUR)
    assert "; the clock of this machine may be wrong. Fix it: date" in str(problem)
    assert re.fullmatch("its membership in cms expired .* ago", whats(read_proxy(certificates.proxy(vo_hours=-1))))


def test_what_else_can_be_wrong(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(certificates.proxy(), tmp_path / "the proxy"))
    path.chmod(0o640)
    (problem,) = read_proxy(path).problems()
    assert problem.what == "the proxy can be read by others (permissions 0640)"
    assert problem.remedy == f"chmod 600 '{path}'"
    path.chmod(0o400)
    assert whats(read_proxy(path)) == ""
    other = read_proxy(certificates.proxy(vo="atlas"))
    assert whats(other) == "the proxy is for the VO atlas, not for cms"
    assert whats(other, vo="atlas") == ""
    none = read_proxy(certificates.proxy(vo=None))
    assert whats(none) == "the proxy is for no VO, but cms is needed"
    assert none.problems(vo="dune")[0].remedy == "nanoml proxy init --vo dune"
    certificate = Path(shutil.copy(certificates.directory / "user.pem", tmp_path / "user.pem"))
    certificate.chmod(0o600)
    assert whats(read_proxy(certificate)) == "this is a certificate, not a proxy"
    keyless = tmp_path / "keyless"
    keyless.write_text(re.sub(r"-----BEGIN [A-Z ]*KEY-----.*?KEY-----\n", "", path.read_text(), flags=re.S))
    keyless.chmod(0o600)
    assert whats(read_proxy(keyless)) == "the proxy has no private key, so it cannot be used"
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert "the proxy belongs to " in whats(read_proxy(path))
    assert whats(read_proxy(path)).endswith(", not to you")


def test_a_proxy_of_a_proxy_is_still_of_its_vo(certificates: Certificates, tmp_path: Path) -> None:
    first, second = certificates.proxy(), tmp_path / "second"
    words = ["-cert", first, "-key", first, "-certdir", "certificates", "-rfc", "-quiet", "-hours", "1"]
    command = ["voms-proxy-fake", *words, "-out", str(second)]
    done = subprocess.run(command, cwd=certificates.directory, capture_output=True, text=True, check=False)
    if "Unable to create proxy" in done.stdout + done.stderr:
        pytest.skip("this voms-proxy-fake makes no proxy of a proxy")  # that of Debian 12, for instance
    assert done.returncode == 0, done.stderr
    found = read_proxy(second)
    assert found.subject == certificates.subject
    assert found.vo == "cms"
    assert found.left() < HOUR


def test_where_it_is(certificates: Certificates, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"x509up_u{os.getuid()}"
    assert find_proxy() is None
    assert use_proxy() is None
    with pytest.raises(NanoMLError) as raised:
        check_proxy()
    assert str(raised.value) == (
        f"there is no grid proxy: X509_USER_PROXY is not set, and there is no {home}/.globus/{name} or "
        f"{home.parent}/tmp/{name}. Fix it: nanoml proxy init"
    )

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    with monkeypatch.context() as job:  # of a user that the machine does not know
        job.delenv("HOME")
        job.setattr(pwd, "getpwuid", unknown)
        assert find_proxy() is None
    temporary = Path(shutil.copy(certificates.proxy(), home.parent / "tmp" / name))
    assert find_proxy() == temporary
    at_home = Path(shutil.copy(certificates.proxy(20), home / ".globus" / name))
    at_home.chmod(0o600)
    assert find_proxy() == at_home == check_proxy().path
    shutil.copy(certificates.proxy(100), temporary)
    assert find_proxy() == temporary  # that at home would expire earlier
    temporary.write_text("")
    assert find_proxy() == at_home
    assert use_proxy() == at_home
    assert os.environ[VARIABLE] == str(at_home)
    monkeypatch.setenv(VARIABLE, str(home / "named"))
    assert find_proxy() == home / "named"
    with pytest.raises(NanoMLError, match=r"home/named: the proxy cannot be read: no such file or directory."):
        check_proxy()


def test_all_that_is_wrong_is_one_error(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificates.proxy(vo=None)
    path.chmod(0o644)
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(NanoMLError) as raised:
        check_proxy(100 * HOUR)
    lines = str(raised.value).splitlines()
    assert [line.startswith(f"{path}: the proxy ") for line in lines] == [True] * 3
    assert lines[0].endswith(f"can be read by others (permissions 0644). Fix it: chmod 600 {path}")
    assert ("4 d 4 h are needed" in lines[1], "is for no VO" in lines[2]) == (True, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((b"", "is not a proxy: there is no certificate in it"), (b"\x00\xff" * 100, "is not a proxy")),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the proxy is damaged"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "the proxy is damaged [(]a certificate does not end[)]"),
    ],
)
def test_what_is_no_proxy(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "proxy").write_bytes(content)
    with pytest.raises(NanoMLError, match=message):
        read_proxy(tmp_path / "proxy")
    with pytest.raises(NanoMLError, match="cannot be read: is a directory"):
        read_proxy(tmp_path)


@pytest.fixture(scope="module")
def content(certificates: Certificates) -> bytes:
    return certificates.proxy().read_bytes()


def check_damaged(data: bytes, path: Path, content: bytes) -> None:
    """One message or a proxy, and never a part of the private key."""
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        found = read_proxy(path)
        text = repr(found) + repr(found.problems()) + repr(found.left())
    except NanoMLError as problem:
        text = str(problem)
        assert str(path) in text
    (key,) = re.findall(rb"PRIVATE KEY-----\n([^-]+)", content)
    assert not any(line in text for line in key.decode().split())


INSTEAD = st.binary(max_size=80) | st.sampled_from([b"A", b"\n", b"/" * 40])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.floats(0, 1, exclude_max=True), length=st.integers(0, 80), instead=INSTEAD)
def test_damaged_files(content: bytes, tmp_path: Path, start: float, length: int, instead: bytes) -> None:
    at = int(start * len(content))
    check_damaged(content[:at] + instead + content[at + length :], tmp_path / "proxy", content)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.floats(0, 1, exclude_max=True), instead=st.binary(min_size=1, max_size=6), cut=st.booleans())
def test_damaged_certificates(content: bytes, tmp_path: Path, start: float, instead: bytes, cut: bool) -> None:
    """Damage that base64 does not show: bytes of the certificate itself."""
    from base64 import b64decode, encodebytes

    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    first, rest = content[len(begin) :].split(end, 1)
    der = bytearray(b64decode(first))
    at = int(start * len(der))
    der[at : at + len(instead)] = b"" if cut else instead
    check_damaged(begin + encodebytes(bytes(der)) + end + rest, tmp_path / "proxy", content)


def test_times_in_words() -> None:
    times = {0: "0 s", 59: "59 s", 61: "1 min", 3600: "1 h", 4000: "1 h 6 min", 691199: "7 d 23 h"}
    assert {seconds: duration(timedelta(seconds=seconds)) for seconds in times} == times
