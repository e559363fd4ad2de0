"""Reading the configuration of an analysis, and the checks of its section `style`."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

from MLTools.NanoML.config import data_checks, fit_checks, training_checks
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.fit import EVERYWHERE, axes_of
from MLTools.NanoML.config.training import DISCRIMINANT
from MLTools.NanoML.extending import checks, listed_extensions
from MLTools.NanoML.schema.document import Document, Keys, Problem
from MLTools.NanoML.schema.settings import json_schema, parse, unknown

_AFTER_CMS = ("Preliminary", "Simulation", "Supplementary", "Work in progress")  # labels that CMS alone may use


@functools.cache
def schema() -> dict[str, object]:
    """Make the JSON Schema of a configuration, with which editors complete and explain it."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "NanoML analysis",
        "$comment": f"Extensions here: {listed_extensions()}",
        **json_schema(Config),
        "patternProperties": {"^x-": {"description": "Ignored: a place for YAML anchors."}},
    }


def load(path: str | os.PathLike[str]) -> Config:
    """Read the configuration of an analysis.

    Raises
    ------
    ConfigError
        The file cannot be read, or has mistakes; the message has a line for each.

    Examples
    --------
    >>> config = load("examples/trilepton.yaml")
    >>> config.luminosity, sorted(config.datasets)
    (59.8, ['WZTo3LNu_Pt100', 'WprimeToWZToLNuLL_M600', 'ZGToLLG_PtG100'])
    """
    document = Document.read(path)
    config = parse(Config, document, schema())
    base = Path(os.path.abspath(path)).parent
    workdir = config.workdir or Path(path).stem
    train = config.train and config.train.with_defaults(document.data["train"] or {}, base)
    config = dataclasses.replace(config, workdir=workdir, base=base, document=document, train=train)
    every = (*data_checks.CHECKS, *training_checks.CHECKS, *fit_checks.CHECKS, _style, *checks())
    problems = [problem for check in every for problem in check(config)]
    if problems:
        raise document.error(problems)
    return config


def _style(config: Config) -> Iterator[Problem]:
    """Names that nothing has, and texts and colours that cannot be drawn."""
    look = config.style
    if look.label.startswith(_AFTER_CMS) and not look.cms:
        yield ("style", "label"), 'is said after "CMS" only. Add "cms: true", or say what the figures are without it'
    quantities, processes = set(_quantities(config)), {*config.classes, *config.processes}
    if config.train is not None and config.train.per_object is not None:
        processes = {*config.train.per_object.classes}
    known = {"processes": processes, "quantities": quantities, "regions": {*config.regions, EVERYWHERE}}
    for (section, names), what in zip(known.items(), ("a class", "a quantity", "a region")):
        for name in getattr(look, section) if names and (config.train is None or config.train.files is None) else ():
            yield from unknown(("style", section, name), name, sorted(names), what)
    texts: dict[Keys, str] = {("style", "label"): look.label}
    for section in known:
        for name, entry in getattr(look, section).items():
            for key in ("label", "unit"):
                texts["style", section, name, key] = getattr(entry, key, "") or ""
    owners: dict[str, str] = {}
    for name, it in look.processes.items():
        other = owners.setdefault(it.color, name)
        if it.color and other != name:
            yield ("style", "processes", name, "color"), f"{other} has this colour. Take another one"
    if importlib.util.find_spec("matplotlib") is not None:
        yield from _not_drawn({keys: text for keys, text in texts.items() if "$" in text}, owners)


def _not_drawn(texts: dict[Keys, str], owners: dict[str, str]) -> Iterator[Problem]:
    """Texts that matplotlib cannot draw; it is imported where there is something to try."""
    for keys, text in texts.items():
        from matplotlib.mathtext import MathTextParser

        try:
            MathTextParser("path").parse(text)
        except ValueError as problem:
            yield keys, f"matplotlib cannot draw it: {str(problem).splitlines()[-1]}"
    for color, name in owners.items():
        from matplotlib.colors import is_color_like

        if color and not is_color_like(color):
            what = f'"{color}" is not a colour that matplotlib knows. Write one as "#5790fc" or "tab:blue"'
            yield ("style", "processes", name, "color"), what


def _quantities(config: Config) -> Iterator[str]:
    """The names of all that figures show on an axis."""
    for name, histogram in config.histogram.items():
        yield name
        for text in axes_of(name, histogram):
            yield from (text, *re.findall(r"[A-Za-z_]\w*", text))
    if config.convert is not None:
        yield from config.convert.features
        for name, objects in config.convert.objects.items():
            yield from (f"{name}_{field}" for field in objects.fields)
    if config.train is not None:
        yield from (*config.classes, *config.train.targets, *config.train.against, DISCRIMINANT)
    yield from (name for dataset in config.datasets.values() for name in dataset.parameters)
