"""Configurations from their text, and their stages as jobs do them."""

from __future__ import annotations

import json
from pathlib import Path

from MLTools.NanoML.batch.job import decode, encode
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.workflow.pipeline import pipeline_stages


def loaded(directory: Path, text: str) -> Config:
    """The configuration of a file a.yaml with this text."""
    path = directory / "a.yaml"
    path.write_text(text)
    return load(path)


def run_stages(path: Path, *names: str) -> None:
    """Do stages of a configuration, each task as it is sent to a job."""
    for stage in pipeline_stages(load(path), names):
        for task in stage.tasks:
            decode(json.loads(json.dumps(encode(task.work))))()
