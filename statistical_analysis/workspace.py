"""The statistical model for other programs: a workspace of pyhf, and a datacard of Combine with its templates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.bins import split
from MLTools.NanoML.contracts.templates import DATA
from MLTools.NanoML.rootio.histograms import root_histogram
from statistical_analysis.model import EFFECTIVE_EVENTS, MOST, FitChannel, Range, StatisticalModel
from statistical_analysis.samples import Remark, Sample, Shape

OURS = "nanoml"
"""The measurement of a workspace that NanoML made."""
_Modifier = dict[str, Any]
CARDS = CARD, TEMPLATES = "datacard.txt", "templates.root"
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_RULE = "-" * 80
Floats = NDArray[np.float64]


def workspace(model: StatisticalModel) -> dict[str, Any]:
    """Make a workspace, in the format of pyhf 0.7 (its schema 1.0.0), and check it.

    - A signal has a strength, from zero to MOST: `with_range` widens this when its results are known. With several strengths there is a
      measurement for each, which has it as its parameter of interest; all are fitted in each.
    - A log-normal uncertainty is a `normsys` with its factors.
    - A shape is split into the change of the yield, a `normsys`, and the rest, a `histosys`, under one name, as Combine splits it. At
      +1 and -1 sigma their product is the shape.
    - Statistical errors are a `staterror` for each channel: a parameter for each bin, with a Gaussian constraint by the errors of all
      backgrounds together (Barlow-Beeston light). The signal has none: the error would not follow its strength, and with the
      relative error of both the background would be known too well where there is much signal. Combine gives each process its own
      where `model.EFFECTIVE_EVENTS` effective background events are expected or fewer; the model has a remark on each of these bins.
    - A free normalisation is a `normfactor`.

    Raises
    ------
    pyhf.exceptions.InvalidSpecification
        It does not agree with the schema, which is a mistake of this module.
    """
    import pyhf  # takes a second

    ranges = {name: model.ranges.get(name, Range()) for name in (*model.strengths, *model.free)}
    parameters = [{"name": name, "inits": [it.start], "bounds": [[it.low, it.high]]} for name, it in ranges.items()]
    made = {
        "version": "1.0.0",
        "channels": [{"name": it.name, "samples": [_sample(it, each) for each in it.samples]} for it in model.channels],
        "observations": [{"name": it.name, "data": it.data[it.fitted].tolist()} for it in model.channels],
        "measurements": [
            {"name": f"{OURS}_{name}" if number else OURS, "config": {"poi": name, "parameters": parameters}}
            for number, name in enumerate(model.strengths)
        ],
    }
    pyhf.schema.validate(made, "workspace.json")
    return made


def with_range(made: Mapping[str, Any], highest: Mapping[str, float]) -> dict[str, object]:
    """A workspace in which other programs find signal strengths up to at least twice the highest that matters, of each."""
    parameters = made["measurements"][0]["config"]["parameters"]
    wider = [{**it, "bounds": [[0.0, max(MOST, 2 * highest.get(it["name"], 0.0))]]} for it in parameters]
    measurements = [{**it, "config": {**it["config"], "parameters": wider}} for it in made["measurements"]]
    return {**made, "measurements": measurements}


def _sample(channel: FitChannel, sample: Sample) -> dict[str, Any]:
    """A process in the bins that are fitted."""
    nominal, errors = sample.nominal[channel.fitted], sample.errors[channel.fitted]
    own = {"name": f"mcstat_{channel.name}", "type": "staterror", "data": errors.tolist()}
    factors = [{"name": it, "type": "normfactor", "data": None} for it in (sample.strength, *sample.free) if it]
    modifiers: list[_Modifier] = [own, *factors] if errors.any() and not sample.strength else factors
    for name, factor in sample.factors.items():
        modifiers.append(_normsys(name, factor.up, factor.down))
    for name, shape in sample.shapes.items():
        modifiers.extend(_split(name, nominal, Shape(shape.up[channel.fitted], shape.down[channel.fitted])))
    return {"name": sample.process, "data": nominal.tolist(), "modifiers": modifiers}


def _normsys(name: str, up: float, down: float) -> _Modifier:
    return {"name": name, "type": "normsys", "data": {"hi": up, "lo": down}}


def _split(name: str, nominal: NDArray[np.float64], shape: Shape) -> list[_Modifier]:
    """The change of the yield, and that of the shape at the same yield."""
    (up,), (down,), *same_yield = split(nominal, shape.up, shape.down)
    rest = dict(zip(("hi_data", "lo_data"), (each.tolist() for each in same_yield), strict=True))
    return [_normsys(name, float(up), float(down)), {"name": name, "type": "histosys", "data": rest}]


def write_datacard(model: StatisticalModel, directory: Path) -> Path:
    """Write a datacard and the ROOT file that it names into `directory`, which is made; return the card.

    Combine calls the strength of the signal r; if there are several, the card begins with the command that gives them their names. Shapes
    and log-normal uncertainties, and what shares them, are those of `workspace`; a free normalisation is a `rateParam`. Statistical errors
    are those of the templates (`autoMCStats`). Names are those of `for_combine`.
    """
    model = for_combine(model)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / TEMPLATES) as aside:
        _write_templates(model, aside)
    with replacing(directory / CARD) as aside:
        aside.write_text("\n".join(_card(model)) + "\n")
    return directory / CARD


def for_combine(model: StatisticalModel) -> StatisticalModel:
    """The model with names that Combine can take, which are letters, digits and _; a remark says what is renamed."""
    samples = [sample for channel in model.channels for sample in channel.samples]
    regions = _safe([channel.name for channel in model.channels])
    processes = _safe([DATA, *(sample.process for sample in samples)])
    parameters = _safe([*model.nuisances, *model.free])
    channels = tuple(
        replace(it, name=regions[it.name], samples=tuple(_renamed(each, processes, parameters) for each in it.samples))
        for it in model.channels
    )
    new = {name: safe for each in (regions, processes, parameters) for name, safe in each.items() if name != safe}
    remarks = (Remark("renamed", "", "", f"{name} is {safe} in the datacard") for name, safe in new.items())
    return replace(
        model,
        strengths={name: [processes[it] for it in each if it in processes] for name, each in model.strengths.items()},
        channels=channels,
        groups={group: tuple(parameters[name] for name in names) for group, names in model.groups.items()},
        free=tuple(parameters[name] for name in model.free),
        ranges={parameters.get(name, name): it for name, it in model.ranges.items()},
        remarks=(*model.remarks, *remarks),
    )


def _safe(names: Sequence[str]) -> dict[str, str]:
    """Names for Combine; those that it can take stay, and no two become one."""
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda it: not _NAME.fullmatch(it)):
        safe = name if _NAME.fullmatch(name) else re.sub("[^A-Za-z0-9_]", "_", re.sub("^(?=[0-9])", "_", name))
        while name not in found and safe in found.values():
            safe += "_"
        found.setdefault(name, safe)
    return found


def _renamed(sample: Sample, processes: Mapping[str, str], parameters: Mapping[str, str]) -> Sample:
    return replace(
        sample,
        process=processes[sample.process],
        shapes={parameters[name]: shape for name, shape in sample.shapes.items()},
        factors={parameters[name]: factor for name, factor in sample.factors.items()},
        free=tuple(parameters[name] for name in sample.free),
    )


def _card(model: StatisticalModel) -> Iterator[str]:
    columns = [(channel, sample) for channel in model.channels for sample in channel.samples]
    signals = dict.fromkeys(sample.process for _, sample in columns if sample.strength)
    processes = [*{**signals, **dict.fromkeys(sample.process for _, sample in columns)}]
    numbers = {name: number for number, name in enumerate(processes, 1 - len(signals))}
    what = "observed" if model.asimov is None else f"expected, with a signal of strength {model.asimov:g}"
    others = ", the others of 1" if model.asimov is not None and len(model.strengths) > 1 else ""
    yield f"# Data are {what}{others}."
    if len(model.strengths) > 1:
        maps = (f"--PO 'map=.*/({'|'.join(it)})$:{name}[1,0,{MOST:g}]'" for name, it in model.strengths.items())
        yield f"# text2workspace.py {CARD} -P HiggsAnalysis.CombinedLimit.PhysicsModel:multiSignalModel {' '.join(maps)}"
    yield from (f"# {remark.what}" for remark in model.remarks if remark.kind == "renamed")
    yield f"imax {len(model.channels)}"
    yield f"jmax {len(numbers) - 1}"
    yield "kmax *"
    yield _RULE
    yield f"shapes * * {TEMPLATES} $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC"
    yield _RULE
    yield _row("bin", "", [channel.name for channel in model.channels])
    yield _row("observation", "", [_number(channel.data[channel.fitted].sum()) for channel in model.channels])
    yield _RULE
    yield _row("bin", "", [channel.name for channel, _ in columns])
    yield _row("process", "", [sample.process for _, sample in columns])
    yield _row("process", "", [str(numbers[sample.process]) for _, sample in columns])
    yield _row("rate", "", [_number(sample.nominal.sum()) for _, sample in columns])
    yield _RULE
    for name in model.nuisances:
        kind = "shape" if any(name in it.shapes for _, it in columns) else "lnN"
        is_both = kind == "shape" and any(name in it.factors for _, it in columns)
        yield _row(name, f"{kind}{'?' * is_both}", [_effect(name, sample) for _, sample in columns])
    for channel, sample in columns:
        for name in sample.free:
            it = model.ranges.get(name, Range())
            yield f"{name} rateParam {channel.name} {sample.process} {it.start:.12g} [{it.low:.12g},{it.high:.12g}]"
    yield f"* autoMCStats {EFFECTIVE_EVENTS}"
    for group, names in model.groups.items():
        yield f"{group} group = {' '.join(names)}"


def _row(name: str, kind: str, cells: Sequence[str]) -> str:
    return " ".join([f"{name:<30}", f"{kind:<6}", *(f"{cell:<20}" for cell in cells)]).rstrip()


def _number(value: float) -> str:
    """A number as exact as it is: Combine compares it with the sum of a template."""
    return repr(float(value))


def _effect(name: str, sample: Sample) -> str:
    if name in sample.shapes:
        return "1"
    if name not in sample.factors:
        return "-"
    factor = sample.factors[name]
    is_symmetric = math.isclose(factor.up * factor.down, 1)
    return _number(factor.up) if is_symmetric else f"{_number(factor.down)}/{_number(factor.up)}"


def _write_templates(model: StatisticalModel, path: Path) -> None:
    import uproot

    with uproot.recreate(path) as file:
        for channel in model.channels:
            axes = [(channel.title, channel.edges)]
            for name, *contents in _templates(channel):
                padded = (np.pad(each, 1) for each in contents)
                file[f"{channel.name}/{name}"] = root_histogram(name, channel.name, axes, *padded)


def _templates(channel: FitChannel) -> Iterator[tuple[str, Floats, Floats]]:
    """Each template with its name, contents and squared errors."""
    data = np.where(channel.fitted, channel.data, 0.0)  # bins in which nothing is expected are no part of the fit
    yield DATA, data, data
    for sample in channel.samples:
        variances = sample.errors**2
        yield sample.process, sample.nominal, variances
        for name, shape in sample.shapes.items():
            yield f"{sample.process}_{name}Up", shape.up, variances
            yield f"{sample.process}_{name}Down", shape.down, variances
