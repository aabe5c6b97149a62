"""Raises the limit of open files; every connection is one."""

from __future__ import annotations

import logging
from contextlib import suppress

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

RESERVED = 256  # for models, the store and refused connections
GRPC_SHARE = 4  # the gRPC port may have a connection for each so many of HTTP

log = logging.getLogger("hetsyn.connections")


def grpc_connections(of_http: int) -> int:
    """Return the limit of connections to the gRPC port beside those of HTTP."""
    return max(1, of_http // GRPC_SHARE)


def allowed_connections(wanted: int, has_grpc: bool = False) -> int:
    """Raise the limit of open files as far as the process may, and return how many connections it leaves to HTTP.

    Shells start programs with a limit of 1,024 files for the sake of ``select()``, which this server does not use.
    """
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    files = wanted + RESERVED + (grpc_connections(wanted) if has_grpc else 0)
    if soft != unlimited and soft < files:
        enough = files if hard == unlimited else min(files, hard)
        with suppress(ValueError, OSError):  # some systems and sandboxes allow less than they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
            soft = enough
    if soft == unlimited or soft >= files:
        return wanted
    left = soft - RESERVED
    left = max(1, left * GRPC_SHARE // (GRPC_SHARE + 1) if has_grpc else left)
    log.warning("%d connections at most, not %d: the process may open %d files (ulimit -n)", left, wanted, soft)
    return left
