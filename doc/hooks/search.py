"""A hook of MkDocs: the search finds pages on a subject before those that list everything, and no files of source."""

from __future__ import annotations

import re
from typing import Any

_BOOSTS = (
    (re.compile(r"source/"), None),
    (re.compile(r"reference/"), 0.4),
    (re.compile(r"(questions|architecture|contributing|releases|peers)\.md"), 0.4),
)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give the page its weight in the search."""
    for pattern, boost in _BOOSTS:
        if pattern.match(page.file.src_uri):
            page.meta["search"] = {"exclude": True} if boost is None else {"boost": boost}
    return markdown


def on_post_page(output: str, **_: Any) -> str:
    """Name the search for those who hear the page; the theme does not."""
    search = 'data-md-component="search" role="dialog"'
    return output.replace(search, f'{search} aria-label="Search"')
