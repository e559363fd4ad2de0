"""The two sources of CMS's catalogue of datasets: the program dasgoclient where it is installed, or the web service DBS."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlencode

from data_processing.datasets.files import GLOBAL, FileInfo, check_name
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid import proxy

VARIABLE = "NANOML_DBS"
"""The environment variable that names another server, as in http://127.0.0.1:8080/dbs."""

SERVER = "https://cmsweb.cern.ch:8443/dbs"
TIMEOUT = 60.0
"""Seconds that the server may be silent."""

PATIENCE = 600.0
"""Seconds that an answer may take."""

_ADLER = re.compile("[0-9a-fA-F]{1,8}")
_LFN = re.compile(r"/store/[A-Za-z0-9._/=+:,-]+")
_AUTHORITIES = "/etc/grid-security/certificates"
_LARGEST = 1 << 30  # bytes of an answer
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_NO_PROXY = 15  # exit code of dasgoclient
_NOT_ANSWERED = ["das:NA"]


class RefusedError(Exception):
    """The catalogue refuses the question: it is wrong, or one may not ask it."""


class NoAnswerError(Exception):
    """There is no answer now; `may_pass` says whether there may be one a moment later."""

    def __init__(self, text: str, may_pass: bool = True) -> None:
        super().__init__(text)
        self.may_pass = may_pass


@dataclass(frozen=True)
class CatalogueEntry:
    """A dataset, /PRIMARY/PROCESSED/TIER, and its status: VALID, PRODUCTION, INVALID, DEPRECATED or DELETED."""

    name: str
    status: str


@dataclass(frozen=True)
class DatasetReplica:
    """The part of a dataset at a site, such as T2_DE_DESY: on "DISK" or "TAPE", and how much of it [%]."""

    name: str
    kind: str
    share: float

    @property
    def has_all(self) -> bool:
        """Whether all of the dataset can be read there at once."""
        return self.kind == "DISK" and self.share >= 100


def source() -> Union[DasGoClient, Dbs]:
    """The server that NANOML_DBS names, or dasgoclient if it is installed, or DBS; their methods raise RefusedError or NoAnswerError."""
    named, program = os.environ.get(VARIABLE), shutil.which(DasGoClient.name)
    return DasGoClient(program) if program and not named else Dbs(named or SERVER)


