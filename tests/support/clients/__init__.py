"""Requests, connections and replies at the client's end."""
