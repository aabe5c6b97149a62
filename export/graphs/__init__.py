"""Makes ONNX graphs and TorchScript of networks, encoders and steps."""
