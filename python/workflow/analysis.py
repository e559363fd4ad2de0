"""An analysis, and its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.report.page import Site
from MLTools.NanoML.report.section import Style, style_of
from MLTools.NanoML.stages import Declaration, import_part
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.unblinding import Blinded, blinded

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config
    from MLTools.NanoML.contracts.missing import Missing
    from MLTools.NanoML.workflow.runner import Stage


@dataclass(frozen=True)
class Analysis:
    """A configuration, its files, and those of each dataset that are left out because they cannot be read."""

    config: Config
    missing: Mapping[str, Sequence[Missing]] = field(default_factory=dict)
    is_retrained: bool = False  # whether networks are trained anew before what is planned

    @cached_property
    def blinded(self) -> Blinded:
        """The data that must not be looked at."""
        return blinded(self.config, self.is_retrained, self.missing)

    @cached_property
    def files(self) -> Mapping[str, list[str]]:
        """All files of each dataset; an error if one has none."""
        datasets = import_part("data_processing.datasets.datasets")
        found: Mapping[str, list[str]] = datasets.resolve_datasets(self.config)
        return found

    def style(self, era: Optional[str] = None) -> Style:
        """The style of the figures and pages of an era, or of the whole analysis."""
        layout, path = Layout.of(self.config), Path(self.config.document.name)
        # `nanoml init` names the directory, not the file
        name = self.config.base.resolve().name if path.stem == "analysis" else path.stem
        pages = ((title, page.relative_to(layout.workdir).as_posix()) for title, page in layout.pages(self.config))
        return replace(style_of(self.config, era), site=Site(name, tuple(pages)))

    def left_out(self, dataset: str) -> set[str]:
        """The files of a dataset that are missing."""
        return {each.file for each in self.missing.get(dataset, ())}

    def stage(self, declared: Declaration) -> Optional[Stage]:
        """A stage of it; None if it does not ask for it.

        An error if a part is missing, a dataset has no files, the selection cannot be imported, and so on.
        """
        if all(getattr(self.config, section) is None for section in declared.sections):
            return None
        module, _, function = declared.maker.partition(":")
        return getattr(import_part(module), function)(self)
