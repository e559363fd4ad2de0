# ruff: noqa: T201  # a command prints
"""A stand-in for CRAB's client, which cannot be installed: it needs CMSSW, and servers at CERN.

It speaks what `crab` of CRABClient v3.260206 prints, makes the same files (the project directory, .requestcache) and takes
the same options; a directory, which CRAB_STAND_IN names, is its server:

- calls.jsonl: what it was called with, a line each
- REQUEST.json: what the server says of a task: "server", "scheduler", "jobs" as `crab status --json` prints them, "refusal"
- tasks: names of the tasks that the server has taken, a line each
- refuse, silent: files that make it refuse submissions, or not answer; "dies" makes `crab submit` end without a word when
  the server has the task, but the project directory does not know it yet
"""

from __future__ import annotations

import json
import os
import pickle
import runpy
import sys
import time
import types
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

SERVER = Path(os.environ["CRAB_STAND_IN"])
SECTIONS = ("General", "JobType", "Data", "Site", "User", "Debug")


def main() -> int:
    command, arguments = sys.argv[1], sys.argv[2:]
    with open(SERVER / "calls.jsonl", "a") as file:
        file.write(json.dumps([command, *arguments]) + "\n")
    if not os.environ.get("CMSSW_VERSION"):
        print("CMSSW is missing. You must do cmsenv first")
        return 0
    parser = ArgumentParser(prog=f"crab {command}")
    for option in OPTIONS[command]:
        parser.add_argument(*option.split(), action="store_true" if option in FLAGS else "store")
    options = parser.parse_args(arguments)
    if (SERVER / "silent").exists():
        print("The server answered with an error.")
        print("It seems the CMSWEB frontend is not responding. Please check: https://twiki.cern.ch/twiki")
        print("Server answered with: Service unavailable")
        return 3016 & 255
    return COMMANDS[command](options)


def configuration(path: str) -> dict[str, dict[str, Any]]:
    module = types.ModuleType("CRABClient.UserUtilities")
    module.config = lambda: types.SimpleNamespace(**{name: types.SimpleNamespace() for name in SECTIONS})  # type: ignore[attr-defined]
    sys.modules.update({"CRABClient": types.ModuleType("CRABClient"), "CRABClient.UserUtilities": module})
    return {name: vars(section) for name, section in vars(runpy.run_path(path)["config"]).items()}


def submit(options: Namespace) -> int:
    general = configuration(options.config)["General"]
    project = Path(general["workArea"], f"crab_{general['requestName']}")
    if project.exists():
        print(f"Working area '{project}' already exists \nPlease change the requestName in the config file")
        return 3006 & 255
    for name in ("results", "inputs"):
        (project / name).mkdir(parents=True)
    refused = SERVER / "refuse"
    if refused.exists() and refused.read_text().strip() in general["requestName"]:
        print("Will use CRAB configuration file crab_cfg.py")
        print("Sending the request to the server at cmsweb.cern.ch")
        print("The server answered with an error.\nReason is: it is not allowed to write to Site.storageSite")
        print(f"Log file is {project}/crab.log")
        return 3016 & 255
    name = f"{time.strftime('%y%m%d_%H%M%S')}:somebody_crab_{general['requestName']}"
    with open(SERVER / "tasks", "a") as file:
        file.write(f"{name}\n")
    print("Will use CRAB configuration file crab_cfg.py")
    print("Sending the request to the server at cmsweb.cern.ch")
    if (SERVER / "dies").exists():
        return 1
    cache(project, name)
    print("Success: Your task has been delivered to the prod CRAB3 server.")
    print(f"Task name: {name}\nProject dir: {project}")
    print(f"Please use ' crab status -d {project} ' to check how the submission process proceeds.")
    print(f"Log file is {project}/crab.log")
    return 0


def cache(project: Path, name: str) -> None:
    content = {"Server": "cmsweb.cern.ch", "Port": "", "RequestName": name, "voRole": "NULL", "instance": "prod"}
    (project / ".requestcache").write_bytes(pickle.dumps(content, protocol=0))


def task_of(options: Namespace) -> tuple[Path, str, dict[str, Any]]:
    """The project directory, the name of the task, and what the server has of it."""
    project = Path(options.dir)
    if not (project / ".requestcache").is_file():
        print(f"Cannot find .requestcache file in CRAB project directory {project}")
        sys.exit(3005 & 255)
    name = pickle.loads((project / ".requestcache").read_bytes())["RequestName"]
    path = SERVER / f"{project.name.removeprefix('crab_')}.json"
    known = json.loads(path.read_text()) if path.exists() else {"server": "NEW on command SUBMIT"}
    return project, name, known


