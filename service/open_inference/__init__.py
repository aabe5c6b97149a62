"""The Open Inference Protocol, for HTTP and gRPC alike."""
