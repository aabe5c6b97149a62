"""Joins a key's name and a client's session id to the inner id, and splits it again.

A client's id has no slash, so two keys may use the same id for two sessions, and none can name another's. Everything
below the interfaces knows the inner id alone: tables, stores, records, sealed tokens. Without keys it is the client's.
"""

from __future__ import annotations

import secrets

_SEPARATOR = "/"


def new_id() -> str:
    """Make an id for a session that a client begins without one."""
    return secrets.token_urlsafe(16)


def inner_id(key: str, session_id: str) -> str:
    """Make the id under which the server keeps a client's session. ``key`` is empty where the server has no keys."""
    return f"{key}{_SEPARATOR}{session_id}" if key else session_id


def client_id(inner: str) -> str:
    """Return the client's id of an inner id."""
    return inner.partition(_SEPARATOR)[2] or inner


def owner_of(inner: str) -> str:
    """Return the name of the key that owns a session; empty if the server has no keys."""
    owner, separator, _ = inner.partition(_SEPARATOR)
    return owner if separator else ""
