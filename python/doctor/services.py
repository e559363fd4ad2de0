"""Checks of what is around: the grid, Kerberos, disks and their quotas, CVMFS, batch systems."""

from __future__ import annotations

import getpass
import importlib.util
import os
import re
import shutil
import socket
import stat
import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path

from MLTools.NanoML.batch.system import Client
from MLTools.NanoML.doctor.probe import Finding, answers, ask, has
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.certificates import certificates_of
from MLTools.NanoML.grid.proxy import duration, find_proxy, no_proxy, read_proxy
from MLTools.NanoML.installation import how_to_install
from MLTools.NanoML.terminal.page import file_size

REDIRECTOR = "cms-xrd-global.cern.ch"
"""CMS's redirector for the whole world."""

_PORT = 1094
_SOON = timedelta(days=30)
_SECONDS = 3.0
_HANDSHAKE = struct.pack("!5i", 0, 0, 0, 4, 2012)  # of the protocol of XRootD
_HOW_TO_GET = "get one at https://ca.cern.ch, and put it into ~/.globus"
_LITTLE = 1_000_000_000
_CVMFS = Path("/cvmfs/cms.cern.ch/cmsset_default.sh")


def certificate() -> Finding:
    """Check the grid certificate in ~/.globus, and that nobody else can read its key."""
    directory = Path.home() / ".globus"
    own, key = directory / "usercert.pem", directory / "userkey.pem"
    lacking = [str(path) for path in (own, key) if not path.is_file()]
    if lacking:
        return Finding(False, f"no {' and no '.join(lacking)}", _HOW_TO_GET)
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        return Finding(
            False, f"{key} can be read by others (permissions {mode:04o})", "chmod 400 ~/.globus/userkey.pem"
        )
    try:
        (found, *_) = certificates_of(own.read_bytes())
    except (OSError, ValueError) as problem:
        return Finding(False, f"{own}: is not a certificate ({problem})", _HOW_TO_GET)
    left = found.expires - datetime.now(timezone.utc)
    if left < timedelta(0):
        return Finding(False, f"{found.subject}: expired {duration(-left)} ago", _HOW_TO_GET)
    if left < _SOON:
        return Finding(True, f"{found.subject}: expires in {duration(left)}, get a new one soon")
    return Finding(True, f"{found.subject}: valid for {duration(left)}")


def proxy() -> Finding:
    """Check the proxy: time left, VO, permissions."""
    path = find_proxy()
    if path is None:
        none = no_proxy()
        return Finding(False, none.what, none.remedy)
    try:
        found = read_proxy(path)
    except NanoMLError as problem:
        what, _, remedy = str(problem).rpartition(": ")
        return Finding(False, what, remedy)
    problems = found.problems()
    if problems:
        what = "; ".join(problem.what for problem in problems)
        return Finding(False, f"{path}: {what}", problems[0].remedy)
    return Finding(True, f"{path}: {found.vo}, valid for {duration(found.left())}, permissions {found.mode:04o}")


def dasgoclient() -> Finding:
    """Check that the client of CMS's catalogue is here."""
    if has("dasgoclient"):
        return Finding(True, "dasgoclient is in the PATH")
    return Finding(False, "dasgoclient is not in the PATH", "source /cvmfs/cms.cern.ch/cmsset_default.sh, or cmsenv")


def xrootd_client() -> Finding:
    """Check that Python can read files over root://."""
    if importlib.util.find_spec("XRootD") is None:
        return Finding(False, "Python finds no XRootD: root:// files cannot be read", how_to_install("xrootd"))
    return Finding(True, "Python finds XRootD" + (", xrdcp is in the PATH" if has("xrdcp") else ""))


def redirector(server: str) -> Finding:
    """Check that a server of XRootD, HOST or HOST:PORT, answers the protocol's first message, which takes no proxy."""
    host, _, port = server.rpartition("://")[2].strip("/").partition(":")
    if port and not port.isdigit():
        return Finding(False, f"{server}: is not HOST:PORT", "--redirector HOST:PORT")
    try:
        with socket.create_connection((host, int(port or _PORT)), timeout=_SECONDS) as connection:
            connection.sendall(_HANDSHAKE)
            answer = connection.recv(16)
    except OSError as problem:
        reason = "no answer" if isinstance(problem, TimeoutError) else problem.strerror or str(problem)
        return Finding(
            False, f"{server}: {reason}", "try again; if a firewall forbids port 1094, read from a site near you"
        )
    if len(answer) < 8 or answer[:4] != bytes(4):
        return Finding(False, f"{server}: answers, but not as XRootD does", "name another: --redirector HOST")
    return Finding(True, f"{server} answers")


