"""The dataset whose events a selection selects, as far as the selection knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.schema.roles import HOW, READS


@dataclass(frozen=True)
class DatasetInfo:
    """The dataset whose events a selection selects, as `self.dataset`.

    Attributes
    ----------
    name
        Its name in the configuration; empty without one.
    era
        The era that it belongs to; empty if the analysis has none.
    is_data
        Whether it is collision data; None if nobody said so, and no file was seen.
    parameters
        Its parameters, such as the mass of a hypothesis.
    triggers
        The triggers by which its events are taken.
    corrections_file
        Path of the YAML file with the corrections of its era; empty without one.
    """

    name: str = ""
    era: str = ""
    is_data: Optional[bool] = field(default=None, metadata=HOW)  # each file says it
    parameters: Mapping[str, float] = field(default_factory=dict)
    triggers: Sequence[str] = ()
    corrections_file: str = field(default="", metadata=READS)

    def to_json(self) -> dict[str, object]:
        """The content on which the events of a skim may depend; nothing for a dataset of which nothing is said."""
        content = {**asdict(self), "parameters": dict(self.parameters), "triggers": list(self.triggers)}
        return {key: value for key, value in content.items() if value and key not in ("is_data", "corrections_file")}

    @property
    def also_read(self) -> list[str]:
        """The file with the corrections, and the files that it names."""
        if not self.corrections_file:
            return []
        from MLTools.NanoML.corrections.era import read_once  # few selections need it

        return [self.corrections_file, *map(str, read_once(self.corrections_file).files)]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that the file with the corrections names, by their names there."""
        if not self.corrections_file:
            return {}
        from MLTools.NanoML.corrections.era import read_once

        return dict(read_once(self.corrections_file).digests)

    @property
    def corrections(self) -> Any:
        """The `Corrections` of its era.

        The files are read when a correction is first asked for: data, and selections that give no weight, need none.
        """
        return _Corrections(self)


class _Corrections:
    """The corrections of a dataset, read on first use."""

    def __init__(self, dataset: DatasetInfo) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from MLTools.NanoML.corrections.era import read_once  # few selections need it

        if not self._dataset.corrections_file:
            era = f"era {self._dataset.era}" if self._dataset.era else "the analysis"
            raise ConfigError(
                f"the selection asks for the correction {name}, but {era} has none: write "
                "`corrections: corrections/2018.yaml` into its configuration, or give the option --corrections."
            )
        return getattr(read_once(self._dataset.corrections_file), name)
