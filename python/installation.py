"""How NanoML is installed here, and the command that adds one of its parts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Optional
from urllib.parse import unquote, urlsplit

TO_GET_NANOAOD_TOOLS = (
    "cmsenv (CMSSW_13_3 or newer); elsewhere pip install root, git clone https://github.com/cms-nanoAOD/nanoAOD-tools, bash "
    "nanoAOD-tools/standalone/env_standalone.sh build, and source that script in each new shell"
)


def checkout() -> Optional[Path]:
    """The checkout that this NanoML is, or was installed from; None if there is none any more."""
    own = Path(__file__).resolve().parent.parent
    for place in (own, _installed_from()):
        if place is not None and (place / "pyproject.toml").is_file() and (place / "python").is_dir():
            return place
    return None


def _installed_from() -> Optional[Path]:
    try:
        noted = importlib.metadata.distribution("nanoml").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    address = urlsplit(json.loads(noted).get("url", "")) if noted else urlsplit("")
    return Path(unquote(address.path)) if address.scheme == "file" else None


def is_found(module: str) -> bool:
    """Whether Python finds a module, which is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # one of its packages
        return False


def how_to_install(extra: str) -> str:
    """The command that installs what a part of NanoML needs: "train", "tune", "xrootd", ...

    In CMSSW, whose Python must not be changed, it makes a virtual environment.
    """
    place = checkout()
    what = shlex.quote(f"{place}[{extra}]") if place else f"'.[{extra}]'"
    where = "" if place else ", in a checkout of NanoML"
    if "CMSSW_BASE" in os.environ and sys.prefix == sys.base_prefix:
        return f"in a shell without cmsenv: python3 -m venv ~/nanoml && ~/nanoml/bin/pip install {what}{where}"
    return f"pip install {what}{where}"


def nanoml_command() -> list[str]:
    """The command that starts this NanoML in another process, whether it is installed or a checkout."""
    script = Path(__file__).resolve().parent.parent / "scripts" / "nanoml"
    try:
        importlib.metadata.distribution("nanoml")
    except importlib.metadata.PackageNotFoundError:
        if script.is_file():
            return [sys.executable, str(script)]
    return [sys.executable, "-m", "MLTools.NanoML.cli"]
