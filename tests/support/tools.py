"""Reasons for which tests are skipped on a machine that lacks a tool. CI has the tools, and there they may not be."""

from __future__ import annotations

import shutil

import pytest

from build_support.compiling import ZIG
from service.runtime.operators import BUILD

NO_VALKEY = "no valkey-server or redis-server on this machine"
NO_COMPILER = "no C++ compiler"
NO_HEADER = "no header of ONNX Runtime: apt-get install libonnxruntime-dev"
NO_ZIG = f"no zig: pip install '{ZIG}'"
LACKING = (NO_VALKEY, NO_COMPILER, NO_HEADER, NO_ZIG, BUILD)


def require_valkey() -> None:
    """Skip the test where there is no Valkey."""
    if shutil.which("valkey-server") is None and shutil.which("redis-server") is None:
        pytest.skip(NO_VALKEY)