class DasGoClient:
    """Asks by running dasgoclient.

    Its exit code is 0 also when the services behind it are down; then it repeats the question as a name. So an answer
    counts only if it has what such an answer must have.
    """

    name = "dasgoclient"

    def __init__(self, program: str) -> None:
        self._program = program

    def datasets(self, name: str, instance: str) -> list[CatalogueEntry]:
        """The datasets of a name or pattern, whatever their status."""
        rows = self._rows("dataset", f"dataset dataset={check_name(name)} status=*", instance)
        # the others are summaries of files
        entries = [(row.get("name"), row["dataset_access_type"]) for row in rows if "dataset_access_type" in row]
        if not entries and any(row.get("nfiles") for row in rows):
            raise NoAnswerError("the answer has no status of the dataset")
        return _entries(entries)

    def files(self, name: str, instance: str) -> list[FileInfo]:
        """All files of a dataset, also those that are not valid."""
        keys = ("name", "nevents", "size", "adler32", "is_file_valid", "block_name")
        rows = self._rows("file", f"file dataset={check_name(name)} status=*", instance)
        found = [file_of(*map(row.get, keys)) for row in rows]
        # a list that was cut off looks like a whole one: compare it with the summary
        rows = self._rows("dataset", f"dataset dataset={name} status=*", instance)
        expected = next((_count(row["nfiles"]) for row in rows if "nfiles" in row), None)
        # depending on its version, the service counts files that are not valid, or does not; if the dataset itself is
        # not valid, it counts none
        if expected and expected not in (len(found), sum(file.valid for file in found)):
            raise NoAnswerError(f"the answer has {len(found)} files, but there are {expected}")
        return found

    def sites(self, name: str, instance: str) -> Optional[list[DatasetReplica]]:
        """Where a dataset is; None if that is not known."""
        rows = self._rows("site", f"site dataset={check_name(name)}", instance)
        found = [DatasetReplica(row["name"], str(row.get("kind", "")), _share(row)) for row in rows if row.get("name")]
        return sorted(found, key=lambda each: str(each.name))

    def _rows(self, key: str, question: str, instance: str) -> list[dict[str, Any]]:
        query = question if instance == GLOBAL else f"{question} instance={instance}"
        path = proxy.find_proxy()
        try:
            done = subprocess.run(
                [self._program, "-query", query, "-json"],
                env={**os.environ, **({proxy.VARIABLE: str(path)} if path else {})},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                stdin=subprocess.DEVNULL,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"dasgoclient did not end in {PATIENCE:.0f} s") from None
        except OSError as problem:
            raise NoAnswerError(f"dasgoclient cannot be run ({problem.strerror})", may_pass=False) from None
        if done.returncode == _NO_PROXY:
            try:
                proxy.check_proxy()
            except NanoMLError as problem:
                raise NoAnswerError(str(problem), may_pass=False) from None
            raise NoAnswerError("dasgoclient finds no proxy", may_pass=False)
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        failure = NoAnswerError(
            f"dasgoclient ended with exit code {done.returncode} ({said[-1] if said else 'without a message'})"
        )
        start = done.stdout.find("[")
        if start < 0:
            raise failure
        try:
            records, _ = json.JSONDecoder().raw_decode(done.stdout, start)  # a message may follow
        except ValueError:
            raise NoAnswerError("the answer of dasgoclient ends early") from None
        rows = list(_rows_of(records, key))
        if done.returncode:
            raise failure
        return rows


def _rows_of(records: Any, key: str) -> Iterator[dict[str, object]]:
    """The rows in records; an error if one says that a service did not answer, or did not understand."""
    for record in records:
        if "error" in record:
            raise RefusedError(str(record["error"]))
        for row in record.get(key) or ():
            if row.get("das", {}).get("services") == _NOT_ANSWERED:
                raise NoAnswerError("a service behind DAS does not answer")
            if "error" in row:
                http = row.get("http")
                code = http.get("code") if isinstance(http, dict) else row.get("exception")
                if isinstance(code, int) and 400 <= code < 500:
                    raise RefusedError(f"{_message(row)} (HTTP {code})")
                raise NoAnswerError(f"a service behind DAS failed: {_message(row)}")
            yield row


def _share(row: Mapping[str, object]) -> float:
    """How much of the dataset a site has [%]: the share of blocks with a replica, times that of the files in these."""
    try:
        blocks, files = (float(str(row.get(key)).strip(" %")) for key in ("block_fraction", "replica_fraction"))
    except ValueError:
        return 0.0
    return blocks * files / 100


