"""The options --preprocess and --triton of `nanoml export`."""

from __future__ import annotations

from MLTools.NanoML.commands.options import PATH, ExportOption, flag, option

_FILES = "MLTools.NanoML.extensions.servers.servers"

PREPROCESS = ExportOption(
    flag("--preprocess", "Also write what CMSSW's jet taggers (RecoBTag) read: MODEL_preprocess.json."),
    f"{_FILES}:write_preprocess",
    f"{_FILES}:preprocess_of",
)
TRITON = ExportOption(
    option("--triton", "Also put it into the model repository of a Triton server.", "DIR", type=PATH),
    f"{_FILES}:add_to_repository",
    of_file="A model that exists can only be put into the repository of a server (--triton).",
    example="nanoml export model.onnx --triton repository",
)
