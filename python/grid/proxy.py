"""The user's grid proxy: where it is, what its file says, what is wrong with it, and how a new one is made."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.certificates import VomsAttributes, certificates_of, has_key, voms_attributes

VARIABLE = "X509_USER_PROXY"
"""The environment variable that names the proxy, for all grid tools."""

_NOW = timedelta(0)
_LONGEST = timedelta(hours=192)  # of the proxies that CMS gives
_LARGEST = 1 << 20  # bytes
_PROGRAM = "voms-proxy-init"
_PRIVATE = 0o077
_SLACK = timedelta(minutes=10)  # between what was asked for and what is left when the new proxy is read


@dataclass(frozen=True)
class GridProblem:
    """Why a proxy or a bearer token cannot be used."""

    what: str  # without a full stop
    remedy: str  # the command that mends it

    def __str__(self) -> str:
        return f"{self.what}. Fix it: {self.remedy}"


@dataclass(frozen=True)
class Proxy:
    """A proxy, as its file describes it. Its private key is not read."""

    path: Path
    subject: str  # its owner, as in "/DC=ch/DC=cern/CN=Jane"
    begins: datetime  # from then on, until it expires, all of its certificates are valid
    expires: datetime
    attributes: tuple[VomsAttributes, ...]  # membership in VOs; none without VOMS
    is_proxy: bool  # False for a certificate that a CA signed
    has_key: bool  # whether the file has the private key
    owner: int  # user id of the file
    mode: int  # permissions of the file

    @property
    def vo(self) -> Optional[str]:
        """The VO; None without VOMS."""
        return self.attributes[0].vo if self.attributes else None

    @property
    def fqans(self) -> tuple[str, ...]:
        """Groups and roles."""
        return tuple(fqan for each in self.attributes for fqan in each.fqans)

    @property
    def vo_expires(self) -> Optional[datetime]:
        """When the membership in the VO ends, which may be before the proxy does."""
        return self.attributes[0].expires if self.attributes else None

    def left(self) -> timedelta:
        """How long it can still be used with its VO; negative after that."""
        return min([self.expires, *(each.expires for each in self.attributes[:1])]) - _utc()

    def problems(self, needed: timedelta = _NOW, vo: str = "cms", now: Optional[datetime] = None) -> list[GridProblem]:
        """Say what is wrong with a proxy that must be valid for `needed` from `now` (by default the present), and of a VO."""
        now, again = now or _utc(), _init_command(needed, vo)
        found = list(problems_of_file("the proxy", self.path, self.owner, self.mode, again))
        if not self.is_proxy:
            return [*found, GridProblem("this is a certificate, not a proxy", again)]
        if not self.has_key:
            found.append(GridProblem("the proxy has no private key, so it cannot be used", again))
        late = list(problems_of_time("the proxy", self.begins, self.expires, needed, now, again))
        ours = [each for each in self.attributes if each.vo == vo]
        if not ours:
            other = f"for the VO {self.vo}, not for {vo}" if self.vo else f"for no VO, but {vo} is needed"
            late.append(GridProblem(f"the proxy is {other}", again))
        elif not late:
            member = f"its membership in {vo}"
            late += problems_of_time(member, ours[0].begins, ours[0].expires, needed, now, again)
        return found + late

    def __str__(self) -> str:
        return f"proxy {self.path} ({self.vo or 'no VO'})"


def problems_of_file(what: str, path: Path, owner: int, mode: int, again: str) -> Iterator[GridProblem]:
    """Say if the file of a credential is not the user's alone."""
    if owner != os.getuid():
        yield GridProblem(f"{what} belongs to {user_name(owner)}, not to you", again)
    elif mode & _PRIVATE:
        mend = f"chmod 600 {shlex.quote(str(path))}"
        yield GridProblem(f"{what} can be read by others (permissions {mode:04o})", mend)


def _utc() -> datetime:
    return datetime.now(timezone.utc)


def problems_of_time(
    what: str, begins: datetime, expires: datetime, needed: timedelta, now: datetime, again: str
) -> Iterator[GridProblem]:
    """Say if a credential is not valid from `now` on for as long as `needed`."""
    if expires <= now:
        yield GridProblem(f"{what} expired {duration(now - expires)} ago", again)
    elif expires < now + needed:
        left = f"{what} is valid for {duration(expires - now)} more, but {duration(needed)} are needed"
        yield GridProblem(left, again)
    elif begins > now:
        early = f"{what} becomes valid only in {duration(begins - now)}; the clock of this machine may be wrong"
        yield GridProblem(early, "date")


def _init_command(needed: timedelta = _NOW, vo: str = "cms") -> str:
    """The command that makes a proxy that lasts."""
    hours = f" --hours {-(-needed // timedelta(hours=1))}" if needed > _LONGEST else ""
    return "nanoml proxy init" + hours + (f" --vo {shlex.quote(vo)}" if vo != "cms" else "")


