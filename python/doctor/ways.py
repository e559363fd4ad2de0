"""Ways of working, the checks of what each of them needs, and all of these at the same time.

These are the checks of what is around: the grid, Kerberos, disks and their quotas, CVMFS, batch systems; of software, see `software`.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import re
import shutil
import socket
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Optional, Union

from MLTools.NanoML.batch.system import Client, System, system_of
from MLTools.NanoML.config.batch import SYSTEMS
from MLTools.NanoML.doctor import software
from MLTools.NanoML.doctor.software import Finding, answers, ask, has
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.certificates import certificates_of
from MLTools.NanoML.grid.proxy import GridProblem, Proxy, duration, find_proxy, no_proxy, read_proxy
from MLTools.NanoML.grid.token import Token, find_token, no_token, read_token
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


def credential(
    find: Callable[[], Optional[Path]], none: Callable[[], GridProblem], read: Callable[[Path], Union[Proxy, Token]]
) -> Finding:
    """Check a proxy or token: time left, permissions, VO or scopes."""
    path = find()
    if path is None:
        return Finding(False, none().what, none().remedy)
    try:
        found = read(path)
    except NanoMLError as problem:
        what, _, remedy = str(problem).rpartition(": ")
        return Finding(False, what, remedy)
    problems = found.problems()
    if problems:
        what = "; ".join(problem.what for problem in problems)
        return Finding(False, f"{path}: {what}", problems[0].remedy)
    return Finding(True, f"{found}: valid for {duration(found.left())}, permissions {found.mode:04o}")


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
        return Finding(False, f"{os.path.abspath('.')}: {problem.strerror}", "cd to a directory that exists")
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


_SYSTEMS = [system_of(name) for name in SYSTEMS if name != "local"]  # which is the way of a laptop

CHECKS: Mapping[str, Callable[[], Finding]] = {
    "Python": software.python,
    "packages": partial(software.packages, "core"),
    "codecs of ROOT files": partial(software.packages, "data"),
    "training": partial(software.packages, "train"),
    "hyperparameter tuning": partial(software.packages, "tune"),
    "disk": disk,
    "Kerberos": kerberos,
    "AFS": afs,
    "EOS": eos,
    "CVMFS": cvmfs,
    "CMSSW": software.cmssw,
    "ONNX Runtime": software.onnx_runtime,
    "NanoML in the area": software.cmssw_area,
    "ROOT": software.root,
    "nanoAOD-tools": software.nanoaod_tools,
    "certificate": certificate,
    "proxy": partial(credential, find_proxy, no_proxy, read_proxy),
    "token": partial(credential, find_token, no_token, read_token),
    "dasgoclient": dasgoclient,
    "XRootD client": xrootd_client,
    **{it.title: partial(software.packages, it.extra) for it in _SYSTEMS if it.extra},
    **{it.title: partial(batch_system, it.client) for it in _SYSTEMS if it.client},
    "GPU": software.gpu,
}
"""All checks, by the thing that they check, in the order in which they are shown."""


@dataclass(frozen=True)
class Way:
    """A way of working."""

    about: str  # what it is, in words
    needs: Sequence[str]  # checks of what nothing works without
    options: Sequence[str] = ()  # checks of what some things need that one may want to do
    redirector: str = ""  # the XRootD server that must answer; empty if none is asked


_BASE = ("Python", "packages", "disk")


def _way_of(system: System) -> Way:
    about = f"jobs on the grid, by {system.title}" if system.where == "grid" else f"jobs of {system.title}"
    client = system.client
    needs = (*_BASE, *(client.needs if client else ()), *({system.title} & {*CHECKS}))
    token = ("token",) if client and system.where == "cluster" else ()
    return Way(about, needs, (*client.options, *token) if client else ())


WAYS: Mapping[str, Way] = {
    "laptop": Way(
        "everything on this machine",
        (*_BASE, "codecs of ROOT files", "training"),
        ("hyperparameter tuning", "XRootD client", "proxy", "token", "ROOT", "nanoAOD-tools", "GPU"),
    ),
    "lxplus": Way(
        "interactive work on lxplus, with files of the grid",
        (*_BASE, "Kerberos", "AFS", "CVMFS", "certificate", "proxy", "dasgoclient", "XRootD client"),
        ("token", "EOS", "CMSSW", "NanoML in the area", "training", "HTCondor", "GPU"),
        redirector=REDIRECTOR,
    ),
    **{system.name: _way_of(system) for system in _SYSTEMS},
    "cmssw": Way(
        "skims, conversion and scores in CMSSW",
        (*_BASE, "CMSSW", "ONNX Runtime", "NanoML in the area"),
        ("ROOT", "nanoAOD-tools", "CVMFS", "proxy", "token", "XRootD client"),
    ),
}
"""All ways of working, by name."""


def guess() -> str:
    """The way of working that this machine and environment look like."""
    if socket.gethostname().startswith("lxplus"):
        return "lxplus"
    if os.environ.get("CMSSW_BASE"):
        return "cmssw"
    clusters = (it for it in _SYSTEMS if it.where == "cluster" and it.client and has(it.client.program))
    return next((system.name for system in clusters), "laptop")


class CheckState(Enum):
    """How a thing is, for the chosen way of working."""

    FINE = "fine"  # it is there, and as it should be
    ABSENT = "absent"  # it is not, and some things that one may want to do need it
    MISSING = "missing"  # it is not, and nothing works without it


@dataclass(frozen=True)
class Examination:
    """The findings for a way of working, by the thing that was checked."""

    way: str
    findings: dict[str, Finding]

    def state(self, name: str) -> CheckState:
        """How a thing is, for this way of working."""
        if self.findings[name].fine:
            return CheckState.FINE
        return CheckState.ABSENT if name in WAYS[self.way].options else CheckState.MISSING

    @property
    def missing(self) -> list[str]:
        """Things that nothing works without, and that are not as they should be."""
        return [name for name in self.findings if self.state(name) is CheckState.MISSING]

    def as_dict(self) -> dict[str, object]:
        """All of it, for JSON."""
        checks = [
            {"name": name, "state": self.state(name).value, "found": finding.found, "mend": finding.mend}
            for name, finding in self.findings.items()
        ]
        return {"for": self.way, "ready": not self.missing, "checks": checks}


def examine(way: str, server: str = "") -> Examination:
    """Check all that one of WAYS needs; `server` is an XRootD server to ask instead of the way's own, if any."""
    chosen = WAYS[way]
    checks = {name: check for name, check in CHECKS.items() if name in (*chosen.needs, *chosen.options)}
    server = server or chosen.redirector
    if server:
        checks["redirector"] = partial(redirector, server)
    with ThreadPoolExecutor(len(checks)) as pool:  # most of them wait for others
        found = list(pool.map(_find, checks.values()))
    return Examination(way, dict(zip(checks, found)))


def _find(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as problem:  # a check that fails must not stop the others
        return Finding(False, f"could not be checked: {type(problem).__name__}: {problem}")
