"""Limits what the server holds for its clients: connections, bodies, bytes, permits and turns."""
