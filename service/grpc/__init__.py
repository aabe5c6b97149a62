"""The gRPC port with the Open Inference Protocol: the only package that knows gRPC."""
