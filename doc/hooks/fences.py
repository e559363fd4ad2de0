"""A hook of MkDocs: shows what the fences of code say to the tests, since the site's highlighter knows a language alone.

"```python dimuon.py" begins the content of a file, "```bash needs CMSSW" commands that cannot be tried here.
"""

from __future__ import annotations

import re
from typing import Any

_FENCE = re.compile(r"^( *)```(\w+) ([^\n{]+)$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Make what stands behind the language the title of the block."""

    def titled(found: re.Match[str]) -> str:
        indent, language, about = found[1], found[2], found[3].strip()
        return f"{indent}```{language}" if about == "fragment" else f'{indent}```{language} title="{about}"'

    return _FENCE.sub(titled, markdown)
