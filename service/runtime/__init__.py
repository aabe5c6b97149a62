"""ONNX Runtime, graphs and states: the only package that runs networks."""
