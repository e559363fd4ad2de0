"""Disk space and quotas, and CVMFS."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from pathlib import Path

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import answers, ask, has
from MLTools.NanoML.terminal.page import file_size

__all__ = ["afs", "cvmfs", "disk", "eos"]

_LITTLE = 1_000_000_000
_CVMFS = Path("/cvmfs/cms.cern.ch/cmsset_default.sh")


def disk() -> Finding:
    """Check the space where one is. A directory of AFS or EOS has a quota, which is checked by itself."""
    try:
        free = shutil.disk_usage(".").free
    except OSError as problem:
        return Finding(
            False, f"{os.path.abspath('.')}: {problem.strerror}", "cd to a directory that is there"
        )
    found = f"{file_size(free)} free in {os.getcwd()}"
    if free < _LITTLE:
        return Finding(False, found, "remove what is not needed, or set workdir to another disk")
    return Finding(True, found)


def cvmfs() -> Finding:
    """Check that CMS's software is mounted."""
    there = answers(_CVMFS)
    if there:
        return Finding(True, f"{_CVMFS.parent}")
    told = "does not answer" if there is None else "is not there"
    return Finding(
        False,
        f"{_CVMFS.parent} {told}",
        "work on lxplus or another machine with CVMFS, or install it: https://cvmfs.readthedocs.io",
    )


def afs() -> Finding:
    """Check the quota of the home directory on AFS."""
    home = Path.home()
    if not has("fs") or not str(home).startswith("/afs/"):
        return Finding(True, f"the home directory {home} is not on AFS")
    answer = ask(["fs", "listquota", str(home)])
    numbers = re.search(r"(\d+)\s+(\d+)\s+\d+%", answer.text)
    if answer.code != 0 or not numbers:
        return Finding(
            False, f"fs listquota {home}: {answer.first_line}", "kinit && aklog: the token may have expired"
        )
    quota, used = (1024 * int(number) for number in numbers.groups())
    return _filled(str(home), used, quota, "remove what is not needed, or set workdir to a directory on EOS")


def eos() -> Finding:
    """Check the quota on EOS, of one's own directory at CERN."""
    user = getpass.getuser()
    home = f"/eos/user/{user[0]}/{user}"
    if not has("eos"):
        return Finding(
            False,
            "the program eos is not in the PATH",
            f"on lxplus it is; elsewhere: xrdfs eosuser.cern.ch ls {home}",
        )
    answer = ask(["eos", "root://eosuser.cern.ch", "quota", "ls", "-m", "-u", user, "-p", home])
    numbers = re.search(r"usedlogicalbytes=(\d+).*?maxlogicalbytes=(\d+)", answer.text)
    if answer.code != 0 or not numbers:
        return Finding(
            False,
            f"{home}: {answer.first_line}",
            f"klist, kinit; then: eos root://eosuser.cern.ch quota {home}",
        )
    used, quota = (int(number) for number in numbers.groups())
    return _filled(home, used, quota, "remove what is not needed")


def _filled(place: str, used: int, quota: int, mend: str) -> Finding:
    found = f"{place}: {file_size(used)} of {file_size(quota)} used"
    little = quota - used < min(_LITTLE, quota / 10)
    return Finding(not little, found, mend if little else "")
