"""Export of a training to ONNX."""
