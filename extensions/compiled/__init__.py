"""The selection inside of a model: `select` is run once on arrays that record what is done with them, and becomes an ONNX graph."""

from __future__ import annotations

from MLTools.NanoML.extending import Declaration, Extension, Resources

EXTENSION = Extension(
    "Models with the selection inside, which read the branches of NanoAOD.",
    fields={"export": "settings:OfExport"},
    stages=(
        Declaration(
            "compile",
            "compiling:compile_stage",
            ["export"],
            "cmssw.md",
            Resources(memory=4000),
            names_outputs=True,
            about="Put the selection into the model. With `export.selection`, a second file reads the branches of NanoAOD, in cmsRun "
            "for example. It is compared with the selection on real events.",
            after="export",
            example="analysis.yaml",
        ),
    ),
    needs=("ML_processing",),
    extra="train",
    python=(3, 10),
)

PAGE = "cmssw.md"
