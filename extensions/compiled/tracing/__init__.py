"""Selections as ONNX graphs: `select` is run once on arrays that record what is done with them."""
