"""The catalogue by its own web service: the DBS reader, asked with the grid proxy."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlencode

from data_processing.catalogue.answers import (
    CatalogueEntry,
    DatasetReplica,
    NoAnswerError,
    RefusedError,
    count,
    file_of,
)
from data_processing.datasets.files import FileInfo, check_name
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.proxy import check_proxy

VARIABLE = "NANOML_DBS"
"""The environment variable that names another server, as in http://127.0.0.1:8080/dbs."""

SERVER = "https://cmsweb.cern.ch:8443/dbs"
TIMEOUT = 60.0
"""Seconds that the server may be silent."""

PATIENCE = 600.0
"""Seconds that an answer may take."""

_FILE = ("logical_file_name", "event_count", "file_size", "adler32", "block_name", "is_file_valid")
_AUTHORITIES = "/etc/grid-security/certificates"
_LARGEST = 1 << 30  # bytes
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class Dbs:
    """Asks the DBS reader, by the address of its server up to the instance."""

    name = "DBS"

    def __init__(self, server: str) -> None:
        self._server = server.rstrip("/")

    def datasets(self, name: str, instance: str) -> list[CatalogueEntry]:
        """The datasets of a name or pattern, whatever their status."""
        asked = {"dataset": check_name(name), "dataset_access_type": "*", "detail": "True"}
        found = set()
        for row in self._rows(instance, "datasets", asked):
            if not (isinstance(row.get("dataset"), str) and isinstance(row.get("dataset_access_type"), str)):
                raise NoAnswerError("the answer has a dataset without a name or status")
            found.add(CatalogueEntry(row["dataset"], row["dataset_access_type"]))
        return sorted(found, key=lambda entry: entry.name)

    def files(self, name: str, instance: str) -> list[FileInfo]:
        """All files of a dataset, also those that are not valid."""
        asked = {"dataset": check_name(name), "detail": "True", "validFileOnly": "0"}
        found = [file_of(*map(row.get, _FILE)) for row in self._rows(instance, "files", asked)]
        self._check_number(found, name, instance)
        return found

    def _check_number(self, found: list[FileInfo], name: str, instance: str) -> None:
        """A list that was cut off looks like a whole one: compare it with the summary."""
        valid = sum(file.valid for file in found)
        for row in self._rows(instance, "filesummaries", {"dataset": name, "validFileOnly": "1"}):
            expected = count(row.get("num_file"))
            # if the dataset itself is not valid, it counts none
            if expected and expected != valid:
                raise NoAnswerError(f"the answer has {valid} valid files, but there are {expected}")

    def sites(self, name: str, instance: str) -> Optional[list[DatasetReplica]]:
        """None: DBS does not know where a dataset is."""
        return None

    def _rows(self, instance: str, what: str, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        url = f"{self._server}/{instance}/DBSReader/{what}?{urlencode(asked)}"
        request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "nanoml"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT, context=self._context()) as response:
                data = _read(response)
            rows = json.loads(data)
        except urllib.error.HTTPError as problem:
            raise _refusal(problem) from None
        except urllib.error.URLError as problem:
            raise _unreachable(self._server, problem.reason) from None
        except (OSError, http.client.HTTPException) as problem:
            raise _unreachable(self._server, problem) from None
        except ValueError:
            raise NoAnswerError("the answer of DBS ends early, or is not JSON") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise NoAnswerError("the answer of DBS is not a list")
        failed = next((row for row in rows if "error" in row), None)
        if failed is not None:  # DBS began to answer before it failed
            raise NoAnswerError(f"DBS failed: {_message(failed)}")
        return rows

    def _context(self) -> Optional[ssl.SSLContext]:
        if not self._server.startswith("https:"):
            return None
        try:
            proxy = str(check_proxy().path)
        except NanoMLError as problem:
            raise NoAnswerError(str(problem), may_pass=False) from None
        context = ssl.create_default_context()
        # certificates of grid authorities lack fields that newer versions of Python insist on
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        authorities = Path(os.environ.get("X509_CERT_DIR") or _AUTHORITIES)
        if authorities.is_dir():
            context.load_verify_locations(capath=str(authorities))
        try:
            context.load_cert_chain(proxy)
        except (OSError, ssl.SSLError) as problem:
            raise NoAnswerError(f"{proxy}: the proxy cannot be used ({problem})", may_pass=False) from None
        return context


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole answer, in bounded time."""
    end, pieces, size = time.monotonic() + PATIENCE, [], 0
    while piece := response.read1(1 << 20):
        pieces.append(piece)
        size += len(piece)
        if time.monotonic() > end or size > _LARGEST:
            raise NoAnswerError("the answer of DBS does not end")
    expected = response.headers.get("Content-Length")
    if expected is not None and int(expected) != size:
        raise NoAnswerError(f"the answer of DBS ends after {size} of {expected} bytes")
    return b"".join(pieces)


def _refusal(problem: urllib.error.HTTPError) -> Exception:
    if problem.code in (401, 403):
        return NoAnswerError(
            f"DBS does not accept the proxy (HTTP {problem.code}): nanoml proxy info shows whether it is valid, and "
            "its VO",
            may_pass=False,
        )
    try:
        found = json.loads(problem.read(1 << 16))
        text = _message(found[0])
    except (ValueError, LookupError, TypeError, OSError, http.client.HTTPException):
        text = problem.reason
    if problem.code in _TRANSIENT:
        return NoAnswerError(f"DBS failed: {text} (HTTP {problem.code})")
    return RefusedError(f"{text} (HTTP {problem.code})")


def _message(row: Mapping[str, Any]) -> str:
    error = row.get("error")
    known = (error.get("message") or error.get("reason")) if isinstance(error, dict) else error
    return " ".join(str(known or row.get("message") or "it does not say why").split())


def _unreachable(server: str, reason: object) -> NoAnswerError:
    host = server.partition("://")[2].partition("/")[0]
    if isinstance(reason, ssl.SSLCertVerificationError):
        return NoAnswerError(
            f"{host}: cannot be trusted ({reason.verify_message}): X509_CERT_DIR must name the directory of the "
            f"authorities' certificates; now it is {os.environ.get('X509_CERT_DIR') or _AUTHORITIES}",
            may_pass=False,
        )
    text = str(reason) or type(reason).__name__
    return NoAnswerError(f"{host}: cannot be reached ({text})", may_pass=not isinstance(reason, ssl.SSLError))
