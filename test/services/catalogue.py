"""A server that speaks as the DBS reader does, and a program that speaks as dasgoclient does.

CMS's own services cannot be reached by tests: only its members may ask them. What the server answers follows the source
of dbs2go; what the program prints was compared with a real dasgoclient that asked this server, and is compared again
where one is installed.
"""

from __future__ import annotations

import json
import shlex
import ssl
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, unquote, urlsplit

WZ = "/WZTo3LNu_TuneCP5_13TeV-amcatnloFXFX-pythia8/RunIISummer20UL18NanoAODv9-106X_v16_L1v1-v1/NANOAODSIM"
ZZ = WZ.replace("WZTo3LNu", "WZTo2L2Q")
HALF = WZ.replace("WZTo3LNu", "WZTo4Q")
GONE = "/Old/Run-v1/NANOAODSIM"
MINE = "/Mine/me-skim-0123abcd/USER"
STORE = "/store/mc/RunIISummer20UL18NanoAODv9/WZTo3LNu/NANOAODSIM/v1/0"

PROGRAM = Path(__file__).with_name("programs") / "dasgoclient.py"


@dataclass
class Content:
    files: dict[str, int]  # logical name to events
    status: str = "VALID"
    invalid: Iterable[str] = ()  # those of the files that must not be used
    sites: Mapping[str, float] = field(default_factory=dict)  # site to share of the files that it has
    instance: str = "prod/global"

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The files as the reader gives them."""
        common = {"check_sum": "0", "block_name": f"{name}#1", "dataset": name, "file_type": "EDM", "md5": None}
        rows = []
        for number, (file, events) in enumerate(self.files.items()):
            size = {"event_count": events, "file_size": 1000 * events + 1, "adler32": f"{number:08x}"}
            rows.append({"logical_file_name": file, **size, "is_file_valid": int(file not in self.invalid), **common})
        return rows


def contents() -> dict[str, Content]:
    """Some datasets: WZ and ZZ are valid, HALF is in production, GONE was deleted, and MINE is a user's."""
    files = {f"{STORE}/{number:04d}.root": 100 * number for number in range(12)}
    sites = {"T2_DE_DESY": 1.0, "T1_US_FNAL_Disk": 1 / 3, "T0_CH_CERN_Tape": 1.0}
    return {
        WZ: Content(files, invalid=[f"{STORE}/0003.root"], sites=sites),
        ZZ: Content({"/store/mc/ZZ/1.root": 10, "/store/mc/ZZ/0.root": 20}),
        HALF: Content({"/store/mc/HALF/0.root": 5}, status="PRODUCTION"),
        GONE: Content({"/store/mc/Old/0.root": 5}, status="DELETED"),
        MINE: Content({"/store/user/me/0.root": 7}, instance="prod/phys03"),
    }


class CatalogueServer:
    """A server on loopback, which answers of its `datasets`, which may be changed at any time. NANOML_DBS is set to `url`.

    `asked` are the paths of all requests; `faults` what to do wrong, one for each of the next requests, whatever they are:
    the code of an HTTP error, "hang", "cut" (the answer ends early), "short" (rows are missing), "half" (an error follows
    the first row), "text" (it is no JSON).
    """

    def __init__(self, certificates: Optional[Path] = None) -> None:
        self.datasets: dict[str, Content] = {}
        self.asked: list[str] = []
        self.faults: list[Any] = []
        self.people: list[Any] = []
        self._gone = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(unquote(self.path))
                if certificates is not None:
                    outer.people.append(self.connection.getpeercert())  # type: ignore[attr-defined]
                outer._answer(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificates is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "host.pem", certificates / "host.key")
            context.load_verify_locations(capath=str(certificates / "certificates"))
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VerifyFlags(0x40)  # proxies, as Python calls them from 3.10 on
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{scheme}://localhost:{self.port}/dbs"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and let go of the port."""
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "hang":
            self._gone.wait(20)
            return
        if isinstance(fault, int):
            error = {"reason": "DBSError", "message": "database is away", "code": 101, "function": "dbs.files"}
            body = [{"error": error, "http": {"method": "GET", "code": fault}, "exception": fault, "type": "HTTPError"}]
            _send(handler, fault, json.dumps(body))
            return
        code, rows = self._rows(urlsplit(handler.path))
        if fault == "short":
            rows = rows[:-1]
        if fault == "half":
            rows = [*rows[:1], {"error": {"reason": "unable to scan", "code": 104}}]
        text = json.dumps(rows) if fault != "text" else "<html>Service is being upgraded</html>"
        _send(handler, code, text, cut=fault == "cut")

    def _rows(self, url: Any) -> tuple[int, list[dict[str, Any]]]:
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        if parts[0] == "replicas":  # of Rucio, for dasgoclient
            return 200, self._replicas(unquote(parts[2]))
        if parts[0] == "auth":
            return 200, []
        instance, what = "/".join(parts[1:3]), parts[4]
        name = asked.get("dataset", "")
        there = {key: each for key, each in self.datasets.items() if each.instance == instance}
        found = there.get(name)
        if what == "datasets":
            status = asked.get("dataset_access_type", "VALID")
            return 200, [
                {"dataset": key, "dataset_access_type": each.status, "data_tier_name": key.rpartition("/")[2]}
                for key, each in there.items()
                if fnmatchcase(key, name) and status in ("*", each.status)
            ]
        if what == "files":
            rows = found.rows(name) if found else []
            wanted = asked.get("validFileOnly") == "1"
            return 200, [row for row in rows if row["is_file_valid"] or not wanted]
        if what == "filesummaries":
            return 200, [self._summary(name, found, "validFileOnly" in asked)]
        if what == "blocks":
            return 200, [{"block_name": f"{name}#1"}] if found else []
        return 404, []

    def _summary(self, name: str, found: Optional[Content], valid_only: bool) -> dict[str, Any]:
        rows = found.rows(name) if found else []
        if valid_only:
            usable = found is not None and found.status in ("VALID", "PRODUCTION")
            rows = [row for row in rows if row["is_file_valid"] and usable]
        events, size = (sum(row[key] for row in rows) for key in ("event_count", "file_size"))
        return {"num_file": len(rows), "num_event": events, "file_size": size, "num_block": 1, "num_lumi": 1}

    def _replicas(self, block: str) -> list[dict[str, Any]]:
        found = self.datasets.get(block.partition("#")[0])
        if found is None:
            return []
        total = len(found.files)
        common = {"name": block, "scope": "cms", "state": "AVAILABLE", "length": total}
        sites = found.sites.items()
        return [{"rse": site, **common, "available_length": round(share * total)} for site, share in sites]