class Dbs:
    """Asks the DBS reader with the grid proxy, by the address of its server up to the instance."""

    name = "DBS"

    def __init__(self, server: str) -> None:
        self._server = server.rstrip("/")

    def datasets(self, name: str, instance: str) -> list[CatalogueEntry]:
        """The datasets of a name or pattern, whatever their status."""
        asked = {"dataset": check_name(name), "dataset_access_type": "*", "detail": "True"}
        rows = self._rows(instance, "datasets", asked)
        return _entries([(row.get("dataset"), row.get("dataset_access_type")) for row in rows])

    def files(self, name: str, instance: str) -> list[FileInfo]:
        """All files of a dataset, also those that are not valid."""
        keys = ("logical_file_name", "event_count", "file_size", "adler32", "is_file_valid", "block_name")
        asked = {"dataset": check_name(name), "detail": "True", "validFileOnly": "0"}
        found = [file_of(*map(row.get, keys)) for row in self._rows(instance, "files", asked)]
        # a list that was cut off looks like a whole one: compare it with the summary
        valid = sum(file.valid for file in found)
        for row in self._rows(instance, "filesummaries", {"dataset": name, "validFileOnly": "1"}):
            expected = _count(row.get("num_file"))
            # if the dataset itself is not valid, it counts none
            if expected and expected != valid:
                raise NoAnswerError(f"the answer has {valid} valid files, but there are {expected}")
        return found

    def sites(self, name: str, instance: str) -> None:
        """Where a dataset is: DBS does not know it."""

    def _rows(self, instance: str, what: str, asked: Mapping[str, str]) -> list[dict[str, object]]:
        url = f"{self._server}/{instance}/DBSReader/{what}?{urlencode(asked)}"
        request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "nanoml"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT, context=self._context()) as response:
                rows = json.loads(_read(response))
        except urllib.error.HTTPError as problem:
            raise _refusal(problem) from None
        except (OSError, http.client.HTTPException) as problem:
            cause = problem.reason if isinstance(problem, urllib.error.URLError) else problem
            raise self._unreachable(cause) from None
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
            path = str(proxy.check_proxy().path)
        except NanoMLError as problem:
            raise NoAnswerError(str(problem), may_pass=False) from None
        context = ssl.create_default_context()
        # certificates of grid authorities lack fields that newer versions of Python insist on
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if _authorities().is_dir():
            context.load_verify_locations(capath=str(_authorities()))
        try:
            context.load_cert_chain(path)
        except (OSError, ssl.SSLError) as problem:
            raise NoAnswerError(f"{path}: the proxy cannot be used ({problem})", may_pass=False) from None
        return context

    def _unreachable(self, reason: object) -> NoAnswerError:
        host = self._server.partition("://")[2].partition("/")[0]
        if isinstance(reason, ssl.SSLCertVerificationError):
            return NoAnswerError(
                f"{host}: cannot be trusted ({reason.verify_message}): X509_CERT_DIR must name the directory of the "
                f"authorities' certificates; now it is {_authorities()}",
                may_pass=False,
            )
        text = str(reason) or type(reason).__name__
        return NoAnswerError(f"{host}: cannot be reached ({text})", may_pass=not isinstance(reason, ssl.SSLError))


def _authorities() -> Path:
    return Path(os.environ.get("X509_CERT_DIR") or _AUTHORITIES)


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
        text = _message(json.loads(problem.read(1 << 16))[0])
    except (ValueError, LookupError, TypeError, AttributeError, OSError, http.client.HTTPException):
        text = problem.reason
    if problem.code in _TRANSIENT:
        return NoAnswerError(f"DBS failed: {text} (HTTP {problem.code})")
    return RefusedError(f"{text} (HTTP {problem.code})")


def _message(row: Mapping[str, object]) -> str:
    error = row.get("error")
    known = (error.get("message") or error.get("reason")) if isinstance(error, dict) else error
    return " ".join(str(known or row.get("message") or "it does not say why").split())


def _entries(rows: list[tuple[Any, Any]]) -> list[CatalogueEntry]:
    if not all(isinstance(value, str) for row in rows for value in row):
        raise NoAnswerError("the answer has a dataset without a name or status")
    return sorted({CatalogueEntry(*row) for row in rows}, key=lambda entry: entry.name)


def file_of(name: object, events: object, size: object, adler32: object, valid: object, block: object) -> FileInfo:
    """A file of the catalogue; NoAnswerError if what was sent is not one."""
    if not (isinstance(name, str) and _LFN.fullmatch(name)):
        raise NoAnswerError(f"the answer has a file without a proper name ({name!r})")
    checksum = adler32 if isinstance(adler32, str) and _ADLER.fullmatch(adler32) else None
    return FileInfo(
        name,
        _count(events),
        _count(size),
        checksum and checksum.lower().zfill(8),
        valid not in (0, False),
        block if isinstance(block, str) else "",
    )


def _count(value: object) -> Optional[int]:
    """A whole number; some versions of dasgoclient write 1200000 as 1.2e+06."""
    return int(value) if isinstance(value, (int, float)) and value >= 0 and value == int(value) else None
