"""Datacards of Combine, with templates in ROOT files or with counts, as statistical models: equal at nuisance parameters of 0 and ±1."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from os.path import isfile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from MLTools.NanoML.config.fit import LogNormal
from MLTools.NanoML.contracts.bins import STRENGTH, positive
from MLTools.NanoML.contracts.templates import DATA
from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.fit import Reader
from statistical_analysis.model import MOST, FitChannel, Range, StatisticalModel, model_of
from statistical_analysis.samples import LARGE_CHANGE, Floats, Remark, Sample, Shape

EQUAL = {
    "lnN": "but between 0 and ±1 if up is not 1 / down, by half a per cent for 0.9/1.2",
    "shape": "but between 0 and ±1 if the yields up and down are not inverse, by half a per cent for 0.9 and 1.2",
    "shapeN": "at 0 and ±1; elsewhere it is linear instead of logarithmic",
    "lnU": "everywhere: a free factor from 1 / κ to κ",
    "gmN": "everywhere: a channel of its own, in which the events are counted",
    "rateParam": "in its range, which is from 0 to 10 times the start if none is given",
    "param": "at the mean and one sigma aside; elsewhere it is log-normal instead of linear",
    "autoMCStats": "at nominal yields, in bins with more effective events than the threshold, but for the errors of signals",
}
"""Where lines of each kind, in Combine, are equal to the workspace of their model."""
_MAP = re.compile(r"map=\.\*/\(?([^):=]*)\)?\$?:(\w+)\[")
_MISMATCH = 0.01  # of a rate and its template, beyond which Combine stops
_At = tuple[str, str]  # a channel and a process


class _Line(NamedTuple):
    number: int
    words: list[str]


def read_card(path: Path, mass: str = "") -> StatisticalModel:
    """Read a datacard of Combine; a NanoMLError names the line of what cannot be translated.

    In names of files and histograms, $MASS is `mass`. Remarks of the kind "translated" say for all lines where they are equal. The
    strength of the signals is called mu, or as the command for `text2workspace.py` in a comment says.

    Examples
    --------
    >>> from statistical_analysis.workspace import workspace
    >>> workspace(read_card(Path("datacard.txt")))["measurements"][0]["config"]["poi"]
    'mu'
    """
    try:
        with ExitStack() as files:
            return _Card(path, path.read_text().splitlines(), files, mass).model()
    except (OSError, ValueError, IndexError, TypeError) as problem:
        raise NanoMLError(f"{path}: cannot be read as a datacard of Combine: {problem}.") from None


READER = Reader("*", read_card, "`nanoml fit CARD --translate` makes one of a datacard")
"""A card may have any name."""


class _Card:
    """The lines below the rates, and what those above say."""

    def __init__(self, path: Path, text: list[str], files: ExitStack, mass: str) -> None:
        self.path, self.files, self.opened, self.mass = path, files, dict[str, Any](), mass
        lines = [_Line(number, it.partition("#")[0].split()) for number, it in enumerate(text, 1)]
        self.lines = [it for it in lines if it.words and it.words[0][:2] != "--"]
        head = defaultdict[str, list[_Line]](list)
        while self.lines and "rate" not in head:
            head[self.lines[0].words[0].lower()].append(self.lines.pop(0))
        if lacking := [it for it in ("bin", "observation", "process", "rate") if len(head[it]) < 1 + (it == "process")]:
            raise NanoMLError(f"{path}: is not a datacard of Combine: it lacks {lacking[0]}. A workspace is a .json.")
        ids, names = sorted(head["process"][:2], key=lambda it: not re.match("-?[0-9]+$", it.words[1]))
        bins, (seen, *_), (self.rate,), self.rules = head["bin"], head["observation"], head["rate"], head["shapes"]
        self.seen = seen
        self.at = [*zip(bins[-1].words[1:], names.words[1:], strict=False)]
        self.channels = dict(zip(dict.fromkeys(bins[0].words[1:]), self.numbers(seen, seen.words[1:]), strict=False))
        if {*self.channels} != {it for it, _ in self.at}:
            self.fail(seen, "needs one number for each bin")
        others = len({it for _, it in self.at}) - 1
        counts = {"imax": (len(self.channels), "bins"), "jmax": (others, "processes but one")}
        for key, (found, what) in counts.items():
            if (line := next(iter(head[key]), None)) and line.words[1:2] not in ([str(found)], ["*"], ["-1"]):
                self.fail(line, f"does not fit: there are {found} {what}. Correct it, or write *")
        flags = [it for it in self.lines if it.words[1:2] == ["autoMCStats"]]
        flags = [it for it in flags if self.numbers(it, it.words[2:3])[0] >= 0]
        self.with_errors = {it for it in self.channels for flag in flags if fnmatchcase(it, flag.words[0])}
        maps = _MAP.findall(" ".join(it for it in text if it.startswith("# text2workspace.py")))
        strengths = {process: name for processes, name in maps for process in processes.split("|")}
        self.ranges, self.groups, self.scale = dict[str, Range](), dict[str, list[str]](), dict[_At, float]()
        self.counted, self.kinds = dict[str, FitChannel](), defaultdict[str, list[str]](list)
        rates, numbers = (self.columns(it, self.numbers(it, it.words[1:])) for it in (self.rate, ids))
        self.remarks = list[Remark]()
        self.samples = {
            at: self.sample(at, (strengths.get(at[1]) if maps else STRENGTH) if numbers[at] <= 0 else None, rate)
            for at, rate in rates.items()
        }

    def fail(self, line: _Line, what: str) -> NoReturn:
        raise NanoMLError(f"{self.path}:{line.number}: {' '.join(line.words[:2])} {what}.")

    def numbers(self, line: _Line, words: list[str]) -> list[float]:
        with suppress(ValueError):
            found = [float(it) for it in words]
            if np.isfinite(found).all():
                return found
        return self.fail(line, "has something else than numbers")

    def columns(self, line: _Line, cells: list[Any]) -> dict[_At, Any]:
        if len(cells) < len(self.at):
            self.fail(line, f"has {len(cells)} columns, and bin {len(self.at)}")
        return dict(zip(self.at, cells, strict=False))

    def template(self, channel: str, process: str, systematic: str = "") -> Any:
        """A histogram as uproot has it; None of a counting channel, or of a variation that there is not."""
        import uproot

        rules = {(it.words[2], it.words[1]): it for it in self.rules if len(it.words) > 3}
        own = channel if any(it == channel for it, _ in rules) else "*"
        tried = [(own, process), (own, "*"), ("*", process), ("*", "*")]
        line = next((rules[it] for it in tried if it in rules), None)
        if line is None or line.words[3] == "FAKE" or (systematic and len(line.words) < 6):
            if rules and not line:
                self.fail(self.rules[0], f"and others say nothing of {process} in {channel}")
            return None
        text = " ".join([line.words[3], [*line.words, ""][5 if systematic else 4]])
        known = {"$CHANNEL": channel, "$PROCESS": process, "$SYSTEMATIC": systematic, "$MASS": self.mass or "$MASS"}
        for word, value in known.items():
            text = text.replace(word, value)
        file, _, key = text.partition(" ")
        if ":" in key or not file.endswith(".root") or "$MASS" in text:
            why = "needs a mass: give it as --mass" if "$MASS" in text else "RooFit and tables cannot be translated"
            self.fail(line, f"({text}) is not a histogram of a ROOT file: {why}")
        place = self.path.parent / file
        if not isfile(place):
            self.fail(
                line, f"cannot be read: {file} is no file here, and no address is opened. Copy it beside the card"
            )
        try:
            if file not in self.opened:  # its path may be an address for uproot
                self.opened[file] = self.files.enter_context(uproot.open(self.files.enter_context(place.open("rb"))))
            found = self.opened[file].get(key)
            is_histogram = getattr(found, "classname", "").startswith("TH1")
            is_finite = is_histogram and np.isfinite([found.values(), found.variances()]).all()
        except Exception as problem:  # uproot raises whatever its layers raise
            self.fail(line, f"cannot be read: {key} in {file} ({problem})")
        if (found is not None or not systematic) and not is_finite:
            what = "finite number in each bin of" if is_histogram else "one-dimensional histogram"
            self.fail(line, f"has no {what} {key} in {file}")
        return found

    def sample(self, at: _At, strength: str | None, rate: float) -> Sample:
        """A process without uncertainties, as its template is; of which there is nothing, if it is left out."""
        found, has_errors = self.template(*at), at[0] in self.with_errors
        values, errors, total = np.array([rate]), np.zeros(1), rate
        if found is not None:
            values, total = self.contents(found, at), float(found.values().sum())
            errors = np.sqrt(abs(found.variances()))
        if (found is None and rate < 0) or (rate not in (-1, 0) and abs(total - rate) > _MISMATCH * max(1.0, rate)):
            self.fail(self.rate, f"for {at[1]} in {at[0]}: {rate:g} is not the sum of its template, {_sum(found)}")
        if total < 0:
            self.remarks.append(Remark("negative", *at, f"is left out: {total:.3g} expected events"))
        self.scale[at] = 1.0 if rate == -1 or (rate and has_errors) else rate / (total or 1.0)  # as Combine does
        return Sample(at[1], strength, values, has_errors * errors, {}, {}, ())

    def contents(self, histogram: Any, at: _At, is_varied: bool = False) -> Floats:
        """A template as Combine has it: without negative bins; the others are scaled to the same yield unless bins have parameters.

        A remark on what this changes, if it is much or the template is not that of a variation; nothing, if nothing is left.
        """
        values = histogram.values().astype(float)
        if not values.sum() > 0:
            return np.zeros_like(values)
        found, scale = positive(values)
        if at[0] in self.with_errors:
            found = found / scale
        if scale < 1 - LARGE_CHANGE * is_varied:
            below = ", ".join(f"{values[it]:.3g} in bin {it + 1}" for it in np.flatnonzero(values < 0))
            sums = f"{values.sum():.6g} events are {found.sum():.6g} now"
            what = f"{histogram.name}: negative bins are zero for Combine ({below}): {sums}"
            self.remarks.append(Remark("negative", *at, what, 1 - scale))
        return np.asarray(found)

    def model(self) -> StatisticalModel:
        means = {it.words[0]: it for it in self.lines if it.words[1:2] == ["param"]}
        order = {"gmN": 0, "param": 2}  # what changes that nothing is expected, and what others use
        for line in sorted(self.lines, key=lambda it: order.get([*it.words, ""][1], 1)):
            self.systematic(line, means)
        channels = [*map(self.channel, self.channels), *self.counted.values()]
        if not any(it.strength for channel in channels for it in channel.samples):
            self.fail(self.rate, "has no events of a signal, a process with a number of 0 or less")
        said = (f"{it} is equal {EQUAL[it]}: {', '.join(names)}" for it, names in self.kinds.items() if it in EQUAL)
        remarks = [*self.remarks, *(Remark("translated", "", "", it) for it in said)]
        return model_of(channels, self.groups, self.ranges, remarks)

    def channel(self, name: str) -> FitChannel:
        found, mine = self.template(name, DATA), {at: it for at, it in self.samples.items() if at[0] == name}
        samples = tuple(it.times(self.scale[at]) for at, it in mine.items() if self.scale[at] * it.nominal.sum() > 0)
        data, title, edges = np.array([self.channels[name]]), "Events", [0.0, 1.0]
        if found is not None:
            data, edges = found.values().astype(float), found.axis().edges().tolist()
            title = found.member("fXaxis").member("fTitle") or name
        total, seen = float(data.sum()), self.channels[name]
        if total < 0 or (seen != -1 and abs(total - seen) > _MISMATCH * max(1.0, seen)):
            self.fail(self.seen, f"for {name}: {seen:g} is not the sum of its template, {_sum(found)}")
        if (data < 0).any():
            self.fail(self.seen, f"for {name}: {data.min():g} events cannot be observed, as in bin {data.argmin() + 1}")
        if any(it.nominal.shape != data.shape for it in samples):
            self.fail(self.rate, f"does not fit: templates of {name} have different bins")
        fitted = np.sum([np.zeros_like(data), *(it.nominal for it in samples)], axis=0) > 0
        return FitChannel(name, name, None, title, tuple(edges), samples, data, fitted)

    def systematic(self, line: _Line, means: dict[str, _Line]) -> None:
        """Add what a line says."""
        name, kind, *rest = *line.words, *[""] * (len(line.words) == 1)
        shape = re.fullmatch(r"shape(N?)2?(\??)", kind)
        if kind == "group":
            self.groups[name] = [*self.groups.get(name, ()), *rest[1:]]
        elif kind == "rateParam":
            self.free(line, rest, means.get(name))
        elif shape or kind in ("lnN", "lnU", "gmN"):
            for at, cell in self.columns(line, rest[kind == "gmN" :]).items():
                if cell.strip("-0.") and (self.scale[at] or kind == "gmN"):
                    self.samples[at] = self.varied(line, at, cell, shape)
        elif kind == "param" and not any(name in it.factors for it in self.samples.values()):
            self.fail(line, "is not a rateParam: a parameter of RooFit cannot be translated. Remove the line")
        elif kind not in ("param", "autoMCStats", "flatParam"):
            self.fail(line, "cannot be translated: a workspace has no such thing. Remove the line, or use Combine")
        self.kinds[f"shape{shape[1]}" if shape else kind].append(f"{name} (line {line.number})")

    def varied(self, line: _Line, at: _At, cell: str, shape: re.Match[str] | None) -> Sample:
        """The process with what a line says of it."""
        (name, kind, *rest), it = line.words, self.samples[at]
        sides = [self.template(*at, f"{name}{side}") for side in ("Up", "Down")] if shape else [None]
        if name in it.shapes or (shape and name in it.factors):
            self.fail(line, f"appears twice for {at[1]} in {at[0]}")
        if shape and None not in sides:
            (size,), templates = self.numbers(line, [cell]), [self.contents(each, at, True) for each in sides]
            if any(each.shape != it.nominal.shape or not each.sum() > 0 for each in templates):
                self.fail(line, f"leaves nothing of {at[1]} in {at[0]}, or has other bins")
            with np.errstate(all="ignore"):
                moved = [_scaled(it.nominal, each, size, bool(shape[1])) for each in templates]
            if not np.isfinite(moved).all():
                self.fail(line, f"has {cell} for {at[1]} in {at[0]}, of which no number is made")
            return replace(it, shapes={**it.shapes, name: Shape(*moved)})
        if shape and not shape[2]:
            self.fail(line, f"has no templates of {at[1]} in {at[0]}")
        *down, up = self.numbers(line, cell.split("/"))
        factor = LogNormal(up, down[0] if down else 1 / up)
        if min(factor.up, factor.down) <= 0:
            self.fail(line, f"has {cell}, which is not positive")
        if kind == "gmN":
            (events,) = self.numbers(line, rest[:1])
            if not it.nominal.any():  # nothing is expected since nothing was counted
                it = replace(it, nominal=np.ones(1))
            if not events or at[0] not in self.with_errors:
                self.scale[at] = up * (events or 1) / it.nominal.sum()
            own = (Sample(name, None, np.array([events or 1]), np.zeros(1), {}, {}, (name,)),)
            data = (np.array([events]), np.ones(1, bool))
            self.counted[name] = FitChannel(f"{name}_events", name, None, "Events", (0, 1), own, *data)
            self.ranges[name] = Range(float(events > 0))
        elif kind == "lnU":
            known = Range(1.0, *sorted((up, factor.down)))
            if down or self.ranges.setdefault(name, known) != known:
                self.fail(line, "has several sizes, which cannot be translated. Use rateParam")
        else:
            return replace(it, factors={**it.factors, name: factor * it.factors.get(name, LogNormal(1, 1))})
        return replace(it, free=(*it.free, name))

    def free(self, line: _Line, rest: list[str], constraint: _Line | None) -> None:
        """A free factor; with a constraint it has an uncertainty instead, around its mean."""
        bounds = re.fullmatch(r"\[([^,]*),([^,]*)\]", "".join(rest[3:]))
        if len(rest) < 3 or ":" in rest[2] or (rest[3:] and not bounds):
            self.fail(line, "is an expression, or from a file, which cannot be translated")
        start, *ends = self.numbers(line, [rest[2], *(bounds.groups() if bounds else ())])
        name, factor = line.words[0], None
        if constraint is None:
            self.ranges.setdefault(name, Range(start, *(ends or (0.0, MOST * max(1.0, start)))))
        else:
            words = " ".join(constraint.words[2:4]).replace("/", " ").split()
            start, *errors = map(abs, self.numbers(constraint, words))
            if not errors or errors[0] >= start:
                self.fail(constraint, "needs a mean, and an error that is smaller")
            factor = LogNormal(1 + errors[-1] / start, 1 - errors[0] / start)
        for at, it in self.samples.items():
            if fnmatchcase(at[0], rest[0]) and fnmatchcase(at[1], rest[1]):
                self.scale[at] *= start if factor else 1
                more = {"factors": {**it.factors, name: factor}} if factor else {"free": (*it.free, name)}
                self.samples[at] = replace(it, **more)


def _sum(histogram: Any) -> str:
    return "which is missing" if histogram is None else f"{histogram.values().sum():g}"


def _scaled(nominal: Floats, varied: Floats, size: float, is_log: bool) -> Floats:
    """A template at one sigma, from that at 1 / size sigma, as Combine has it: the yield to a power, the shape linear or to a power."""
    if size == 1:
        return varied
    ratio, old, new = varied.sum() / nominal.sum(), nominal / nominal.sum(), varied / varied.sum()
    power = old * np.divide(new, old, out=np.ones_like(old), where=old > 0) ** size
    moved = power if is_log else np.maximum(old + size * (new - old), 0.0)
    return np.asarray(nominal.sum() * ratio**size * moved / moved.sum())