def kerberos() -> Finding:
    """Check that there is a ticket, and that it has not expired."""
    if not has("klist"):
        return Finding(False, "klist is not in the PATH; only machines of CERN ask for a ticket", "kinit")
    if ask(["klist", "-s"]).code != 0:
        return Finding(False, "no ticket, or an expired one", "kinit")
    return Finding(True, "there is a ticket")


def disk() -> Finding:
    """Check that the current directory can be written to and has space. AFS and EOS have quotas, which are checked by themselves."""
    try:
        free = shutil.disk_usage(".").free
    except OSError as problem:
        return Finding(False, f"{os.path.abspath('.')}: {problem.strerror}", "cd to a directory that is there")
    if not os.access(".", os.W_OK):
        return Finding(False, f"{os.getcwd()}: you may not write here", "cd to a directory of yours")
    found = f"{file_size(free)} free in {os.getcwd()}"
    if free < _LITTLE:
        return Finding(False, found, "remove what is not needed, or set workdir to another disk")
    return Finding(True, found)


def cvmfs() -> Finding:
    """Check that CMS's software is mounted."""
    there = answers(_CVMFS)
    if there:
        return Finding(True, f"{_CVMFS.parent}")
    state = "does not answer" if there is None else "is not there"
    mend = "work on lxplus or another machine with CVMFS, or install it: https://cvmfs.readthedocs.io"
    return Finding(False, f"{_CVMFS.parent} {state}", mend)


def afs() -> Finding:
    """Check the quota of the home directory on AFS."""
    home = Path.home()
    if not has("fs") or not str(home).startswith("/afs/"):
        return Finding(True, f"the home directory {home} is not on AFS")
    answer = ask(["fs", "listquota", str(home)])
    numbers = re.search(r"(\d+)\s+(\d+)\s+\d+%", answer.text)
    if answer.code != 0 or not numbers:
        return Finding(False, f"fs listquota {home}: {answer.first_line}", "kinit && aklog: the token may have expired")
    quota, used = (1024 * int(number) for number in numbers.groups())
    return _filled(str(home), used, quota, "remove what is not needed, or set workdir to a directory on EOS")


def eos() -> Finding:
    """Check the quota of the user's own directory on CERN's EOS."""
    user = getpass.getuser()
    home = f"/eos/user/{user[0]}/{user}"
    if not has("eos"):
        mend = f"on lxplus it is; elsewhere: `xrdfs eosuser.cern.ch ls {home}`"
        return Finding(False, "the program eos is not in the PATH", mend)
    answer = ask(["eos", "root://eosuser.cern.ch", "quota", "ls", "-m", "-u", user, "-p", home])
    numbers = re.search(r"usedlogicalbytes=(\d+).*?maxlogicalbytes=(\d+)", answer.text)
    if answer.code != 0 or not numbers:
        return Finding(
            False, f"{home}: {answer.first_line}", f"klist, kinit; then: eos root://eosuser.cern.ch quota {home}"
        )
    used, quota = (int(number) for number in numbers.groups())
    return _filled(home, used, quota, "remove what is not needed")


def _filled(place: str, used: int, quota: int, mend: str) -> Finding:
    found = f"{place}: {file_size(used)} of {file_size(quota)} used"
    little = quota - used < min(_LITTLE, quota / 10)
    return Finding(not little, found, mend if little else "")


def batch_system(client: Client) -> Finding:
    """Check that the client of a batch system is here, and that its queue answers."""
    if not has(client.program) or not all(map(has, client.question[:1])):
        return Finding(False, f"{client.program} is not in the PATH", client.remedy)
    if not client.question:
        return Finding(True, f"{client.program} is in the PATH")
    answer = ask(client.question)
    if answer.code != 0:
        again = f"try again in a minute: {' '.join(client.question)}"
        return Finding(False, f"{client.question[0]}: {answer.first_line}", again)
    return Finding(True, "the queue answers")
