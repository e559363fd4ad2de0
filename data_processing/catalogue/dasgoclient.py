"""The catalogue, asked by the program dasgoclient where that is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, Optional

from data_processing.catalogue.answers import (
    CatalogueEntry,
    DatasetReplica,
    NoAnswerError,
    RefusedError,
    count,
    file_of,
)
from data_processing.datasets.files import GLOBAL, FileInfo, check_name
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.proxy import VARIABLE, check_proxy, find_proxy

PATIENCE = 600.0
"""Seconds that it may take."""

_FILE = ("name", "nevents", "size", "adler32", "block_name", "is_file_valid")
_NO_PROXY = 15  # its exit code
_NOT_ANSWERED = ["das:NA"]


class DasGoClient:
    """Asks by running dasgoclient.

    Its exit code is 0 also when the services behind it are down; then it repeats the question as a name. So an answer
    counts only if it has what such an answer must have.
    """

    name = "dasgoclient"

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def here(cls) -> Optional[DasGoClient]:
        """The installed program, if there is one."""
        program = shutil.which(cls.name)
        return cls(program) if program else None

    def datasets(self, name: str, instance: str) -> list[CatalogueEntry]:
        """The datasets of a name or pattern, whatever their status."""
        rows = self._rows("dataset", f"dataset dataset={check_name(name)} status=*", instance)
        # the others are summaries of files
        entries = [row for row in rows if "dataset_access_type" in row]
        if not entries and any(row.get("nfiles") for row in rows):
            raise NoAnswerError("the answer has no status of the dataset")
        return sorted({_entry(row) for row in entries}, key=lambda entry: entry.name)

    def files(self, name: str, instance: str) -> list[FileInfo]:
        """All files of a dataset, also those that are not valid."""
        rows = self._rows("file", f"file dataset={check_name(name)} status=*", instance)
        found = [file_of(*map(row.get, _FILE)) for row in rows]
        self._check_number(found, name, instance)
        return found

    def _check_number(self, found: list[FileInfo], name: str, instance: str) -> None:
        """A list that was cut off looks like a whole one: compare it with the summary."""
        rows = self._rows("dataset", f"dataset dataset={name} status=*", instance)
        expected = next((count(row["nfiles"]) for row in rows if "nfiles" in row), None)
        # depending on its version, the service counts files that are not valid, or does not; if the dataset itself is
        # not valid, it counts none
        if expected and expected not in (len(found), sum(file.valid for file in found)):
            raise NoAnswerError(f"the answer has {len(found)} files, but there are {expected}")

    def sites(self, name: str, instance: str) -> Optional[list[DatasetReplica]]:
        """Where a dataset is; None if that is not known."""
        rows = self._rows("site", f"site dataset={check_name(name)}", instance)
        return [
            DatasetReplica(row["name"], str(row.get("kind", "")), _share(row))
            for row in sorted(rows, key=lambda row: str(row.get("name")))
            if row.get("name")
        ]

    def _rows(self, key: str, question: str, instance: str) -> list[dict[str, Any]]:
        query = question if instance == GLOBAL else f"{question} instance={instance}"
        done = self._run([self._program, "-query", query, "-json"])
        if done.returncode == _NO_PROXY:
            raise NoAnswerError(_proxy_problem(), may_pass=False)
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        last = said[-1] if said else "without a message"
        start = done.stdout.find("[")
        if start < 0:
            raise NoAnswerError(f"dasgoclient ended with exit code {done.returncode} ({last})")
        try:
            records, _ = json.JSONDecoder().raw_decode(done.stdout, start)  # a message may follow
        except ValueError:
            raise NoAnswerError("the answer of dasgoclient ends early") from None
        rows = list(_rows_of(records, key))
        if done.returncode:
            raise NoAnswerError(f"dasgoclient ended with exit code {done.returncode} ({last})")
        return rows

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        proxy = find_proxy()
        environment = {**os.environ, **({VARIABLE: str(proxy)} if proxy else {})}
        try:
            return subprocess.run(
                argv,
                env=environment,
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


def _entry(row: dict[str, Any]) -> CatalogueEntry:
    name, status = row.get("name"), row["dataset_access_type"]
    if not (isinstance(name, str) and isinstance(status, str)):
        raise NoAnswerError("the answer has a dataset without a name")
    return CatalogueEntry(name, status)


def _share(row: dict[str, Any]) -> float:
    """How much of the dataset a site has [%]: the share of blocks with a replica, times that of the files in these."""
    shares = []
    for key in ("block_fraction", "replica_fraction"):
        try:
            shares.append(float(str(row.get(key)).strip(" %")))
        except ValueError:
            return 0.0
    return shares[0] * shares[1] / 100


def _rows_of(records: Any, key: str) -> Iterator[dict[str, Any]]:
    """The rows in records; an error if one says that a service did not answer, or did not understand."""
    for record in records:
        if "error" in record:
            raise RefusedError(str(record["error"]))
        for row in record.get(key) or ():
            if row.get("das", {}).get("services") == _NOT_ANSWERED:
                raise NoAnswerError("a service behind DAS does not answer")
            if "error" in row:
                raise _refusal(row)
            yield row


def _refusal(row: dict[str, Any]) -> Exception:
    error = row["error"]
    text = " ".join(str((error.get("message") or error.get("reason")) if isinstance(error, dict) else error).split())
    http = row.get("http")
    code = http.get("code") if isinstance(http, dict) else row.get("exception")
    if isinstance(code, int) and 400 <= code < 500:
        return RefusedError(f"{text} (HTTP {code})")
    return NoAnswerError(f"a service behind DAS failed: {text}")


def _proxy_problem() -> str:
    try:
        check_proxy()
    except NanoMLError as problem:
        return str(problem)
    return "dasgoclient finds no proxy"
