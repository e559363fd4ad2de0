"""File transfer plug-in of HTCondor for root://, by xrdcp: it stands in for the one that CERN's batch service has."""

from __future__ import annotations

import re
import subprocess
import sys
import time

ABOUT = """MultipleFileSupport = true
PluginType = "FileTransfer"
PluginVersion = "1"
SupportedMethods = "root,xroot"
"""


def main(arguments: list[str]) -> int:
    if "-classad" in arguments:
        sys.stdout.write(ABOUT)
        return 0
    with open(arguments[arguments.index("-infile") + 1]) as file:
        wanted = [dict(re.findall(r'(\w+) *= *"([^"]*)"', ad)) for ad in re.findall(r"\[(.*?)\]", file.read(), re.S)]
    failed = 0
    with open(arguments[arguments.index("-outfile") + 1], "w") as results:
        for ad in wanted:
            result, failure = transfer(ad["Url"], ad["LocalFileName"], "-upload" in arguments)
            results.write(result)
            failed = failed or failure
    return failed


def transfer(url: str, local: str, upload: bool) -> tuple[str, int]:
    """The record of a transfer, as a ClassAd, and its exit code."""
    start = time.time()
    # -p makes the directories
    ends = (local, url) if upload else (url, local)
    done = subprocess.run(["xrdcp", "-f", "-s", "-p", *ends], capture_output=True, text=True, check=False)
    facts = {"Url": quoted(url), "FileName": quoted(local), "Type": quoted("upload" if upload else "download")}
    facts |= {"Protocol": quoted(url.partition(":")[0]), "StartTime": int(start), "EndTime": int(time.time())}
    facts["Success"] = "false" if done.returncode else "true"
    if done.returncode:
        facts["Error"] = quoted(f"xrdcp: exit code {done.returncode}: {done.stderr}")
    return "[ " + " ".join(f"Transfer{name} = {value};" for name, value in facts.items()) + " ]\n", done.returncode


def quoted(text: str) -> str:
    return '"' + " ".join(text.replace("\\", "/").replace('"', "'").split()) + '"'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