def _send(handler: BaseHTTPRequestHandler, code: int, text: str, cut: bool = False) -> None:
    if "/replicas/" in handler.path:  # one JSON a line
        text = "\n".join(json.dumps(row) for row in json.loads(text)) if code == 200 else text
    body = text.encode()
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("X-Rucio-Auth-Token", "token")
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2] if cut else body)


def install_dasgoclient(directory: Path, url: str, real: Optional[str] = None) -> Path:
    """Make a program dasgoclient in a directory, which asks a server, if need be by a real dasgoclient; return it."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "dasgoclient"
    if real is None:
        words = [sys.executable, "-IS", str(PROGRAM), url]  # begins in half the time
    else:
        root = url.removesuffix("/dbs")
        maps = directory / ".dasmaps" / "das_maps_dbs_prod.js"
        maps.parent.mkdir()
        maps.write_text("".join(json.dumps(each) + "\n" for each in das_maps(root)))
        settings = {"HOME": str(directory), "DBS_URL": root, "RUCIO_URL": root, "RUCIO_AUTH_URL": root}
        words = ["env", *(f"{name}={value}" for name, value in settings.items()), real]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    return program


def das_maps(root: str) -> list[dict[str, Any]]:
    """What dasgoclient knows of services, as far as `nanoml` asks: which there are, and how they call things."""

    def service(system: str, urn: str, lookup: str, url: str, params: dict[str, str], **keys: str) -> dict[str, Any]:
        pattern = {"pattern": "/[\\w-]+/[\\w-]+/[A-Z-]+"} if urn != "datasets" else {"pattern": "/.*/.*/.*"}
        das_map = [{"das_key": lookup, "rec_key": f"{lookup}.name"}] if lookup != "dataset" else []
        das_map.append({"das_key": "dataset", "rec_key": "dataset.name", "api_arg": "dataset", **pattern})
        das_map += [{"das_key": key, "rec_key": f"{key}.name", "api_arg": arg} for key, arg in keys.items()]
        of_all = {"type": "service", "expire": 900, "format": "JSON", "instances": ["prod/global", "prod/phys03"]}
        own = {"hash": urn, "system": system, "urn": urn, "lookup": lookup, "url": url, "params": params}
        return {**of_all, **own, "das_map": das_map}

    reader = f"{root}/dbs/prod/global/DBSReader"
    files = {"dataset": "required", "detail": "True", "status": "optional"}
    datasets = {"dataset": "optional", "detail": "True", "dataset_access_type": "VALID"}
    summary = {"dataset": "required", "validFileOnly": "1"}
    names = [
        *(("logical_file_name", "name", "files_via_dataset"), ("event_count", "nevents", "files_via_dataset")),
        *(("file_size", "size", "files_via_dataset"), ("file_type", "type", "files_via_dataset")),
        *(("num_file", "nfiles", ""), ("num_event", "nevents", "filesummaries")),
        *(("file_size", "size", "filesummaries"), ("dataset_access_type", "status", "")),
    ]
    notations = [{"api_output": old, "rec_key": new, "api": api} for old, new, api in names]
    return [
        service("dbs3", "files_via_dataset", "file", f"{reader}/files/", files, status="status"),
        service("dbs3", "filesummaries", "dataset", f"{reader}/filesummaries/", summary, status="validFileOnly"),
        service("dbs3", "datasets", "dataset", f"{reader}/datasets/", datasets, status="dataset_access_type"),
        service("combined", "site4dataset_pct", "site", "combined plugin", {"dataset": "required"}),
        {"hash": "notations", "type": "notation", "system": "dbs3", "notations": notations},
    ]
