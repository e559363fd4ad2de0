from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError
from MLTools.NanoML.grid.proxy import usual_place
from MLTools.NanoML.rootio.remote.client import VARIABLE, Read, adopt_settings, client, current_settings, use_settings
from MLTools.NanoML.rootio.remote.server import Url, is_xrootd
from MLTools.NanoML.rootio.rootfile import RootFile
from services.certificates import Certificates
from services.configurations import loaded
from services.daemons import run
from services.tokens import Tokens
from services.xrootd import GuardedServer, TokenServer, VomsServer

pytestmark = pytest.mark.exhaustive("servers, and what they ask for")

CODE = """
import sys
from MLTools.NanoML.errors import UnreadableError
from MLTools.NanoML.rootio.remote.client import Read, use_settings
from MLTools.NanoML.rootio.rootfile import RootFile
use_settings(Read(redirectors=[]))
try:
    with RootFile(sys.argv[1] + "/store/WZTo3LNu/WZTo3LNu_0.root") as file:
        print(file.entries)
except UnreadableError as problem:
    print(problem)
"""


def test_what_is_set_is_read_and_else_defaults(read_with: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in (Read(redirectors=["root://a/"], tries=7, timeout=5, copy=True, max_missing_files="1 %"), Read()):
        use_settings(settings)
        assert current_settings() == settings
    monkeypatch.delenv(VARIABLE)
    assert current_settings() == Read()
    assert current_settings().redirectors[0] == "root://cms-xrd-global.cern.ch/"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"tires": 3}', "3"])
def test_a_variable_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(NanoMLError, match=r"^NANOML_READING=.*: cannot be understood .* Unset it.$"):
        current_settings()


def test_the_settings_of_an_analysis_count_if_there_are_any(read_with: Callable[..., None]) -> None:
    read_with(tries=8)
    adopt_settings(Read())
    assert current_settings().tries == 8
    adopt_settings(Read(tries=5))
    assert current_settings() == Read(tries=5)


def test_the_section_of_a_configuration(tmp_path: Path) -> None:
    config = loaded(tmp_path, "read: {redirectors: root://a.b/, tries: 1, max_missing_files: 0.5 %}\n")
    assert config.read == Read(redirectors=["root://a.b/"], tries=1, max_missing_files="0.5 %")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_missing_files: 1.5", "read.max_missing_files: expected .*1.5"),
        ("max_missing_files: few", 'expected a number of files, or a percentage such as "1 %", got "few"'),
        ("max_missing_files: -1", "expected a whole number of at least 0, got -1"),
        *(("redirectors: [https://a/]", "expected a server such as root://"), ("timeout: 0", "at least 1")),
        ("tires: 3", 'unknown key. Did you mean "tries"?'),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, f"read: {{{text}}}\n")


@pytest.mark.parametrize(("variable", "timeout"), [({}, 7), ({"XRD_REQUESTTIMEOUT": "77"}, 77)])
def test_processes_inherit_settings_and_the_users_own_variables_of_xrootd_win(
    variable: dict[str, str], timeout: int, read_with: Callable[..., None]
) -> None:
    pytest.importorskip("XRootD")
    use_settings(Read(tries=9, timeout=7))
    code = (
        "from MLTools.NanoML.rootio.remote.client import client, current_settings;"
        "print(client().EnvGetInt('RequestTimeout'), current_settings().tries)"
    )
    environment = {**os.environ, **variable}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(timeout), "9"]


@pytest.mark.parametrize(("server", "said"), [("nanoml.invalid", "its address is not"), ("localhost:9", "Connect")])
def test_an_address_that_is_not_found_is_told_as_such(read_with: Callable[..., None], server: str, said: str) -> None:
    pytest.importorskip("XRootD")
    read_with(tries=1, redirectors=["root://localhost:9/"])
    with pytest.raises(UnreadableError, match=rf"a.root: .*{server}: {said}"):
        RootFile(f"root://{server}//a.root")


WARNS = """
import warnings
class Old:
    @property
    def __class__(self):
        warnings.warn("do not look", FutureWarning, stacklevel=2)
        return object
old = Old()
from MLTools.NanoML.rootio.remote.client import client
client()
"""


def test_the_end_of_the_client_says_nothing_of_other_packages() -> None:
    """It looks at all objects, of which some warn, as one of torch.distributed."""
    pytest.importorskip("XRootD")
    done = subprocess.run([sys.executable, "-c", WARNS], capture_output=True, check=True)
    assert done.stderr == b""


def told(server: GuardedServer, **environment: str) -> str:
    pytest.importorskip("XRootD")
    argv = [sys.executable, "-c", CODE, server.url]
    return run(argv, {**server.environment, "X509_USER_PROXY": "", **environment}).stdout.strip()


