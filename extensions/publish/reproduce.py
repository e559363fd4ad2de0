"""Reproduce the results that are published beside this file, and find the limit on another signal.

    python reproduce.py
    python reproduce.py --signal 2018=signal.root --cross-section 0.002

It needs the packages of requirements.txt. It ends with 0 if everything agrees, 1 if something differs, 2 if that cannot be told.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, Optional

import awkward as ak
import numpy as np
import onnxruntime
import uproot

HERE = Path(__file__).resolve().parent
CONTENT, SUMS = "capsule.json", "SHA256SUMS"
IDENTIFIERS, WEIGHT = ("run", "luminosityBlock", "event"), "genWeight"
LEVEL = 0.95
BANDS = {
    "expected, -2 sigma": -2, "expected, -1 sigma": -1, "expected": 0, "expected, +1 sigma": 1, "expected, +2 sigma": 2,
}  # fmt: skip
SCORES, LIMITS = 1e-5, 0.01  # how much a score may differ, and a limit, relative
_CHUNK, _ROWS = 50_000, 512  # events that are read and run at once
_HIGHEST = 1e4  # signal strength
_FETCH = "Fetch it again from where it was published."
_NORMAL = NormalDist()
_FUNCTIONS = {
    "abs": np.abs, "sqrt": lambda x: np.sqrt(np.abs(x)), "exp": np.exp, "log": np.log, "pow": np.power, "min": np.minimum,
    "max": np.maximum, "cos": np.cos, "sin": np.sin, "cosh": np.cosh, "sinh": np.sinh, "tanh": np.tanh, "atan2": np.arctan2,
}  # fmt: skip
Events = Mapping[str, Any]


class CapsuleError(Exception):
    """An error: what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Decided:
    """The decisions of a model about events: how many cuts each passes, and whether all; whether that cannot be told."""

    depth: Any
    passed: Any
    failed: Any
    columns: Mapping[str, Any]  # columns of the selection, and outputs of the network, by name


