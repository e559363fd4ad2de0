"""What the names in a configuration may be."""

from __future__ import annotations

__all__ = ["BRANCH", "DATASET", "NAME"]


NAME = {
    "pattern": "[A-Za-z0-9_-][A-Za-z0-9._-]*",
    "form": 'letters, digits, "_", "-" and "." (not first), because files are named after it',
}
"""What the name of a dataset may be."""


BRANCH = {"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "the name of a branch or of a selection's column"}


DATASET = {
    "pattern": r"/[A-Za-z0-9_*-][A-Za-z0-9._*-]*/[A-Za-z0-9._*-]+/[A-Z0-9*-]+",
    "form": "a name of the catalogue, /PRIMARY/PROCESSED/TIER, with * for any text",
}
"""What the name of a dataset in CMS's catalogue may be."""
