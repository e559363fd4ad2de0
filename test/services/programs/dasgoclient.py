"""Prints what dasgoclient prints, as far as `nanoml` asks it; see `catalogue.py`. It is run as `dasgoclient.py SERVER ...`."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

# another name for what the reader calls it, beside its own or instead of it
RENAMED = {"logical_file_name": "name", "event_count": "nevents", "file_size": "size", "file_type": "type"}
RENAMED_SUMMARY = {"num_event": "nevents", "file_size": "size"}
SERVER = sys.argv.pop(1).rpartition("/dbs")[0]


Row = dict[str, Any]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def header(key: str, service: str, instance: str) -> Row:
    about = {"expire": int(time.time()) + 600, "instance": instance, "primary_key": f"{key}.name"}
    return {**about, "record": 1, "services": [service]}


def fetch(path: str) -> Any:
    for _ in range(4):
        try:
            with urllib.request.urlopen(SERVER + path, timeout=60) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as problem:
            return json.loads(problem.read())
        except (OSError, ValueError, http.client.HTTPException):
            continue
    return None


def ask(
    key: str, api: str, what: str, query: Mapping[str, str], instance: str, renamed: Mapping[str, str], name: str
) -> list[Row]:
    found = fetch(f"/dbs/{instance}/DBSReader/{what}/?{urllib.parse.urlencode(query)}")
    if found is None:  # nobody answers, which it tells like this
        inner = {**header(key, "das:NA", instance), "record": 0, "status": "ok"}
        found = [{"das": inner, **({"name": name} if key == "dataset" else {})}]
    records: list[Row] = []
    for row in found:
        row = {renamed.get(old, old): value for old, value in row.items()}
        if what == "datasets" and "dataset" in row:
            row["name"] = row.pop("dataset")
            row["status"] = row["dataset_access_type"]
        if what == "filesummaries":
            row["name"] = name
        if "num_file" in row:
            row["nfiles"] = row["num_file"]
        records.append({"das": header(key, f"dbs3:{api}", instance), key: [row], "qhash": "0"})
    return records


def sites(name: str, instance: str) -> list[Row]:
    records: list[Row] = []
    query = urllib.parse.urlencode({"dataset": name, "validFileOnly": "1"})
    total = fetch(f"/dbs/{instance}/DBSReader/filesummaries/?{query}")
    if not total:
        return records
    block = urllib.parse.quote(f"{name}#1", safe="")
    with urllib.request.urlopen(f"{SERVER}/replicas/cms/{block}/datasets", timeout=60) as response:
        replicas = [json.loads(line) for line in response.read().splitlines() if line]
    for replica in replicas:
        share = 100 * replica["available_length"] / replica["length"]
        kind = "TAPE" if "Tape" in replica["rse"] else "DISK"
        site = {"name": replica["rse"], "se": replica["rse"], "kind": kind, "replica_fraction": f"{share:5.2f}%"}
        site |= dict.fromkeys(("block_completion", "block_fraction"), "100.00%")
        site["dataset_fraction"] = " 0.00%"  # as it says, whatever there is
        site |= {"nblocks": 1, "total_blocks": 1}
        site |= {"nfiles": replica["available_length"], "total_files": total[0]["num_file"]}
        records.append({"das": header("site", "combined:site4dataset_pct", instance), "site": [site], "qhash": "0"})
    return records


def main() -> None:
    if not (os.environ.get("X509_USER_PROXY") or os.path.exists(f"/tmp/x509up_u{os.getuid()}")):
        say("Neither X509_USER_PROXY or X509_USER_KEY/X509_USER_CERT are set")
        sys.exit(15)
    assert sys.argv[1] == "-query"
    assert sys.argv[3:] == ["-json"]
    words = sys.argv[2].split()
    settings = dict(word.split("=", 1) for word in words[1:])
    name, instance = settings["dataset"], settings.get("instance", "prod/global")
    records: list[Row] = []
    if words[0] == "file":
        query = {"dataset": name, "detail": "True", "validFileOnly": "0" if "status" in settings else "1"}
        records = ask("file", "files_via_dataset", "files", query, instance, RENAMED, name)
    elif words[0] == "dataset":
        if "*" not in name:
            query = {"dataset": name, "validFileOnly": "0"}
            records = ask("dataset", "filesummaries", "filesummaries", query, instance, RENAMED_SUMMARY, name)
        query = {"dataset": name, "dataset_access_type": settings.get("status", "VALID"), "detail": "True"}
        records += ask("dataset", "datasets", "datasets", query, instance, {}, name)
    elif words[0] == "site":
        records = sites(name, instance)
    say("[")
    say(" ,\n".join(json.dumps(record) for record in records))
    say("]")
    if any("error" in row for record in records for row in record.get(words[0], ())):
        say("ERROR: das exit with code: 1 , error: DAS error")
        sys.exit(1)


if __name__ == "__main__":
    main()
