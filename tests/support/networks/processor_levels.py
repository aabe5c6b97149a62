"""The levels of x86-64 for which the C++ libraries have loops."""

from __future__ import annotations

import re
from pathlib import Path

NO_LEVELS = "a test of x86-64's levels, on a processor without them"


def processor_levels() -> list[str]:
    """List those of this machine's processor."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    needed = {"v2": "sse4_2", "v3": "avx2", "v4": "avx512vl"}
    return [level for level, flag in needed.items() if re.search(rf"\b{flag}\b", flags)]
