"""The settings of models with the selection inside."""

from __future__ import annotations

from dataclasses import dataclass

from MLTools.NanoML.schema.settings import setting


@dataclass(frozen=True)
class OfExport:
    """What the section `export` says of them."""

    selection: bool = setting(
        False,
        "True to also write model_with_selection.onnx, which has the selection inside: it reads the branches of NanoAOD, in cmsRun "
        "and wherever else there is no selection. With eras there is one for each; data have others than simulation.",
    )
    compared: int = setting(
        10_000, "Events of each dataset on which this model is compared with the selection.", minimum=1
    )
    room: dict[str, int] = setting(
        dict,
        "Objects of a collection for which this model has room; by default it follows from the events that are compared. "
        "An event with more is flagged.",
        items={"minimum": 1},
        examples=[{"Jet": 30}],
    )
