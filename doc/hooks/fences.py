"""A hook of MkDocs: shows what the fences of code say to the tests, since the site's highlighter knows a language alone.

"```python dimuon.py" begins the content of a file, "```bash needs CMSSW" commands that cannot be tried here. Options,
such as --to, stay in one line of the text.
"""

from __future__ import annotations

import re
from typing import Any

_FENCE = re.compile(r"^( *)```(\w+) ([^\n{]+)$", re.M)
_CODE = re.compile(r"<code>[^<]*</code>")
_OPTION = re.compile(r"(?<![\w&;-])--?[a-z][\w-]*")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Make what stands behind the language the title of the block."""

    def titled(found: re.Match[str]) -> str:
        indent, language, about = found[1], found[2], found[3].strip()
        return f"{indent}```{language}" if about == "fragment" else f'{indent}```{language} title="{about}"'

    return _FENCE.sub(titled, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Mark the options of commands, which browsers break after the hyphen."""
    return _CODE.sub(lambda code: _OPTION.sub(r'<span class="option">\g<0></span>', code[0]), html)