def user_name(uid: int) -> str:
    """Name of a user; "user 1234" if the machine does not know it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def duration(time: timedelta) -> str:
    """A time in words, as in "7 d 23 h"."""
    seconds = int(time.total_seconds())
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"


def read_proxy(path: str | os.PathLike[str]) -> Proxy:
    """Read a proxy, even one that has expired or has other problems.

    Raises NanoMLError if the file is not there, or has no certificate.
    """
    path, remedy = Path(path), _init_command()
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_LARGEST)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise NanoMLError(f"{path}: the proxy cannot be read: {reason}. Make a new one: {remedy}") from None
    try:
        chain = certificates_of(data)
        attributes = voms_attributes(chain)
    except ValueError as problem:
        reason = str(problem).split("\n")[0] or "it is damaged"
        raise NanoMLError(f"{path}: the proxy is damaged ({reason}). Make a new one: {remedy}") from None
    if not chain:
        raise NanoMLError(f"{path}: is not a proxy: there is no certificate in it. Make one: {remedy}")
    owner = next((each for each in chain if not each.is_proxy), chain[-1])
    return Proxy(
        path,
        owner.subject,
        max(each.begins for each in chain),
        min(each.expires for each in chain),
        tuple(attributes),
        chain[0].is_proxy,
        has_key(data),
        status.st_uid,
        stat.S_IMODE(status.st_mode),
    )


def usual_place() -> Path:
    """Where `nanoml proxy init` writes: in the home directory, which the nodes of a batch system see, too."""
    return Path(os.environ.get(VARIABLE) or _at_home())


def _at_home() -> Path:
    # not Path.home(), which fails for a user that is unknown to the machine
    return Path(os.path.expanduser("~"), ".globus", f"x509up_u{os.getuid()}")


def _temporary_place() -> Path:
    """Where grid tools look if X509_USER_PROXY names nothing: only this machine sees it."""
    return Path("/tmp", f"x509up_u{os.getuid()}")


def find_proxy() -> Optional[Path]:
    """The file of the proxy: what X509_USER_PROXY names, or in ~/.globus or /tmp the one that is valid longest.

    Its content is not checked, and what X509_USER_PROXY names need not exist. None if there is no proxy.
    """
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])

    def expires(path: Path) -> datetime:
        try:
            return read_proxy(path).expires
        except NanoMLError:
            return datetime.min.replace(tzinfo=timezone.utc)

    return max((path for path in (_at_home(), _temporary_place()) if path.exists()), key=expires, default=None)


def no_proxy(vo: str = "cms") -> GridProblem:
    """The problem that nobody has made a proxy."""
    what = f"there is no grid proxy: {VARIABLE} is not set, and there is no {_at_home()} or {_temporary_place()}"
    return GridProblem(what, _init_command(vo=vo))


def check_proxy(needed: timedelta = _NOW) -> Proxy:
    """The proxy, if it can be used: it must be of CMS, and valid as long as `needed` from now on.

    Raises NanoMLError if there is none, or it cannot be used, with all reasons and what to do.
    """
    path = find_proxy()
    if path is None:
        raise NanoMLError(f"{no_proxy()}")
    proxy = read_proxy(path)
    problems = proxy.problems(needed)
    if problems:
        raise NanoMLError("\n".join(f"{path}: {problem}" for problem in problems))
    return proxy


def use_proxy() -> Optional[Path]:
    """Make libraries and programs that this process uses find the proxy where `find_proxy` does; return its path."""
    path = find_proxy()
    if path is not None:
        os.environ[VARIABLE] = str(path)
    return path


def init_proxy(vo: str, hours: timedelta, output: Optional[Path] = None) -> list[str]:
    """Make a proxy of a VO by voms-proxy-init, which has the terminal meanwhile: it asks for the password.

    It goes to `output` or the usual place; a proxy that was there before is replaced when the new one is complete. Returns
    lines for the user: where it is, how long it is valid, and if need be how other grid tools find it. Raises NanoMLError if
    voms-proxy-init is not there, or made no proxy.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise NanoMLError(
            f"{_PROGRAM}: is not installed here (on Debian and Ubuntu: package voms-clients). Make the proxy on a machine "
            f"that has it, and copy the file here, readable for you alone."
        )
    path = Path(os.path.abspath(os.path.expanduser(output or usual_place())))
    if path.parent.name == ".globus" and path.parent.parent.is_dir():
        path.parent.mkdir(mode=0o700, exist_ok=True)
    with replacing(path) as aside:
        asked = ["--rfc", "--voms", vo, "--valid", f"{hours // timedelta(hours=1)}:00", "--out", str(aside)]
        code = subprocess.run([program, *asked], check=False, umask=_PRIVATE).returncode
        if code:
            raise NanoMLError(f"{_PROGRAM} made no proxy (exit code {code}): see what it says above.")
        if not aside.is_file():
            raise NanoMLError(f"{_PROGRAM} made no proxy, though it says that it did (exit code 0).")
        aside.chmod(0o600)
    made = read_proxy(path)
    lines = [f"{path}: {made.subject}, VO {made.vo or 'none'}, valid for {duration(made.left())}"]
    if made.left() < hours - _SLACK:
        lines.append(
            f"That is less than the {duration(hours)} that were asked for: your certificate or the VO gives no more."
        )
    lines += [f"But {problem.what}." for problem in made.problems(vo=vo)]
    named = os.environ.get(VARIABLE)
    if (Path(os.path.abspath(named)) if named else _temporary_place()) != path:
        lines += ["For other grid tools, also in ~/.bashrc:", f"    export {VARIABLE}={shlex.quote(str(path))}"]
    return lines
