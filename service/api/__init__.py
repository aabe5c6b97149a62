"""HTTP, and the only package that knows FastAPI: connections, and requests with a chunk."""
