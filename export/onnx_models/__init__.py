"""``hetsyn import-onnx``: imports ONNX models with their state as inputs and outputs."""
