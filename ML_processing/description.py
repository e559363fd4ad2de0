"""What a training says of itself: the content of training.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ML_processing.data import Table
from ML_processing.provenance import git_state, now, versions
from ML_processing.splits import signal_index, split_count
from MLTools.NanoML.folds import RULE
from MLTools.NanoML.task import code_hash, source_of

if TYPE_CHECKING:
    from MLTools.NanoML.config import Train

__all__ = ["describe"]

_SAMPLE = 64  # real events kept with the networks, to check an export against
_CODE = (
    "MLTools.NanoML.folds",
    *(f"ML_processing.{name}" for name in ("data", "loop", "models", "splits", "train")),
)


def describe(table: Table, files: Sequence[Path], config: Train, device: torch.device) -> dict[str, Any]:
    """All that is needed to rebuild a training and to explain it, as JSON could hold it.

    `fingerprint` is the same for trainings that give the same networks; `complete` is False.
    """
    k, networks = split_count(config.folds)
    settings, sha256 = asdict(config), table.sha256()
    return {
        "schema": 1,
        "complete": False,
        "fingerprint": _fingerprint(settings, sha256),
        "created": now(),
        "versions": versions(),
        "git": git_state(),
        "device": str(device),
        "config": settings,
        "features": table.columns,
        "classes": table.classes,
        "signal": table.classes[signal_index(table.classes, config.signal)],
        "selection": table.selection,
        "folds": {"k": k, "networks": networks, "hash": RULE},
        "data": {"sha256": sha256, "files": [str(file) for file in files], "classes": table.summary()},
        "datasets": table.datasets,
        "notes": table.notes,
        "sample": _sample(table, config.seed),
    }


def _fingerprint(settings: dict[str, Any], data: str) -> str:
    """Hash of all that decides what a training gives. The device and the files' names do not."""
    decisive = {key: value for key, value in settings.items() if key not in ("device", "files")}
    return hashlib.sha256(
        json.dumps([decisive, data, code_hash(source_of(*_CODE))], sort_keys=True).encode()
    ).hexdigest()


def _sample(table: Table, seed: int) -> list[list[float]]:
    """Features of a few real events, of all classes in turn.

    Events without a missing value come first; where there are too few, a missing one is given as 0.
    """
    shuffled = np.random.default_rng(seed).permutation(len(table))
    missing = ~np.isfinite(table.features[shuffled]).all(axis=1)
    shuffled = shuffled[np.argsort(missing, kind="stable")]
    of_class = [shuffled[table.labels[shuffled] == i][:_SAMPLE] for i in range(len(table.classes))]
    rows = [row for turn in zip_longest(*of_class) for row in turn if row is not None][:_SAMPLE]
    events = table.features[rows]
    sample: list[list[float]] = np.where(np.isfinite(events), events, np.float32(0)).tolist()
    return sample
