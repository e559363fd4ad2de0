"""A hook of MkDocs: links from a page to files outside doc/ lead to a page with the file's text.

So the pages can be read both in the repository and as a site.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "doc"
_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")
_LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".sh": "bash",
    ".h": "cpp",
    ".cc": "cpp",
    ".toml": "toml",
}


def _outside(page: str, link: str) -> Path | None:
    """The file in the repository, outside doc/, that a link of a page leads to; None for any other link."""
    target = (DOC / page).parent.joinpath(link).resolve()
    if not target.is_file() or DOC in target.parents or ROOT not in target.parents:
        return None
    return target.relative_to(ROOT)


def _address(source: Path) -> str:
    """The page of a source file."""
    name = str(source)
    return f"source/{name if name.endswith('.md') else f'{name}.md'}"


def _page(source: Path) -> str:
    text = (ROOT / source).read_text(encoding="utf-8")
    if source.suffix == ".md":
        return text
    if source.suffix == ".ipynb":
        return "\n\n".join(map(_cell, json.loads(text)["cells"]))
    language = _LANGUAGES.get(source.suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {source}\n\n````{language}\n{text}````\n"


def _cell(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"])
    return f"```python\n{text}\n```" if cell["cell_type"] == "code" else text


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each source file that some page links to."""
    wanted = set()
    for file in files.documentation_pages():
        links = _LINK.findall(file.content_string)
        wanted |= {_outside(file.src_uri, link) for _, link in links} - {None}
    for source in sorted(wanted):
        file = File.generated(config, _address(source), content=_page(source))
        file.inclusion = file.inclusion.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links there."""
    here = page.file.src_uri
    up = "../" * here.count("/")

    def moved(found: re.Match[str]) -> str:
        source = _outside(here, found[2])
        return f"{found[1]}{up}{_address(source)}" if source else found[0]

    return _LINK.sub(moved, markdown)
