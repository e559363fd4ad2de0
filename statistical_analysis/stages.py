"""The stage of this part: fit."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any

from MLTools.NanoML.config.fit import luminosity_uncertainties
from MLTools.NanoML.contracts.plain import plain
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.workflow.runner import Stage
from MLTools.NanoML.workflow.stages import Analysis, Layout
from MLTools.NanoML.workflow.task import Task
from MLTools.NanoML.workflow.unblinding import blind_data, unblinding
from statistical_analysis.fit import FitJob, fit

for _package in ("pyhf", "iminuit", "jax", "scipy", "matplotlib", "mplhep"):
    # reported now, not after the histograms; and without importing them, which takes seconds
    if importlib.util.find_spec(_package) is None:
        raise ModuleNotFoundError(f"No module named '{_package}'", name=_package)


def fit_stage(analysis: Analysis) -> Stage:
    """The fit of all channels. As long as one of them is blind, it is a fit to expected data in all."""
    config, layout = analysis.config, Layout.of(analysis.config)
    assert config.fit is not None
    log = unblinding(config)
    has_data = any(dataset.is_data for dataset in config.datasets.values())
    blind = blind_data(config)
    is_blind = not has_data or any(region in blind for region in config.fit.channels)
    by = str(log) if log else "with data: no channel is in a blind region"
    job = FitJob(
        layout.histograms(".h5"),
        layout.fit,
        config.fit,
        luminosity_uncertainties(config),
        list(config.data_driven),
        is_blind,
        None if is_blind else by,
        {name: era.energy for name, era in config.eras.items()},
        config.where("fit"),
    )
    settings = {
        "fit": plain(config.fit),
        "luminosity": plain(job.luminosity),
        "from_data": job.from_data,
        "is_blind": job.is_blind,
        "unblinded": job.unblinded,
        "energies": job.energies,
    }
    names = ("results.json", "workspace.json", "report.html", "datacard.txt", "templates.root")
    outputs = tuple(layout.fit / name for name in names)
    work = functools.partial(fit, job)
    task = Task(
        "fit", "all", (str(job.source),), outputs, settings, code_of(fit.__module__), work, folders=(layout.fit,)
    )
    return Stage("fit", [task], summary=_summary)


def _summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [str(each["summary"]) for each in done.values()]
