"""What the figures of an analysis have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """The style of an analysis: it is made once from the settings, and handed to everything that draws.

    `label` is what figures say in place of being private work with simulation by CMS.
    """

    label: str = ""

    def shown(self, has_data: bool) -> str:
        """The label of a figure, with observed data or without."""
        return self.label or f"Private work (CMS {'data/' if has_data else ''}simulation)"


PRIVATE_WORK = Style()
"""That of who gives none."""
