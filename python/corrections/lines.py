"""The lines of the YAML file of an era that ask for a correction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from MLTools.NanoML.corrections.entries import variations_of
from MLTools.NanoML.corrections.evaluation import Correction

_PER_OBJECT = re.compile(r"\w+Bin")
"""Inputs that are texts and differ from object to object."""
_PLAIN = re.compile(r"(?!(?:true|false|null)$)[A-Za-z_/][\w./+-]*", re.IGNORECASE)


def quoted(value: str) -> str:
    """A text as YAML has it within braces."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value)


def fixed_inputs(correction: Correction, fixed: Mapping[str, str], free: str = "", era: str = "") -> dict[str, str]:
    """The inputs that are texts and the same for all objects, with their proposed values."""
    chooser, _ = variations_of(correction, {})
    made = {}
    for name, axis in correction.axes.items():
        if axis.type == "string" and name not in (chooser, *free.split()) and not _PER_OBJECT.fullmatch(name):
            choices = list(map(str, axis.keys)) or ["nom"]
            usual = ("nom|nominal|central", "M", r"\w*[Mm]edium\w*", "wp80(?:iso)?|MVA80")
            chosen = [it for it in choices if len(it) > 3 and it in era]  # the year
            chosen += [
                it for want in ([fixed[name]] if name in fixed else usual) for it in choices if re.fullmatch(want, it)
            ]
            made[name] = (chosen or choices)[0]
    return made


def plain_lines(
    entry: str, path: str, correction: Correction, fixed: Mapping[str, str], free: str = "", era: str = ""
) -> Iterator[str]:
    """The lines for one correction, with what else its inputs may be."""
    texts, axes = fixed_inputs(correction, fixed, free, era), correction.axes
    inputs = ", ".join(f"{name}: {json.dumps(value)}" for name, value in texts.items())
    more = f", inputs: {{{inputs}}}" if inputs else ""
    yield f"{entry}: {{file: {quoted(path)}, name: {quoted(correction.name)}{more}}}"
    yield from (f"# {name} may be {', '.join(map(str, axes[name].keys))}" for name in texts if len(axes[name].keys) > 1)
