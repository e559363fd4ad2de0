"""Bearer tokens: found by WLCG's rule, read without a word of their own, and told what is wrong with them."""

from __future__ import annotations

import base64
import os
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid import token as module
from MLTools.NanoML.grid.token import access, check_access, find_token, read_token
from services.certificates import Certificates
from services.tokens import AUDIENCE, HOUR, ISSUER, Tokens


@pytest.fixture(autouse=True)
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a proxy or a token, whose /tmp is another directory."""
    for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE", "XDG_RUNTIME_DIR", "X509_USER_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("MLTools.NanoML.grid.proxy._temporary_place", lambda: tmp_path / "x509up")
    real = module._usual_places
    monkeypatch.setattr(module, "_usual_places", lambda: [*real()[:-1], tmp_path / real()[-1].name])
    return tmp_path


def test_it_is_found_where_the_xrootd_client_finds_it(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"bt_u{os.getuid()}"
    assert find_token() is None
    (nothing / name).touch()
    assert find_token() == nothing / name
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(nothing / "run"))
    assert find_token() == nothing / name
    (nothing / "run").mkdir()
    (nothing / "run" / name).touch()
    assert find_token() == nothing / "run" / name
    monkeypatch.setenv("BEARER_TOKEN_FILE", "/none")  # which need not exist
    assert find_token() == Path("/none")
    monkeypatch.setenv("BEARER_TOKEN", "x")
    assert find_token() == Path("BEARER_TOKEN")


def test_what_it_says(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tokens.token(hours=5)
    token = read_token(path)
    assert (token.issuer, token.audience, token.mode) == (ISSUER, (AUDIENCE,), 0o600)
    assert token.scopes == ("storage.read:/", "storage.modify:/user")
    assert timedelta(hours=4.9) < token.left() <= timedelta(hours=5)
    assert token.problems() == []
    assert read_token(tokens.token(aud=["a", "b"], scope=None)).audience == ("a", "b")
    nothing = b'{"iss": "x", "exp": 2e11, "nbf": null, "aud": null, "scope": null}'
    (odd := path.with_name("odd")).write_text(f"a.{base64.urlsafe_b64encode(nothing).decode()}.c")
    assert str(read_token(odd)) == f"bearer token {odd} (x, no scope, for any server)"
    monkeypatch.setenv("BEARER_TOKEN", path.read_text())
    assert read_token(Path("BEARER_TOKEN")).expires == token.expires


@pytest.mark.parametrize(
    ("claims", "mode", "what", "remedy"),
    [
        ({"hours": -2}, 0o600, "the bearer token expired 2 h ago", "htgettoken"),
        ({"nbf": time.time() + 2400 * HOUR}, 0o600, r"the bearer token becomes valid only in 99 d", "date"),
        ({}, 0o644, r"can be read by others \(permissions 0644\)", "chmod 600"),
    ],
)
def test_its_problems(claims: dict[str, float], mode: int, what: str, remedy: str, tokens: Tokens) -> None:
    path = tokens.token(**claims)
    path.chmod(mode)
    (problem,) = read_token(path).problems()
    assert re.search(what, problem.what)
    assert problem.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("claims", "said"), [({"exp": None}, "'exp'"), ({"iss": None}, "'iss'"), ({"exp": "x"}, "JSON")]
)
def test_what_is_no_token_is_an_error_without_its_content(claims: dict[str, object], said: str, tokens: Tokens) -> None:
    path = tokens.token(**claims)  # type: ignore[arg-type]
    with pytest.raises(NanoMLError, match=f"^{path}: the bearer token .*{said}.*htgettoken") as raised:
        read_token(path)
    assert not any(part in str(raised.value) for part in path.read_text().strip().split("."))
    assert raised.value.__context__ is None
    for text in ("", "secret", "a.b.c", '{"access_token": "secret"}', "secret.MQ.x", "ä"):
        path.write_text(text)
        with pytest.raises(NanoMLError, match="is not a JSON Web Token") as raised:
            read_token(path)
        assert "secret" not in str(raised.value)
    path.unlink()
    with pytest.raises(NanoMLError, match=f"^{path}: the bearer token cannot be read: no such file or directory. Make"):
        read_token(path)


def test_a_proxy_or_token_will_do(certificates: Certificates, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"^there is no grid proxy: .*nanoml proxy init\nthere is no bearer token: .*htget"
    with pytest.raises(NanoMLError, match=said):
        check_access()
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tokens.token(hours=-1)))
    with pytest.raises(NanoMLError, match=r"^\S+: the bearer token expired 1 h ago. Fix it: htgettoken.*$"):
        check_access()
    monkeypatch.setenv("X509_USER_PROXY", str(certificates.proxy(hours=2)))
    usable, (problem,) = access()
    assert [str(each) for each in usable] == [f"proxy {os.environ['X509_USER_PROXY']} (cms)"]
    assert "the bearer token expired" in problem
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tokens.token()))
    assert len(check_access()) == 2
    (only,) = check_access(timedelta(hours=10))  # for which the proxy is too short; the token is renewed
    about = f"({ISSUER}, storage.read:/ storage.modify:/user, for {AUDIENCE})"
    assert str(only) == f"bearer token {os.environ['BEARER_TOKEN_FILE']} {about}"
