"""What is in a fit: its processes, and whether the training expected as many events of each."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from MLTools.NanoML.config.fit import EVERYWHERE
from MLTools.NanoML.contracts.templates import DATA, Origin, Template, Templates, added
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer, digits
from MLTools.NanoML.schema.plain import content_of
from statistical_analysis.model import StatisticalModel
from statistical_analysis.results import FittedProcess

_ROUNDING = 1e-4  # relative, of a sum of weights
_MOST = 8  # names in a sentence
_NOTHING = Template(np.zeros(1), np.zeros(1))


def fitted_processes(model: StatisticalModel, origins: Mapping[str, Origin]) -> tuple[FittedProcess, ...]:
    """The processes of all channels, but for statistical errors of single bins."""
    names: dict[str, dict[str, None]] = {}
    for it in (sample for channel in model.channels for sample in channel.samples):
        own = [it.free] if it.free is not None else []
        names.setdefault(it.process, {}).update(dict.fromkeys([*own, *it.factors, *it.shapes]))
    return tuple(FittedProcess(name, origins.get(name, Origin()), tuple(each)) for name, each in names.items())


def agreement(
    templates: Templates, channels: Mapping[str, str], reports: Mapping[str, Path], apart: Collection[str]
) -> Answer:
    """Whether histograms of regions have the events that reports of the training expect there, but for the classes `apart`."""
    question, different, same = "As many events as in the training?", list[str](), list[str]()
    silent = [f"{class_} (the training has other datasets)" for class_ in apart]
    for era, path in reports.items():
        known = _expected(path)
        for region, name in channels.items():
            found = [it for it in templates.histogram(name).channels if it.region == region and era in ("", it.era)]
            whole, where = added(found), " ".join(filter(None, (region, era)))
            processes, why = whole.processes, f"not in {path.parent.name}/{path.name}" * (region not in known)
            if whole.note or why:
                silent.append(f"{where} ({whole.note or why})")
                continue
            for class_ in sorted({*known[region], *processes} - {*apart, DATA}):
                there, template = known[region].get(class_, {}), processes.get(class_, _NOTHING)
                events = (float(there.get("sum_of_weights", 0)), float(template.nominal.sum()))
                # the rounding of each weight, which counts where signs cancel
                size = float(np.finfo(np.float32).eps * np.sqrt(there.get("events", 0) * template.variances.sum()))
                if math.isclose(*events, rel_tol=_ROUNDING, abs_tol=size):
                    same.append(f"{class_} in {where}")
                else:
                    numbers = "{} in the report, {} here".format(*(digits(it, 6) for it in events))
                    different.append(f"{class_} in {where} ({numbers})")
    left = f"Not compared: {listed(silent, _MOST)}." if silent else ""
    if different:
        text = f"One of the two lacks events, or has some twice: {listed(different, _MOST)}."
    elif same:
        text = f"The report of the training has the same: {listed(same, _MOST)}."
    else:
        text = "" if silent else "There is no report of a training in folds on these datasets."
    return Answer(question, "bad" if different else "good" if same else "open", f"{text} {left}".strip(), "#processes")


def _expected(path: Path) -> dict[str, Any]:
    """Events and sums of weights by region and class, of a metrics.json; nothing if there is none."""
    try:
        content = content_of(path)
        regions = {region: it["yields"] for region, it in content["regions"].items()}
        return {EVERYWHERE: content["events"]["classes"], **regions}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