def status(options: Namespace) -> int:
    project, name, known = task_of(options)
    print(f"CRAB project directory:\t\t{project}\nTask name:\t\t\t{name}")
    print("Grid scheduler - Task Worker:\tcrab3@vocms0120.cern.ch - crab-prod-tw01")
    print(f"Status on the CRAB server:\t{known['server']}")
    print(f"Task URL to use for HELP:\thttps://cmsweb.cern.ch/crabserver/ui/task/{name}")
    if known.get("refusal"):
        print("Failure message from server:\t" + known["refusal"].replace("\n", "\n\t\t\t\t"))
    if known.get("days"):
        print(
            f"Task was submitted {known['days']} days ago.\nFiles are purged from Grid scheduler after 40 days.", end=""
        )
        print(" No further information is available")
    elif known.get("jobs"):
        print(f"Status on the scheduler:\t{known['scheduler']}")
        print("\nJobs status:                    finished     \t\t 50.0% (1/2)")
        print("\nNo publication information (publication has been disabled in the CRAB configuration file)")
        if options.json:
            print(json.dumps(known["jobs"]))
    elif known["server"] == "SUBMITTED" and known.get("scheduler"):
        print("https://cmsweb.cern.ch/scheddmon/status_cache.pkl not found or corrupted")
        print("Command status failed")
        return 1
    print(f"Log file is {project}/crab.log")
    return 0


def resubmit(options: Namespace) -> int:
    _, _, known = task_of(options)
    failed = {number for number, job in known.get("jobs", {}).items() if job["State"] == "failed"}
    wanted = options.jobids.split(",")
    if not failed.issuperset(wanted):
        print(f"Not possible to resubmit the following jobs:\n{sorted(set(wanted) - failed)}")
        print("Only jobs in status failed can be resubmitted. ")
        return 3008 & 255
    print("Sending resubmit request to the server.\nResubmit request sent to the server.")
    return 0


def kill(options: Namespace) -> int:
    task_of(options)
    print("Kill request successfully sent")
    return 0


def getoutput(options: Namespace) -> int:
    project, _, _ = task_of(options)
    numbers = sorted(options.jobids.split(","))
    if len(numbers) > 500:
        print(f"You requested to process files for {len(numbers)} jobs.\nThe limit is 500. Please use the '--jobids'")
        return 3008 & 255
    for number in numbers:
        name = f"/store/user/somebody/{project.name}/240501_120000/0000/nano_{number}.root"
        print(f"=== Files from job {number}:\n1) PFN: root://cms-xrd-global.cern.ch/{name}\n   LFN: {name}")
    return 0


def getlog(options: Namespace) -> int:
    project, _, _ = task_of(options)
    print(f"Setting the destination to {project / 'results'} \nRetrieving...")
    for number in options.jobids.split(","):
        for tried in range(2):
            text = f"======== CMSRunAnalysis.sh STARTING\njob {number}, tried for the {tried + 1}. time\n"
            (project / "results" / f"job_out.{number}.{tried}.txt").write_text(text)
            print(f"Retrieved job_out.{number}.{tried}.txt")
    print("Success: All files successfully retrieved.")
    return 0


def tasks(options: Namespace) -> int:
    names = (SERVER / "tasks").read_text().split() if (SERVER / "tasks").exists() else []
    print(f"\nList of tasks from {options.fromdate} until today\n{'=' * 80}\nNAME\t\t\tSTATUS\n{'=' * 80}")
    for name in names:
        print(f"{name}\n\t\t\t\tSUBMITTED\n{'-' * 80}")
    return 0


def remake(options: Namespace) -> int:
    area = Path(options.task.split(":", 1)[1].split("_", 1)[1])
    if area.exists():
        return 0
    for name in ("results", "inputs"):
        (area / name).mkdir(parents=True)
    cache(area, options.task)
    print(f"Remaking {area} folder.\nSuccess: Finished remaking project directory {area}")
    return 0


COMMANDS = {it.__name__: it for it in (submit, status, resubmit, kill, getoutput, getlog, tasks, remake)}
OPTIONS = {
    "submit": ("-c --config",),
    "status": ("-d --dir", "--json"),
    "resubmit": ("-d --dir", "--jobids", "--maxmemory", "--maxjobruntime"),
    "kill": ("-d --dir",),
    "getoutput": ("-d --dir", "--dump", "--jobids"),
    "getlog": ("-d --dir", "--short", "--jobids"),
    "tasks": ("--fromdate",),
    "remake": ("--task",),
}
FLAGS = ("--json", "--dump", "--short")

if __name__ == "__main__":
    sys.exit(main())
