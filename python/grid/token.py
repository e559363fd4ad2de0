"""The user's bearer token: where it is, what it says, and what is wrong with it; and which of proxy and token can be used.

Whoever has a token can use it. So only what it says is kept here, and never the token itself.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional, Union

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid import proxy
from MLTools.NanoML.grid.proxy import GridProblem, Proxy

VARIABLE, ITSELF = "BEARER_TOKEN_FILE", "BEARER_TOKEN"
"""The environment variables that name the file of the token, or have the token itself, for all grid tools."""

_LARGEST = 1 << 16  # bytes
_IT = "the bearer token"
_AGAIN = "htgettoken -a SERVER -i cms, or (umask 077; oidc-token NAME > FILE)"


@dataclass(frozen=True)
class Token:
    """A bearer token, as its payload describes it. Its signature is for servers to check."""

    path: Path  # its file, or the name of the variable, `ITSELF`
    issuer: str  # as in "https://cms-auth.cern.ch/"
    scopes: tuple[str, ...]  # as in "storage.read:/"
    audience: tuple[str, ...]  # the servers that it is for
    begins: datetime
    expires: datetime
    owner: int  # user id of the file
    mode: int  # permissions of the file

    def __str__(self) -> str:
        scopes, audience = " ".join(self.scopes) or "no scope", ", ".join(self.audience) or "any server"
        return f"bearer token {self.path} ({self.issuer}, {scopes}, for {audience})"

    def left(self) -> timedelta:
        """How long it can still be used; negative after that."""
        return self.expires - datetime.now(timezone.utc)

    def problems(self) -> list[GridProblem]:
        """Say what is wrong with a token that is to be used now."""
        found = proxy.problems_of_file(_IT, self.path, self.owner, self.mode, _AGAIN)
        now = datetime.now(timezone.utc)
        return [*found, *proxy.problems_of_time(_IT, self.begins, self.expires, timedelta(0), now, _AGAIN)]


def _usual_places() -> list[Path]:
    directories = filter(None, (os.environ.get("XDG_RUNTIME_DIR"), "/tmp"))
    return [Path(directory, f"bt_u{os.getuid()}") for directory in directories]


def find_token() -> Optional[Path]:
    """The file of the token, or `ITSELF`, by WLCG's rule, which the XRootD client follows, too; None if there is no token.

    Its content is not checked, and what BEARER_TOKEN_FILE names need not exist.
    """
    named = ITSELF if os.environ.get(ITSELF) else os.environ.get(VARIABLE)
    return Path(named) if named else next((path for path in _usual_places() if path.exists()), None)


def no_token() -> GridProblem:
    """The problem that there is no token."""
    places = " or ".join(map(str, _usual_places()))
    what = f"there is no bearer token: {ITSELF} and {VARIABLE} are not set, and there is no {places}"
    return GridProblem(what, _AGAIN)


def read_token(path: Path) -> Token:
    """Read the token that `find_token` found, even one that has expired or has other problems.

    Raises NanoMLError, without a word of its content, if it is not there, or is not a token.
    """
    text, owner, mode = os.environ.get(ITSELF, ""), os.getuid(), 0o600
    try:
        if str(path) != ITSELF:
            with open(path, encoding="ascii") as file:
                status, text = os.fstat(file.fileno()), file.read(_LARGEST)
            owner, mode = status.st_uid, stat.S_IMODE(status.st_mode)
        _, payload, _ = text.strip().split(".")
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        begins, expires = (datetime.fromtimestamp(at, timezone.utc) for at in (said.get("nbf") or 0, said["exp"]))
        issuer, scopes, audience = str(said["iss"]), str(said.get("scope") or ""), said.get("aud") or []
        audience = (audience,) if isinstance(audience, str) else tuple(map(str, audience))
        return Token(path, issuer, tuple(scopes.split()), audience, begins, expires, owner, mode)
    except OSError as problem:
        why = f"cannot be read: {(problem.strerror or str(problem)).lower()}"
    except KeyError as problem:
        why = f"does not say {problem}"
    except (ValueError, TypeError, AttributeError, OverflowError):
        why = "is not a JSON Web Token"
    raise NanoMLError(f"{path}: {_IT} {why}. Make a new one: {_AGAIN}")


def access(needed: timedelta = timedelta(0)) -> tuple[list[Union[Proxy, Token]], list[str]]:
    """Which of a proxy that is valid as long as `needed`, and a token that is valid now, can be used, and why the others cannot.

    A token need not be valid for long, as it is renewed.
    """
    usable: list[Union[Proxy, Token]] = []
    problems, path = [], find_token()
    try:
        if proxy.find_proxy() is not None:
            usable.append(proxy.check_proxy(needed))
    except NanoMLError as problem:
        problems.append(str(problem))
    try:
        if path is not None:
            token = read_token(path)
            wrong = [f"{path}: {problem}" for problem in token.problems()]
            problems, usable = problems + wrong, usable + [token] * (not wrong)
    except NanoMLError as problem:
        problems.append(str(problem))
    return usable, problems if usable or problems else [f"{proxy.no_proxy()}", f"{no_token()}"]


def check_access(needed: timedelta = timedelta(0)) -> list[Union[Proxy, Token]]:
    """The credentials that can be used, as `access` finds them; a NanoMLError with all problems if there is nothing."""
    usable, problems = access(needed)
    if not usable:
        raise NanoMLError("\n".join(problems))
    return usable
