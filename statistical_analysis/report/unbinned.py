"""The part of the page about channels without bins: what they gain, and what else a referee asks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import poisson

from MLTools.NanoML.contracts.closure import RatioClosure
from MLTools.NanoML.contracts.densities import UnbinnedChannel
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer, digits, percentage, rounded, state_of, table
from MLTools.NanoML.report.section import Block, Caption
from MLTools.NanoML.schema.plain import read_or_none
from statistical_analysis.results import OF_DENSITIES, OF_EVENTS, WITHOUT, Results
from statistical_analysis.toys.experiments import Experiments
from statistical_analysis.unbinned import beyond_simulation

_PAYS = 0.03  # smaller by this share, an error is worth the networks
_FACTOR, _DIFFERENCE, _SPREAD, _PROMISED = (0.03, 0.1), (0.0, 0.2), (0.03, 0.1), (0.03, 0.1)  # have a look, worrying
_NEGATIVE = (0.001, 0.01)
_COVERED = 0.6827
ANCHOR = "unbinned"


def _percent(value: float) -> str:
    return f"{digits(100 * value, 2)} %"


def _of_yields_alone(channel: UnbinnedChannel) -> set[str]:
    """The nuisance parameters that change no density, since no output of the networks is theirs."""
    columns = [key.partition(", ")[2] for key in channel.closure]
    names = {name for it in channel.processes.values() for name in it.up}
    return {name for name in names if not any(it.startswith(name) for it in columns)}


def gain(results: Results) -> tuple[str, str, str]:
    """The verdict on a comparison with bins: question, state and text."""
    errors = {it.way: it.error for it in results.comparisons}
    mine = errors.pop(WITHOUT)
    best, way = min((error, way) for way, error in errors.items())
    share = 1 - mine / best
    numbers = f"the expected error is {rounded(mine)} {WITHOUT}, and {rounded(best)} {way}"
    does = f"gains {_percent(share)}" if share >= _PAYS else f"does not pay, since it gains less than {_percent(_PAYS)}"
    text = f"By its own densities, the fit without bins {does}: {numbers}."
    return "Does a fit without bins pay?", "good" if share >= _PAYS else "look", text


def sign_of_densities(negative: float) -> tuple[str, str, str]:
    """The verdict on the share of negative densities in the expected events: nothing keeps a fit from them where data have no event."""
    state = state_of(negative, _NEGATIVE)
    text = f"At the best fit, negative densities make up {_percent(negative)} of the expected events."
    advice = " Data have no event there. Believe neither strength nor error: fit this region in bins."
    return "Are densities positive?", state, text if state == "good" else text + advice


@dataclass(frozen=True)
class Unbinned:
    """The channels without bins, and the closure of their ratios by channel."""

    channels: Sequence[UnbinnedChannel]
    closures: dict[str, RatioClosure]

    @classmethod
    def read(cls, channels: Sequence[UnbinnedChannel], closures: Mapping[str, Path]) -> Unbinned:
        """What is known of channels."""
        return cls(channels, {name: RatioClosure.read(path) for name, path in closures.items()})

    def answers(self, results: Results) -> Iterator[Answer]:
        """The verdicts."""
        (pays, found, numbers), checks = gain(results), [*self._checks()]
        checks += self._promise({it.way: it.error for it in results.comparisons})
        checks.append(sign_of_densities(results.negative))
        if found == "good" and any(it in ("bad", "open") for _, it, _ in checks):
            found, numbers = "look", f"{numbers} But the ratios are not known well enough to rely on that."
        signals = {name for it in results.by_strength for name in it.signals}
        seen = self._data(signals) if any(it.observed for it in self.channels) else []
        for question, state, text in ((pays, found, numbers), *seen, *checks):
            yield Answer(question, state, text, f"#{ANCHOR}")

    def _data(self, signals: Collection[str]) -> Iterator[tuple[str, str, str]]:
        found = {it.name: beyond_simulation(it, signals) for it in self.channels if it.observed}
        rare = min(float(poisson.sf(count - 1, max(chance, 1e-9))) for count, chance in found.values())
        parts = [
            f"{count} in {name} (by chance {digits(chance, 2)})" for name, (count, chance) in found.items() if count
        ]
        text = f"Events of data that are more like the signal than any simulated one: {listed(parts)}."
        advice = " Look at them: networks have seen nothing there, and a few such events can make a signal."
        state = state_of(rare, (0.05, 0.003))
        text = (
            text + advice * (state != "good")
            if parts
            else "No event of data is more like the signal than all simulated ones."
        )
        yield "Are data where simulation is?", state, text

    def _promise(self, errors: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
        """Ratios with noise separate processes that are not so different: then the fit promises more than its events hold."""
        if OF_EVENTS in errors and OF_DENSITIES in errors:
            promised, held = errors[OF_DENSITIES], errors[OF_EVENTS]
            state = state_of(1 - promised / held, _PROMISED)
            text = f"In the same 10 bins the expected error is {rounded(promised)} by densities, and {rounded(held)} of simulated events."
            less = f" That of the fit without bins is too small by about {_percent(1 - promised / held)}, too."
            yield "Do densities promise what events hold?", state, text if state == "good" else text + less

    def _checks(self) -> Iterator[tuple[str, str, str]]:
        factors = ((abs(it - 1), f"{of.name}, {name}") for of in self.channels for name, it in of.closure.items())
        off, worst = max(factors)
        text = f"Densities are multiplied for this, by a factor of up to {_percent(off)} off one ({worst})."
        yield "As many events by densities as by weights?", state_of(off, _FACTOR), text
        lost = sorted({name for it in self.channels for name in _of_yields_alone(it)})
        text = f"Of {listed(lost)} no network has learned the shape: add shifts to convert.shifts."
        varied = any(it.up for channel in self.channels for it in channel.processes.values())
        text = text if lost else "Each variation has its ratios." if varied else "No variation changes shapes."
        yield "All shapes learned?", "bad" if lost else "good", text
        differing = max((test.difference for it in self.closures.values() for test in it.differing), default=0.0)
        text = " ".join(
            f"{name}: {it.text}" for name, it in sorted(self.closures.items(), key=lambda it: -len(it[1].differing))
        )
        yield "Do reweighted events look like true ones?", state_of(differing, _DIFFERENCE), text
        spread = {name: max(it.spread.values()) / it.seeds**0.5 for name, it in self.closures.items() if it.spread}
        parts = [f"{_percent(each)} in {name} ({self.closures[name].seeds} networks)" for name, each in spread.items()]
        text = f"The mean ratio of the networks of a fold is known to {listed(parts)}, where they differ most."
        text = text if spread else "There is one of each fold. Several, as in `seeds: 3`, show by how much they differ."
        yield "Enough networks?", state_of(max(spread.values()), _SPREAD) if spread else "open", text

    def coverage(self, directory: Path) -> Answer:
        """The verdict by the pseudo-experiments in the directory of the fit; those of an earlier fit do not count."""
        question, link = "Do intervals cover?", f"#{ANCHOR}"
        toys, model = directory / "toys" / "toys.json", directory / "workspace.json"
        is_new = toys.exists() and toys.stat().st_mtime >= model.stat().st_mtime
        found = read_or_none(Experiments, toys) if is_new else None
        if found is None:
            return Answer(question, "open", "`nanoml toys`, and then `nanoml draw`, tell.", link)
        share = float(np.mean(np.abs(found.roots) < 1))
        error = (_COVERED * (1 - _COVERED) / found.count) ** 0.5
        text = (
            f"Intervals of one standard deviation cover in {percentage(share, error)} of {found.count} pseudo-experiments. These are drawn "
            "from the densities, and so do not know what networks got wrong."
        )
        return Answer(question, state_of(abs(share - _COVERED) / error, (2.0, 4.0)), text, link)

    def block(self, results: Results, directory: Path) -> Block:
        """The comparison with fits in bins, and the figures of the closure that there are beside the directory of the fit."""
        ways = [
            (it.way, rounded(it.error), "" if it.limit is None else rounded(it.limit)) for it in results.comparisons
        ]
        figures = [
            (f"../ratios/{it.name}", Caption(it.title, f"{name}: {it.reading}"))
            for name, closure in self.closures.items()
            for it in closure.figures(name)
            if (directory / f"../ratios/{it.name}.png").exists()
        ]
        numbers = table(["", "expected error of the signal strength", "expected limit"], ways)
        return Block(ANCHOR, "Without bins", numbers, figures)
