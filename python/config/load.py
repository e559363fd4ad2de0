"""Reading the configuration of an analysis."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from MLTools.NanoML.config import data_checks, fit_checks, style_checks, training_checks
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.settings import json_schema, parse

_CHECKS = (*data_checks.CHECKS, *training_checks.CHECKS, *fit_checks.CHECKS, *style_checks.CHECKS)
"""All contradictions between settings that are valid by themselves."""


def schema() -> dict[str, Any]:
    """Make the JSON Schema of a configuration, by which editors complete and explain it."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "NanoML analysis",
        **json_schema(Config),
        "patternProperties": {"^x-": {"description": "Ignored: a place for YAML anchors."}},
    }


def load(path: str | os.PathLike[str]) -> Config:
    """Read the configuration of an analysis.

    Raises
    ------
    ConfigError
        The file cannot be read, or something in it is wrong; all that is wrong is in the message, a line each.
    """
    document = Document.read(path)
    config = parse(Config, document, schema())
    base = Path(os.path.abspath(path)).parent
    workdir = config.workdir or Path(path).stem
    train = config.train and config.train.with_defaults(document.data["train"] or {}, base)
    config = dataclasses.replace(config, workdir=workdir, base=base, document=document, train=train)
    problems = [problem for check in _CHECKS for problem in check(config)]
    if problems:
        raise document.error(problems)
    return config
