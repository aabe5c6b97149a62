"""Memory of a training process."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the rest of the process, and return whether it can (glibc).

    By default it returns large arrays to the system, and each update asks for the same pages again: a sixth to a fifth
    of an update's CPU time. The process then stays as large as its largest update.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError on Windows
        return False
    return all(mallopt(which, _MOST) == 1 for which in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
