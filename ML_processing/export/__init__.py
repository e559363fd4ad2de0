"""Export of a training to ONNX."""

PAGE = "cmssw.md"
