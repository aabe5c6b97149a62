"""Raises the limit of open files; every connection is one."""

from __future__ import annotations

import logging
from contextlib import suppress

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

RESERVED = 256  # for models, the store and refused connections

log = logging.getLogger("hetsyn.connections")


def allowed_connections(wanted: int) -> int:
    """Raise the limit of open files as far as the process may, and return how many connections it leaves.

    Shells start programs with a limit of 1,024 files for the sake of ``select()``, which this server does not use.
    """
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted + RESERVED:
        enough = wanted + RESERVED if hard == unlimited else min(wanted + RESERVED, hard)
        with suppress(ValueError, OSError):  # some systems and sandboxes allow less than they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
            soft = enough
    if soft == unlimited or soft >= wanted + RESERVED:
        return wanted
    left = max(1, soft - RESERVED)
    log.warning("%d connections at most, not %d: the process may open %d files (ulimit -n)", left, wanted, soft)
    return left
