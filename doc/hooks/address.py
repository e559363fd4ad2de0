"""A hook of MkDocs: where a page clones NanoML from ADDRESS, the site has the address of the repository that it is made of."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

_PUBLIC = re.compile(r"https://|ssh://|[\w.-]+@[\w.-]+:")


def shown(origin: str) -> str:
    """The address that others can clone from, without anybody's password; ADDRESS if there is none."""
    return re.sub(r"(?<=https://)[^/@]*@", "", origin) if _PUBLIC.match(origin) else "ADDRESS"


def _origin() -> str:
    line = ["git", "-C", str(Path(__file__).parent), "remote", "get-url", "origin"]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the address."""
    return markdown.replace("git clone ADDRESS", f"git clone {shown(_origin())}")
