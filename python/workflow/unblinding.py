"""Which regions are blind, and the log of who looked at their data: when, why, and what was expected until then."""

from __future__ import annotations

import getpass
import json
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.config.histogram import EVERYWHERE
from MLTools.NanoML.contracts.plain import build, plain
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.stages import Layout

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

SCHEMA = 1


@dataclass(frozen=True)
class Unblinding:
    """An entry of the log: somebody made an analysis show the data of its signal regions."""

    who: str  # user@host
    at: str  # date and time with time zone, ISO 8601
    because: str
    expected: str  # the result of the fit to expected data, in words

    def __str__(self) -> str:
        return f"unblinded by {self.who} on {self.at[:10]}"


def signal_regions(config: Config) -> tuple[str, ...]:
    """The regions whose data must not be looked at: those that are trained on; without a training, those that are fitted."""
    if config.train is None:
        return tuple(config.fit.channels) if config.fit is not None else ()
    return tuple(config.train.regions or config.regions or [EVERYWHERE])


def blind_regions(config: Config) -> tuple[str, ...]:
    """The signal regions of an analysis, as long as nobody has unblinded it."""
    return () if unblinding(config) else signal_regions(config)


def unblinding(config: Config) -> Optional[Unblinding]:
    """When and by whom the analysis was unblinded, at last; None if it is blind."""
    log = _log(config)
    return log[-1] if log else None


def unblind(config: Config, because: str, expected: str) -> Unblinding:
    """Append an entry to the log: from now on all stages use the data of signal regions."""
    entry = Unblinding(
        f"{getpass.getuser()}@{platform.node()}",
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        because,
        expected,
    )
    content = {"schema": SCHEMA, "unblinded": plain([*_log(config), entry])}
    write_json(Layout.of(config).unblinded, content)
    return entry


def expected_result(config: Config) -> str:
    """What the fit expects, in words; an error if it has not been done."""
    path = Layout.of(config).fit / "results.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["summary"])
    except (OSError, KeyError, TypeError, ValueError):
        raise NanoMLError(f"{path}: is missing or damaged. `nanoml fit` makes it.") from None


def _log(config: Config) -> list[Unblinding]:
    path = Layout.of(config).unblinded
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise NanoMLError(f"{path}: schema {content['schema']}, this NanoML reads {SCHEMA}. Take a newer NanoML.")
        return [build(Unblinding, entry) for entry in content["unblinded"]]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        raise NanoMLError(
            f"{path}: is damaged. Take it from a copy, or remove it: then the analysis is blind again."
        ) from None
