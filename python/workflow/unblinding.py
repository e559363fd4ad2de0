"""Which data are blind, and the log of who looked at them: when, why, and what was expected until then."""

from __future__ import annotations

import getpass
import json
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.config.histogram import EVERYWHERE, signal_of
from MLTools.NanoML.contracts.plain import build, plain
from MLTools.NanoML.contracts.templates import BlindBins
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


@dataclass(frozen=True)
class Blinded:
    """The data that must not be looked at: those of some regions, and in others those of bins in which the signal may show.

    Attributes
    ----------
    regions, because
        The regions, and why these; EVERYWHERE alone if there are no regions and all is blind.
    limit
        The expected S / sqrt(B) above which a bin is blind; None for no bin.
    signal
        The class that is the signal, if it is known, and how many events are expected.
    """

    regions: tuple[str, ...] = ()
    because: str = ""
    limit: Optional[float] = None
    signal: Optional[str] = None

    @property
    def bins(self) -> Optional[BlindBins]:
        """The blind bins of histograms."""
        return BlindBins(self.signal, self.limit) if self.signal is not None and self.limit is not None else None

    def __contains__(self, region: str) -> bool:
        return region in self.regions or EVERYWHERE in self.regions


def signal_data(config: Config) -> Blinded:
    """The data that nobody sees until the analysis is unblinded."""
    limit, signal = config.blind.signal_over_root_background, _signal(config)
    if config.blind.regions:
        return Blinded(tuple(config.blind.regions), "`blind.regions` names them", limit, signal)
    if config.train is not None:
        regions = config.train.regions or list(config.regions) or [EVERYWHERE]
        return Blinded(tuple(regions), "networks are trained there", limit, signal)
    fitted = tuple(config.fit.channels) if config.fit is not None else ()
    return Blinded(fitted, "they are fitted", limit, signal)


def _signal(config: Config) -> Optional[str]:
    """The class that data are not expected to have; None if none is named, or numbers of events are not known."""
    simulated = [name for name in config.datasets if config.process_of(name)]
    if any(None in (config.cross_section_of(name), config.luminosity_of(name)) for name in simulated):
        return None
    if config.fit is not None and config.fit.signal is not None:
        return config.fit.signal
    found, is_named = signal_of(config), config.train is not None and config.train.signal is not None
    return found if config.fit is not None or is_named or found == "signal" else None


def blind_data(config: Config) -> Blinded:
    """The same, as long as nobody has unblinded the analysis; then nothing."""
    return Blinded() if unblinding(config) else signal_data(config)


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
