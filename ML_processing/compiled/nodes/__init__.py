"""ONNX graphs of numbers and of lists of different lengths."""
