"""The files that a batch system reads, made of templates that a site can replace."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from MLTools.NanoML.errors import ConfigError

__all__ = ["TEMPLATES", "render"]

TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, values: Mapping[str, Any], own: Optional[str] = None) -> str:
    """Fill a template.

    Parameters
    ----------
    name
        Of the template: "job.sh".
    values
        What it is filled with.
    own
        Directory of a user's templates, which are taken before NanoML's.

    Raises
    ------
    ConfigError
        The template is wrong, or there is no such directory.
    """
    if own and not Path(own).is_dir():
        raise ConfigError(f"{own}: no such directory; batch.templates names it.")
    folders = [*([own] if own else []), str(TEMPLATES)]
    # the languages are not HTML; what needs quoting says so by a filter
    engine = Environment(loader=FileSystemLoader(folders), undefined=StrictUndefined, autoescape=False)
    engine.filters["shell"] = _shell
    try:
        return engine.get_template(name).render(values) + "\n"
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{own}/{name}: is not UTF-8 ({problem}).") from None
    except TemplateError as problem:
        line = getattr(problem, "lineno", None)
        place = getattr(problem, "filename", None) or name
        raise ConfigError(f"{place}{f':{line}' if line else ''}: {problem}.") from None


def _shell(value: Union[str, list[str], tuple[str, ...]]) -> str:
    """A word of shell, or several."""
    return shlex.quote(value) if isinstance(value, str) else " ".join(shlex.quote(item) for item in value)
