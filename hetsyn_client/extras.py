"""Says how to install an extra of hetsyn. The package is not on PyPI."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def install_command(extra: str) -> str:
    """Write the command that installs an extra of ``pyproject.toml``, from the checkout or the wheel."""
    if PROJECT.is_file():
        return f"pip install -e '.[{extra}]' in the checkout of hetsyn"
    return f"pip install 'WHEEL[{extra}]', with the path of hetsyn's wheel"
