"""How to install what an optional part of hetsyn needs. The package is not on PyPI."""

from __future__ import annotations


def install_command(extra: str) -> str:
    """The command that brings an extra of ``pyproject.toml``, and where to run it."""
    return f"pip install -e '.[{extra}]' in the checkout of hetsyn"
