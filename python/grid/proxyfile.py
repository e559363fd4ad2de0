"""What the file of a grid proxy says, and what is wrong with it."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.grid.attributes import VOMS, Attributes, attributes_of
from MLTools.NanoML.grid.certificates import Certificate, certificates_of, has_key

__all__ = ["LONGEST", "NOW", "Problem", "Proxy", "duration", "init_command", "read_proxy", "user_name"]

LONGEST = timedelta(hours=192)
"""For how long CMS gives proxies."""

NOW = timedelta(0)
"""How long a proxy must be valid that is used at once."""

_LARGEST = 1 << 20  # bytes


@dataclass(frozen=True)
class Problem:
    """Why a proxy cannot be used.

    Attributes
    ----------
    what
        In words, without a full stop.
    remedy
        The command that mends it.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}. Mend it: {self.remedy}"


@dataclass(frozen=True)
class Proxy:
    """A proxy, as its file says. Its private key is not read.

    Attributes
    ----------
    path
        The file.
    subject
        Whose it is, as in "/DC=ch/DC=cern/CN=Jane".
    begins, expires
        When all of its certificates are valid.
    attributes
        Membership in VOs; none without VOMS.
    is_proxy
        False for a certificate that a CA signed.
    has_key
        Whether the file has the private key that belongs to it.
    owner
        User id of the file.
    mode
        Permissions of the file.
    """

    path: Path
    subject: str
    begins: datetime
    expires: datetime
    attributes: tuple[Attributes, ...]
    is_proxy: bool
    has_key: bool
    owner: int
    mode: int

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
        """When what the VO says ends, which may be before the proxy does."""
        return self.attributes[0].expires if self.attributes else None

    def left(self, now: Optional[datetime] = None) -> timedelta:
        """How long it can still be used with its VO; negative after that."""
        ends = [self.expires, *(each.expires for each in self.attributes[:1])]
        return min(ends) - (now or _now())

    def problems(
        self, needed: timedelta = NOW, vo: str = "cms", now: Optional[datetime] = None
    ) -> list[Problem]:
        """What is wrong with it; nothing if it can be used.

        Parameters
        ----------
        needed
            How long it must be valid from now on.
        vo
            The VO that it must be of.
        now
            The time, if it is not now.
        """
        now, again = now or _now(), init_command(needed, vo)
        found = list(self._of_the_file(again))
        if not self.is_proxy:
            return [*found, Problem("this is a certificate, not a proxy", again)]
        late = list(_of_time("the proxy", self.begins, self.expires, needed, now, again))
        ours = [each for each in self.attributes if each.vo == vo]
        if not ours:
            other = f"of the VO {self.vo}, not of {vo}" if self.vo else f"of no VO, and {vo} is needed"
            late.append(Problem(f"the proxy is {other}", again))
        elif not late:
            late += _of_time(f"its membership in {vo}", ours[0].begins, ours[0].expires, needed, now, again)
        return found + late

    def _of_the_file(self, again: str) -> Iterator[Problem]:
        if self.owner != os.getuid():
            yield Problem(f"the proxy belongs to {user_name(self.owner)}, not to you", again)
        elif self.mode & 0o077:
            kept = f"chmod 600 {shlex.quote(str(self.path))}"
            yield Problem(f"the proxy can be read by others (permissions {self.mode:04o})", kept)
        if self.is_proxy and not self.has_key:
            yield Problem("the proxy has no private key, so that nothing can be done with it", again)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _of_time(
    what: str, begins: datetime, expires: datetime, needed: timedelta, now: datetime, again: str
) -> Iterator[Problem]:
    if expires <= now:
        yield Problem(f"{what} expired {duration(now - expires)} ago", again)
    elif expires < now + needed:
        left = f"{what} is valid for {duration(expires - now)} more, but {duration(needed)} are needed"
        yield Problem(left, again)
    elif begins > now:
        yield Problem(
            f"{what} is valid in {duration(begins - now)} only: is the clock of this machine right?", "date"
        )


def init_command(needed: timedelta = NOW, vo: str = "cms") -> str:
    """The command that makes a proxy that lasts."""
    hours = f" --hours {-(-needed // timedelta(hours=1))}" if needed > LONGEST else ""
    return "nanoml proxy init" + hours + (f" --vo {shlex.quote(vo)}" if vo != "cms" else "")


def user_name(uid: int) -> str:
    """Name of a user, or the number of one who has none."""
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
    """Read a proxy; also one that has expired, or that has other problems.

    Raises
    ------
    NanoMLError
        The file is not there, or no certificate.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_LARGEST)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise NanoMLError(
            f"{path}: the proxy cannot be read: {reason}. Make a new one: {init_command()}"
        ) from None
    try:
        chain = certificates_of(data)
        attributes = _attributes(chain)
    except ValueError as problem:
        reason = str(problem).split("\n")[0] or "it is damaged"
        raise NanoMLError(
            f"{path}: the proxy is damaged ({reason}). Make a new one: {init_command()}"
        ) from None
    if not chain:
        raise NanoMLError(f"{path}: is no proxy: there is no certificate in it. Make one: {init_command()}")
    owner = next((each for each in chain if not each.is_proxy), None)
    return Proxy(
        path,
        owner.subject if owner else chain[-1].subject,
        max(each.begins for each in chain),
        min(each.expires for each in chain),
        tuple(attributes),
        chain[0].is_proxy,
        has_key(data),
        status.st_uid,
        stat.S_IMODE(status.st_mode),
    )


def _attributes(chain: list[Certificate]) -> list[Attributes]:
    """Of the first proxy that has some: a proxy of a proxy has none of its own."""
    having = (each.extensions[VOMS] for each in chain if VOMS in each.extensions)
    extension = next(having, None)
    return attributes_of(extension) if extension is not None else []
