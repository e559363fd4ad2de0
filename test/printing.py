"""What an inspection prints, for tests."""

from __future__ import annotations

import io
import json
from typing import Optional

from rich.console import Console

from MLTools.NanoML.inspection import Inspection


def printed(found: Inspection, pattern: Optional[str] = None, width: int = 120) -> str:
    """What is printed; it must be fit for JSON, too, and no line may be longer than the console is wide."""
    json.dumps(found.to_json(), allow_nan=False)
    out = io.StringIO()
    found.show(pattern, Console(file=out, width=width))
    # a path stays in one piece so that it can be copied
    assert [line for line in out.getvalue().splitlines() if len(line) > width and " " in line.strip()] == []
    return out.getvalue()


def words(found: Inspection, width: int = 80) -> str:
    """What is printed, with its lines joined, for where they are broken does not matter."""
    return " ".join(printed(found, width=width).split())
