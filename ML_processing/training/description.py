"""What a training says of itself: the content of training.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ML_processing.events.parameter import Parameter
from ML_processing.events.splits import signal_index, split_count
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from ML_processing.training.own_model import TRAINING, code_behind
from ML_processing.training.provenance import git_state, now, versions
from MLTools.NanoML.nanoaod.folds import RULE

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

__all__ = ["describe"]

_SAMPLE = 64  # real events kept with the networks, to check an export against


def describe(
    table: Table, survey: Survey, files: Sequence[Path], config: Train, device: torch.device
) -> dict[str, Any]:
    """All that is needed to rebuild a training and to explain it, as JSON could hold it.

    `fingerprint` is the same for trainings that give the same networks; `complete` is False.
    """
    k, networks = split_count(config.folds)
    about, settings, sha256 = table.about, asdict(config), table.sha256()
    parameter = Parameter.of(survey)
    notes = survey.notes()
    if len(table) < survey.counts.sum():
        notes.append(
            f"The events do not fit into train.memory ({config.memory} MB): scaling, validation and report use "
            f"{len(table):,} of {int(survey.counts.sum()):,}; the networks are trained on all."
        )
    return {
        "schema": 1,
        "complete": False,
        "fingerprint": _fingerprint(settings, [sha256, survey.summary()]),
        "created": now(),
        "versions": versions(),
        "git": git_state(),
        "device": str(device),
        "config": settings,
        "level": "object" if about.labels else "event",
        "collection": about.labels.collection if about.labels else None,
        "features": about.features,
        "collections": [
            {**asdict(it), "fields": list(it.fields), "columns": about.fields[it.name]}
            for it in about.collections
        ],
        "targets": list(about.targets),
        "parameter": asdict(parameter) if parameter else None,
        "classes": about.classes,
        "signal": about.classes[signal_index(about.classes, config.signal)],
        "selection": about.selection,
        "folds": {"k": k, "networks": networks, "hash": RULE},
        "data": {"sha256": sha256, "files": [str(file) for file in files], "classes": survey.summary()},
        "datasets": about.datasets,
        "notes": notes,
        "sample": _sample(table, parameter, config.seed),
    }


def _fingerprint(settings: dict[str, Any], data: list[Any]) -> str:
    """Hash of all that decides what a training gives. Where it runs, and the files' names, do not."""
    without = ("device", "files", "workers", "memory", "tracking")
    decisive = {key: value for key, value in settings.items() if key not in without}
    place, _, name = settings["model"].rpartition(":")
    if place:  # a user's: its code counts, wherever it is
        decisive["model"] = name
    code = code_behind(settings["model"], *TRAINING)
    return hashlib.sha256(json.dumps([decisive, data, code], sort_keys=True).encode()).hexdigest()


def _sample(table: Table, parameter: Parameter | None, seed: int) -> dict[str, list[Any]]:
    """A few real events, of all classes in turn, by the names of the tensors that hold them.

    Events without a missing value come first; where there are too few, a missing one is given as 0.
    """
    if parameter is not None:
        table = replace(table, features=parameter.filled(table))
    shuffled = np.random.default_rng(seed).permutation(len(table))[: 100 * _SAMPLE * len(table.classes)]
    missing = ~np.isfinite(table.features[shuffled]).all(axis=1)
    for values, _ in table.objects.values():
        missing |= ~np.isfinite(values[shuffled]).all(axis=(1, 2))
    shuffled = shuffled[np.argsort(missing, kind="stable")]
    of_class = [shuffled[table.labels[shuffled] == i][:_SAMPLE] for i in range(len(table.classes))]
    rows = [row for turn in zip_longest(*of_class) for row in turn if row is not None][:_SAMPLE]
    tensors = {"features": table.features} if table.names else {}
    for name, (values, mask) in table.objects.items():
        tensors |= {name: values, f"{name}_mask": mask.astype(np.float32)}
    return {
        name: np.where(np.isfinite(values[rows]), values[rows], np.float32(0)).tolist()
        for name, values in tensors.items()
    }
