"""An issuer of WLCG's bearer tokens: a key of its own, which a server trusts without asking the issuer, who is nowhere."""

from __future__ import annotations

import base64
import ctypes
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

ISSUER = "https://issuer.localhost/"
AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
HOUR = 3600


class Tokens:
    """Makes tokens, each in a new file of `directory` that only its owner may read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._count = itertools.count()

    def token(self, hours: float = 6, **claims: Any) -> Path:
        """Make a token that is valid for `hours`, or expired so long ago. `claims` replace those of its payload; None removes one."""
        now = int(time.time())
        usual = {"iss": ISSUER, "sub": "jane", "aud": AUDIENCE, "scope": "storage.read:/ storage.modify:/user"}
        usual |= {"wlcg.ver": "1.0", "iat": now - 24 * HOUR, "nbf": now - 24 * HOUR, "exp": now + round(hours * HOUR)}
        payload = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "ES256", "kid": "1"}, payload))
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        path = self.directory / f"{next(self._count)}.token"
        path.write_text(f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}\n")
        path.chmod(0o600)
        return path

    def trusted(self, cache: Path) -> None:
        """Put the public key into the cache directory of a server, where SciTokens looks for the keys of issuers."""
        numbers = self._key.public_key().public_numbers()
        x, y = (_encoded(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": x, "y": y}
        try:
            library = ctypes.CDLL("libSciTokens.so.0")
            configure = library.scitoken_config_set_str
        except (OSError, AttributeError):  # Debian 12 has 0.7, whose cache is not to be chosen
            pytest.skip("libSciTokens is not installed (Debian package xrootd-scitokens-plugins), or older than 1.0")
        keys, message = json.dumps({"keys": [key]}).encode(), ctypes.c_char_p()
        for call in (
            lambda: configure(b"keycache.cache_home", bytes(cache), ctypes.byref(message)),
            lambda: library.keycache_set_jwks(ISSUER.encode(), keys, ctypes.byref(message)),
        ):
            assert call() == 0, message.value
        for path in (cache, *cache.rglob("*")):  # the server is another user
            path.chmod(0o777)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
