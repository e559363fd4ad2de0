"""The grid: certificate, proxy, catalogue, XRootD."""

from __future__ import annotations

import importlib.util
import socket
import stat
import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import has
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.certificates import certificates_of
from MLTools.NanoML.grid.proxy import duration, find_proxy, no_proxy, read_proxy
from MLTools.NanoML.installation import how_to_install

__all__ = ["REDIRECTOR", "catalogue", "certificate", "proxy", "redirector", "xrootd_client"]

REDIRECTOR = "cms-xrd-global.cern.ch"
"""CMS's redirector for the whole world."""

_PORT = 1094
_SOON = timedelta(days=30)
_SECONDS = 3.0
_HANDSHAKE = struct.pack("!5i", 0, 0, 0, 4, 2012)  # of the protocol of XRootD
_HOW_TO_GET = "get one at https://ca.cern.ch, and put it into ~/.globus"


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
        return Finding(False, f"{own}: is no certificate ({problem})", _HOW_TO_GET)
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
        told = "; ".join(problem.what for problem in problems)
        return Finding(False, f"{path}: {told}", problems[0].remedy)
    return Finding(
        True, f"{path}: {found.vo}, valid for {duration(found.left())}, permissions {found.mode:04o}"
    )


def catalogue() -> Finding:
    """Check that the client of CMS's catalogue is here."""
    if has("dasgoclient"):
        return Finding(True, "dasgoclient is in the PATH")
    return Finding(
        False, "dasgoclient is not in the PATH", "source /cvmfs/cms.cern.ch/cmsset_default.sh, or cmsenv"
    )


def xrootd_client() -> Finding:
    """Check that Python can read files over root://."""
    if importlib.util.find_spec("XRootD") is None:
        return Finding(
            False, "Python finds no XRootD: root:// files cannot be read", how_to_install("xrootd")
        )
    return Finding(True, "Python finds XRootD" + (", xrdcp is in the PATH" if has("xrdcp") else ""))


def redirector(server: str) -> Finding:
    """Check that a server of XRootD answers, by the first message of the protocol, which takes no proxy.

    Parameters
    ----------
    server
        HOST or HOST:PORT.
    """
    host, _, port = server.rpartition("://")[2].strip("/").partition(":")
    if port and not port.isdigit():
        return Finding(False, f"{server}: is no HOST:PORT", "--redirector HOST:PORT")
    try:
        with socket.create_connection((host, int(port or _PORT)), timeout=_SECONDS) as connection:
            connection.sendall(_HANDSHAKE)
            answer = connection.recv(16)
    except OSError as problem:
        reason = "no answer" if isinstance(problem, TimeoutError) else problem.strerror or str(problem)
        return Finding(
            False,
            f"{server}: {reason}",
            "try again; if a firewall forbids port 1094, read from a site near you",
        )
    if len(answer) < 8 or answer[:4] != bytes(4):
        return Finding(False, f"{server}: answers, but not as XRootD does", "name another: --redirector HOST")
    return Finding(True, f"{server} answers")
