"""Names of datasets, /PRIMARY/PROCESSED/TIER, as CMS's catalogue has them."""

from __future__ import annotations

import re

from MLTools.NanoML.config.setting import DATASET
from MLTools.NanoML.errors import ConfigError

__all__ = ["GLOBAL", "USERS", "checked", "instance_of", "is_name", "is_wildcard"]

GLOBAL, USERS = "prod/global", "prod/phys03"
"""Instances of the catalogue: of the collaboration, and of single users."""

_NAME = re.compile(DATASET["pattern"])


def is_name(text: str) -> bool:
    """Whether a text is the name of a dataset, or a pattern of names."""
    return _NAME.fullmatch(text) is not None


def is_wildcard(name: str) -> bool:
    """Whether a name may match several datasets."""
    return "*" in name


def instance_of(name: str) -> str:
    """The instance of the catalogue that has a dataset, if nobody says which."""
    return USERS if name.endswith("/USER") else GLOBAL


def checked(name: str) -> str:
    """The name itself.

    Raises
    ------
    ConfigError
        It is none: nothing else is sent to the catalogue.
    """
    if not is_name(name):
        raise ConfigError(f'"{name}": expected {DATASET["form"]}.')
    return name