class Model:
    """A model with its selection inside, which reads branches of NanoAOD; `about` is its entry in capsule.json."""

    def __init__(self, directory: Path, about: Mapping[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.about = about
        self.session = onnxruntime.InferenceSession(str(directory / about["file"]), options, ["CPUExecutionProvider"])

    def events(self, path: str, also: Sequence[str] = ()) -> Iterator[Events]:
        """The events of a file, some at a time; an error if it lacks a branch that the model reads, or one of `also`."""
        tree, inputs, defaults = _tree(path, "Events"), self.about["inputs"], self.about["defaults"]
        wanted = dict.fromkeys([*(name for it in inputs for name in it["columns"]), *IDENTIFIERS, *also])
        there = [name for name in wanted if name in tree]
        lost = [name for name in wanted if name not in there and name not in defaults]
        if lost:
            raise CapsuleError(
                f"{path}: has no branch {', '.join(lost)}: it is of another version of NanoAOD than the analysis, or is not simulation. "
                f"Give a file with the branches of {self.about['reference']}."
            )
        for arrays in tree.iterate(there, step_size=_CHUNK):
            found = {name: arrays[name] for name in there}
            for each in inputs:
                like = next((found[name] for name in each["columns"] if name in found), found[IDENTIFIERS[0]])
                for name in (it for it in each["columns"] if it not in found):
                    found[name] = ak.full_like(like, defaults[name], dtype=np.float32)
            yield found

    def __call__(self, events: Events, parameter: Optional[float] = None) -> Decided:
        """Decide about events; each is scored by the network that has not seen it in training."""
        fold = folds([np.asarray(events[name]) for name in IDENTIFIERS], self.about["folds"])
        feeds, failed, found = dict[str, Any](), np.zeros(len(fold), bool), dict[str, Any]()
        for each in self.about["inputs"]:
            values, most = [events[name] for name in each["columns"]], each["max"]
            if most is not None:
                number = np.asarray(ak.num(values[0]))
                failed |= number > most
                values = [ak.to_numpy(ak.fill_none(ak.pad_none(it, most, clip=True), 0)) for it in values]
                feeds[each["mask"]] = (np.arange(most) < number[:, None]).astype(np.float32)
            elif parameter is not None:
                values.append(np.full(len(fold), parameter))
            feeds[each["tensor"]] = np.stack([np.asarray(it, np.float32) for it in values], axis=-1)
        names = [it.name for it in self.session.get_outputs()]
        for number in np.unique(fold):
            rows = np.flatnonzero(fold == number)
            for part in np.array_split(rows, -(-len(rows) // _ROWS)):
                feed = {name: values[part] for name, values in feeds.items()}
                feed["fold"] = np.full((len(part), 1), number, np.float32)
                for name, values in zip(names, self.session.run(None, feed)):
                    found.setdefault(name, np.zeros((len(fold), *values.shape[1:]), values.dtype))[part] = values
        failed |= found["failed"][:, 0] > 0
        columns = dict(zip(self.about["outputs"], np.transpose(found[self.about["scores"]])))
        columns.update(zip(self.about["columns"], np.transpose(found["columns"])) if self.about["columns"] else ())
        depth = np.where(failed, 0, (found["cuts"] > 0).sum(axis=1))
        return Decided(depth, (found["passed"][:, 0] > 0) & ~failed, failed, columns)


def _tree(path: str, name: str) -> Any:
    try:
        return uproot.open(path)[name]
    except Exception as problem:  # uproot raises whatever its layers raise
        raise CapsuleError(f"{path}: {name} cannot be read: {type(problem).__name__}. Give NanoAOD.") from None


def folds(identifiers: Sequence[Any], count: int) -> Any:
    """The fold of each event: mix64(mix64(mix64(run) + luminosityBlock) + event) % k, mix64 of SplitMix64."""
    found: Any = np.uint64(0)
    for each in identifiers:
        found = found + each.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found = found ^ (found >> np.uint64(31))
    return found % np.uint64(count)


def checked(directory: Path) -> dict[str, Any]:
    """The content of the capsule; an error if a file of it is missing or damaged."""
    try:
        lines = (directory / SUMS).read_bytes().decode().split("\n")
        known = {name: digest for digest, name in (line.split("  ", 1) for line in lines[:-1])}
    except (OSError, ValueError):
        raise CapsuleError(f"{SUMS}: is missing or damaged. {_FETCH}") from None
    for name, digest in known.items():
        try:
            found = hashlib.sha256((directory / name).read_bytes()).hexdigest()
        except OSError:
            raise CapsuleError(f"{name}: is missing. {_FETCH}") from None
        if found != digest:
            other = next((it for it, each in known.items() if each == found), None)
            what = f"is {other}, for example of another era" if other else f"was changed after it was listed in {SUMS}"
            raise CapsuleError(f"{name}: {what}. {_FETCH}")
    content: dict[str, Any] = json.loads((directory / CONTENT).read_bytes()) if CONTENT in known else {}
    if lines[-1] or {*content.get("files", ()), CONTENT} != known.keys():
        raise CapsuleError(f"{SUMS}: is damaged: it is not the list of files of {CONTENT}. {_FETCH}")
    return content


def templates(model: Model, fit: Mapping[str, Any], era: str, path: str) -> dict[str, Any]:
    """Sums of weights and of their squares in the bins of the channels of an era, of shape (2, bins), by channel."""
    channels = {name: it for name, it in fit["channels"].items() if it["era"] == era}
    found = {name: np.zeros((2, len(it["fitted"]))) for name, it in channels.items()}
    for events in model.events(path, [WEIGHT, *model.about["also"]]):
        decided, weights = model(events, fit["parameter"]), np.asarray(events[WEIGHT], np.float64)
        flat = {name: np.asarray(it) for name, it in events.items() if it.ndim == 1}
        names = {"__builtins__": {}, **_FUNCTIONS, **flat, **decided.columns}
        for name, about in channels.items():
            with np.errstate(all="ignore"):
                try:
                    inside, *values = (evaluated(text, names) for text in (about["cut"], *about["quantities"]))
                except NameError as problem:
                    raise CapsuleError(f"the cut or a quantity of {name} reads a list ({problem})") from None
                inside = decided.passed & (inside != 0)
                place: Any = 0
                for value, edges in zip(map(np.asarray, values), about["edges"]):
                    last = len(edges) - 2
                    at = np.searchsorted(edges, value, "right") - 1
                    inside = inside & ~np.isnan(value) & (about["is_folded"] | ((at >= 0) & (at <= last)))
                    place = place * (last + 1) + np.clip(at, 0, last)
            for row, each in enumerate((weights, weights**2)):
                found[name][row] += np.bincount(place[inside], each[inside], len(about["fitted"]))
    return found


def evaluated(text: str, names: dict[str, Any]) -> Any:
    """The value of an expression: of arrays and functions with these names, and nothing that is reached from them."""
    if any(isinstance(it, ast.Attribute) for it in ast.walk(ast.parse(text, mode="eval"))):
        raise CapsuleError(f"{CONTENT}: {text}: is not a cut or a quantity. {_FETCH}")
    return eval(text, names)


def sum_of_weights(path: str) -> float:
    """The sum of generator weights of all events that were generated for a NanoAOD file."""
    runs = _tree(path, "Runs")
    name = next((it for it in ("genEventSumw", "genEventSumw_") if it in runs), None)
    if name is None:
        raise CapsuleError(f"{path}: Runs has no genEventSumw. Give NanoAOD of simulation.")
    return float(np.sum(runs[name].array(library="np")))


def limits(workspace: Mapping[str, object], is_observed: bool) -> dict[str, float]:
    """Limits on the signal strength by CLs and asymptotic formulae (arXiv:1007.1727): perhaps the observed one, and those at BANDS."""
    import pyhf  # takes a second

    made = pyhf.Workspace(workspace)
    model = made.model(measurement_index=0)
    data, poi, bounds = made.data(model), model.config.poi_index, model.config.suggested_bounds()
    bounds[poi], fit = (0.0, _HIGHEST), pyhf.infer.mle.fixed_poi_fit
    without = fit(0.0, data, model, par_bounds=bounds)
    asimov = model.expected_data(without)

    @cache
    def profile(strength: float, is_asimov: bool) -> float:
        of = asimov if is_asimov else data
        return float(fit(strength, of, model, without.tolist(), bounds, return_fitted_val=True)[1])

    def distance(strength: float) -> float:
        return float(np.sqrt(max(profile(strength, True) - profile(0.0, True), 0.0)))

    wanted = [band - _NORMAL.inv_cdf((1 - LEVEL) * _NORMAL.cdf(band)) for band in BANDS.values()]
    expected = {name: _crossing(distance, at) for name, at in zip(BANDS, wanted)}
    if not is_observed:
        return expected
    best, lowest = pyhf.infer.mle.fit(data, model, par_bounds=bounds, return_fitted_val=True)

    def confidence(strength: float) -> float:
        """CLs, with a minus."""
        q, far = max(profile(strength, False) - float(lowest), 0.0) * (strength > best[poi]), distance(strength)
        shift = np.sqrt(q) - far if q <= far**2 else (q - far**2) / (2 * far)
        return -_NORMAL.cdf(-shift - far) / max(_NORMAL.cdf(-shift), 1e-300)

    return {"observed": _crossing(confidence, LEVEL - 1), **expected}


def _crossing(rising: Callable[[float], float], wanted: float) -> float:
    """Where a function that rises has a value, to about 1e-3."""
    low, high = 0.0, 1.0
    while rising(high) < wanted:
        low, high = high, 2 * high
        if high > _HIGHEST:
            raise CapsuleError(f"The limit on the signal strength is above {_HIGHEST:g}: the signal is too small.")
    while True:
        share = (wanted - rising(low)) / (rising(high) - rising(low))
        middle = low + (high - low) * min(max(share, 0.05), 0.95)
        value = rising(middle)
        if abs(value - wanted) < 1e-3 * abs(wanted) or high - low < 1e-4 * high:
            return middle
        low, high = (middle, high) if value < wanted else (low, middle)


def with_signal(workspace: Mapping[str, object], events: Mapping[str, Any]) -> dict[str, Any]:
    """The likelihood with another signal in the place of the published one, of whose uncertainties it gets those of the yield.

    In bins where the published signal has next to no events, its changes of the shape are noise.
    """
    made: dict[str, Any] = copy.deepcopy(dict(workspace))
    poi = made["measurements"][0]["config"]["poi"]
    for channel in made["channels"]:
        mine = [it for it in channel["samples"] if any(each["name"] == poi for each in it["modifiers"])]
        channel["samples"] = [it for it in channel["samples"] if it not in mine[1:]]
        for sample in mine[:1]:
            sample["data"] = events[channel["name"]].tolist()
            sample["modifiers"] = [it for it in sample["modifiers"] if it["type"] in ("normfactor", "normsys")]
    return made


def reproduce(directory: Path, content: Mapping[str, Any]) -> bool:
    """Decide about the reference events again, and find the limits again; whether all is as it was published."""
    agreed = list[bool]()

    def tell(text: str, is_same: bool) -> None:
        agreed.append(is_same)
        print(f"{text}: {'agrees' if is_same else 'DIFFERS'}")

    for era, about in content["models"].items():
        model, names = Model(directory, about), about["outputs"]
        parts, largest, known_names = list[Any](), 0.0, ("n_cuts", "passed", "failed")
        also = [*known_names, *(f"score_{it}" for it in names)]
        for events in model.events(str(directory / about["reference"]), also):
            found = model(events, about["parameter"])
            known = [np.asarray(events[it]) for it in known_names]
            parts.append((found.depth, known[0], (found.passed == known[1]) & (found.failed == known[2])))
            gaps = [np.abs(found.columns[it] - np.asarray(events[f"score_{it}"]))[found.passed] for it in names]
            largest = max(largest, np.max(gaps, initial=0.0))
        depth, before, is_same = (np.concatenate(it) for it in zip(*parts))
        right = int((is_same & (depth == before)).sum())
        print(f"{about['reference']}: {len(depth)} events of simulation {era}")
        for number, cut in enumerate(["all", *about["cuts"]]):
            here, published = (int((it >= number).sum()) for it in (depth, before))
            print(f"  {cut:32} {here:6} {here / len(depth):8.2%}   published {published:6}")
        tell(f"  {right} decisions are as published", right == len(depth) == about["events"])
        tell(f"  scores differ by up to {largest:.1g}", largest < SCORES)
    for fit in content["fits"]:
        workspace, before = json.loads((directory / fit["likelihood"]).read_bytes()), fit["observed"]
        again, then = limits(workspace, before is not None), {"observed": before, **dict(zip(BANDS, fit["expected"]))}
        print(f"{fit['likelihood']}: limit on the signal strength at {LEVEL:.0%} CL, asymptotic")
        for name, limit in again.items():
            is_same = abs(limit / then[name] - 1) < LIMITS
            tell(f"  {name:18} {limit:9.4g}   published {then[name]:9.4g}", is_same)
    return all(agreed)


def recast(directory: Path, content: Mapping[str, Any], given: argparse.Namespace) -> None:
    """Put another signal into the likelihood, and print the limit on it."""
    fit = next((it for it in content["fits"] if given.fit in (None, it["name"])), None)
    if fit is None or fit["why_not"]:
        known = ", ".join(it["name"] or "one without a name: leave out --fit" for it in content["fits"])
        why = fit["why_not"] if fit else f"there is no likelihood {given.fit}, but {known}"
        raise CapsuleError(f"Another signal cannot be put into it: {why}.")
    workspace = json.loads((directory / fit["likelihood"]).read_bytes())
    files, sigmas = _by_era(given.signal, content["models"]), _by_era(given.cross_section, content["models"], float)
    if any(len(it) > 1 or not 0 < it[0] < np.inf for it in sigmas.values()):
        raise CapsuleError(f"{' '.join(given.cross_section)}: give each era one positive cross section.")
    events, errors = dict[str, Any](), list[float]()
    for era, about in content["models"].items():
        model = Model(directory, about)
        parts = [templates(model, fit, era, path) for path in files[era]]
        total = sum(map(sum_of_weights, files[era]))
        if not total > 0:
            raise CapsuleError(f"{files[era][0]}: the weights of all generated events have the sum {total:g}.")
        for name in parts[0]:
            it, sums = fit["channels"][name], sum(part[name] for part in parts)
            scale = it["average"] * sigmas[era][0] * 1000 * it["luminosity"] / total
            bins, error = scale * sums[0][it["fitted"]], scale * np.sqrt(sums[1].sum())
            kept = np.maximum(bins, 0.0)  # the others scaled to the same sum, as in the analysis
            events[name] = kept * max(bins.sum(), 0.0) / max(kept.sum(), 1e-300)
            errors.append(error / max(events[name].sum(), 1e-300))
            print(f"{name}: {events[name].sum():.4g} ± {error:.2g} (statistics) events of the signal")
    size = sum(float(it.sum()) for it in events.values()) / fit["events"]
    if not size > 0:
        raise CapsuleError("No event of the new signal is in the channels of the fit: there is no limit on it.")
    # of the size of the published signal, so that fits begin near their end
    scaled = with_signal(workspace, {name: it / size for name, it in events.items()})
    found = limits(scaled, fit["observed"] is not None)
    where = f"{fit['likelihood']}: limit at {LEVEL:.0%} CL"
    print(f"{where} on its strength, and on its cross section [pb] {' '.join(sigmas)}".rstrip())
    for name, limit in found.items():
        limits_on = (f"{limit / size * it[0]:9.4g}" for it in sigmas.values())
        print(f"  {name:18} {limit / size:9.4g}  {' '.join(limits_on)}")
    averages = ", ".join(f"{it['average']:.3f} in {name}" for name, it in fit["channels"].items())
    weights = ", ".join(content["weights"]) or "none"
    print(f"weights ({weights}): not computed, but on average as for the published signal: {averages}")
    raw = ", ".join(dict.fromkeys(name for about in content["models"].values() for name in about["corrected"]))
    if raw:
        print(f"calibration of {raw}: not computed, but in these averages; branches are taken as in the file")
    print(f"uncertainties computed: {', '.join(fit['luminosity']) or 'none'}, the same for every signal")
    print(f"uncertainties carried over from the yield of the published signal: {', '.join(fit['carried']) or 'none'}")
    print(
        "uncertainties missing: theory of the new signal (scales, parton distributions); shapes; other averages; statistics of "
        f"its simulation, up to {max(errors):.1%} in a channel"
    )
    if given.output:
        Path(given.output).write_text(json.dumps(with_signal(workspace, events), indent=1) + "\n", encoding="utf-8")


def _by_era(texts: Sequence[str], eras: Collection[str], kind: Callable[[str], object] = str) -> dict[str, list[Any]]:
    """Values of ERA=VALUE, or of VALUE for all eras, by era."""
    found = dict[str, list[Any]]()
    for text in texts:
        name, _, value = text.partition("=")
        for era in [name] if name in eras else eras:
            try:
                found.setdefault(era, []).append(kind(value if name in eras else text))
            except ValueError:
                raise CapsuleError(f"{text}: is not a number, nor one of an era: {', '.join(eras)}.") from None
    lost = [era for era in eras if era not in found]
    if lost:
        raise CapsuleError(f"{texts[0]}: nothing is given for {', '.join(lost)}: add {lost[0]}=VALUE.")
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--signal", action="append", metavar="[ERA=]FILE", help="NanoAOD of another signal; may be repeated")
    add("--cross-section", action="append", metavar="[ERA=]PB", help="its cross section [pb]; may be repeated")
    add("--fit", metavar="NAME", help="the likelihood that the signal is put into, if there are several")
    add("-o", "--output", metavar="FILE", help="write the likelihood with the new signal")
    given = parser.parse_args()
    if (given.signal is None) != (given.cross_section is None):
        parser.error("--signal and --cross-section belong together")
    try:
        content = checked(HERE)
        if given.signal is not None:
            recast(HERE, content, given)
            return 0
        agrees = reproduce(HERE, content)
        print("Everything agrees." if agrees else "Something DIFFERS.")
        return 0 if agrees else 1
    except (CapsuleError, ImportError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    except Exception as problem:  # whatever the packages raise about a damaged file
        print(f"A file is not what {CONTENT} says: {type(problem).__name__}: {problem}. {_FETCH}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