@pytest.mark.service
def test_a_valid_proxy_in_the_home_directory(
    xrootd_voms: VomsServer, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("X509_USER_PROXY", raising=False)
    usual_place().parent.mkdir()
    shutil.copy(certificates.proxy(), usual_place())
    usual_place().chmod(0o600)
    assert told(xrootd_voms) == "800"


@pytest.mark.parametrize(("hours", "vo", "said"), [(-1, "cms", "expired"), (12, None, "is for no VO, but cms is")])
@pytest.mark.service
def test_a_proxy_that_is_refused_is_named(
    xrootd_voms: VomsServer, certificates: Certificates, hours: float, vo: str | None, said: str
) -> None:
    proxy = certificates.proxy(hours, vo)
    message = told(xrootd_voms, X509_USER_PROXY=str(proxy))
    assert "read error after 1 try at 1 source (127.0.0.1:" in message
    assert "Auth failed" in message
    assert f"{proxy}: " in message
    assert said in message.partition(str(proxy))[2]
    assert "nanoml proxy init" in message


@pytest.mark.service
def test_no_proxy(xrootd_voms: VomsServer, tmp_path: Path) -> None:
    message = told(xrootd_voms, X509_USER_PROXY=str(tmp_path / "none"), HOME=str(tmp_path))
    assert "Auth failed" in message
    assert str(tmp_path / "none") in message
    assert "nanoml proxy init" in message


@pytest.mark.service
def test_a_valid_token(xrootd_tokens: TokenServer, tokens: Tokens, tmp_path: Path) -> None:
    tokens.token().rename(tmp_path / f"bt_u{os.getuid()}")
    none = str(tmp_path / "none")  # a proxy that is not there is no hindrance
    assert told(xrootd_tokens, XDG_RUNTIME_DIR=str(tmp_path), X509_USER_PROXY=none) == "800"


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"hours": -1}, "Auth failed.*: the bearer token expired 1 h ago. Fix it: htgettoken"),
        ({"scope": "storage.read:/other"}, r"permission denied.*storage.read:/other, .* is valid; is the path right"),
    ],
)
@pytest.mark.service
def test_a_token_that_is_refused_is_named(
    xrootd_tokens: TokenServer, tokens: Tokens, tmp_path: Path, claims: dict[str, object], said: str
) -> None:
    path = tokens.token(**claims)  # type: ignore[arg-type]
    message = told(xrootd_tokens, BEARER_TOKEN_FILE=str(path), HOME=str(tmp_path))
    assert re.search(f"read error after 1 try at 1 source .*{said}", message), message
    assert str(path) in message
    assert path.read_text().split(".")[1] not in message


@pytest.mark.service
def test_neither_token_nor_authorities(xrootd_tokens: TokenServer, tokens: Tokens, tmp_path: Path) -> None:
    message = told(xrootd_tokens, HOME=str(tmp_path))
    assert "nanoml proxy init" in message
    assert "there is no bearer token: BEARER_TOKEN and BEARER_TOKEN_FILE are not set" in message
    given = {"BEARER_TOKEN_FILE": str(tokens.token()), "X509_CERT_DIR": str(tmp_path)}
    assert "X509_CERT_DIR must name the directory" in told(xrootd_tokens, **given)


def test_a_fork_does_not_wait_for_answers(read_with: Callable[..., None]) -> None:
    pytest.importorskip("XRootD", reason="needs the Python client of XRootD")
    assert client().EnvGetInt("RunForkHandler") == 0


def test_a_url_is_taken_apart_and_put_together_as_it_was() -> None:
    plain = ("root://server//", "root://cms-xrd-global.cern.ch//store/a.root", "roots://eos.cern.ch:1095//eos/a.root")
    for text in (*plain, "xroot://[2001:db8::1]:1094//store/a.root?authz=x&tried=y"):
        assert str(Url.parse(text)) == text
        assert is_xrootd(text)
    url = Url.parse("root://a.cern.ch:1094//store/x/b.root?k=v")
    assert (url.scheme, url.host, url.path, url.query) == ("root", "a.cern.ch:1094", "/store/x/b.root", "k=v")
    assert (url.server, url.site) == ("root://a.cern.ch:1094", "a.cern.ch")
    assert str(url.beside("c")) == "root://a.cern.ch:1094//store/x/c?k=v"
    assert str(url.at("/d").asking("tried=e")) == "root://a.cern.ch:1094//d?k=v&tried=e"
    for text in ("root://server", "root://server/", "root://server/store"):  # one slash is as good as two
        assert str(Url.parse(text)).startswith("root://server//")


@pytest.mark.parametrize("text", ["/store/a.root", "https://server/a.root", "root:/a", "root://", "file:///a", ""])
def test_others_are_refused(text: str) -> None:
    assert not is_xrootd(text)
    with pytest.raises(NanoMLError, match=r"is not a URL of the form root://SERVER//PATH."):
        Url.parse(text)


def test_logical_names() -> None:
    for before in ("", "/eos/cms", "/store/test/xrootd/T2_CH_CERN"):
        assert Url("root", "server", f"{before}/store/mc/a.root").logical_name == "/store/mc/a.root"
    assert Url("root", "server", "/eos/user/s/a.root").logical_name is None


def test_a_mapped_address_is_the_same_site() -> None:
    assert Url("root", "[::127.0.0.1]:2345", "").site == "127.0.0.1:2345"
    assert Url("root", "[::ffff:10.0.0.1]:1094", "").site == "10.0.0.1"
    assert Url("root", "[2001:db8::1]:2345", "").site == "[2001:db8::1]:2345"
