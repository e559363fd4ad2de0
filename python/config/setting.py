"""Settings are fields of dataclasses, which say of themselves what they may be.

A field's metadata says what its type cannot, beside what `contracts.plain` knows:

- ``doc``: what it is, for people;
- ``minimum``, ``maximum``, ``exclusiveMinimum``, ``exclusiveMaximum``, ``enum``, ``pattern`` (for the whole text),
  ``minItems``, ``uniqueItems``, ``examples``: as in JSON Schema; ``form``: the pattern in words, after "expected";
- ``or_number``: a text that may look like a whole number, as 2018;
- ``items``, ``names``: the same for the items of a list or mapping, and for the keys of a mapping.
"""

from __future__ import annotations

import dataclasses
from typing import Any

NAME = {
    "pattern": "[A-Za-z0-9_-][A-Za-z0-9._-]*",
    "form": 'letters, digits, "_", "-" and "." (not first), because files are named after it',
}
"""What the name of a dataset may be."""

BRANCH = {"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "the name of a branch or of a selection's column"}
"""What the name of a branch or column may be."""

REGION = {"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "a name of letters, digits and _, as in SR or CR_ZZ"}
"""What the name of a region may be."""

DATASET = {
    "pattern": r"/[A-Za-z0-9_*-][A-Za-z0-9._*-]*/[A-Za-z0-9._*-]+/[A-Z0-9*-]+",
    "form": "a name of the catalogue, /PRIMARY/PROCESSED/TIER, with * for any text",
}
"""What the name of a dataset in CMS's catalogue may be."""


PRODUCT = {
    "pattern": r" *{0}( *[*/] *{0})* *".format(r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"),
    "form": "a number, or a product or quotient of numbers, as in 831.8 * 0.1061",
}
"""What a number may be that is often the product of others."""


def setting(default: Any, doc: str = "", **metadata: Any) -> Any:
    """A field of a dataclass that is a setting; `...` as default says that the YAML file must give it.

    A class as default stands for a new instance of it. A section needs no `doc`: the docstring of its class describes it.
    """
    details = {"doc": doc, **metadata} if doc else metadata
    if default is None:
        details = {**details, "sparse": True}
    if default is ...:
        return dataclasses.field(metadata=details)
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=details)
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=details)
    return dataclasses.field(default=default, metadata=details)
