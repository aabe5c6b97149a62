"""Reasons for which tests are skipped on a machine that lacks a tool. CI has the tools, and there they may not be."""

from __future__ import annotations

import shutil

import pytest

from service.runtime.operators import BUILD

NO_VALKEY = "no valkey-server or redis-server on this machine"
NO_COMPILER = "no C++ compiler"
LACKING = (NO_VALKEY, NO_COMPILER, BUILD)


def require_valkey() -> None:
    """Skip the test where there is no Valkey."""
    if shutil.which("valkey-server") is None and shutil.which("redis-server") is None:
        pytest.skip(NO_VALKEY)
