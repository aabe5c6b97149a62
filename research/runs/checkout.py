"""Folders of the repository that results and report go to, where this package is run from a checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path("research/results")
PAGE = Path("docs/experiments.md")


class CheckoutError(ValueError):
    """The package is installed apart from the repository; the message names the option to give."""


def in_checkout(path: Path, option: str, root: Path = ROOT) -> Path:
    """A path of the repository, absolute.

    Args:
        path: relative to the repository.
        option: that gives the path instead.
        root: of the repository.

    Raises:
        CheckoutError: there is no repository at the root.
    """
    if not (root / "pyproject.toml").is_file() or not (root / RESULTS).is_dir():
        raise CheckoutError(f"{path} is in the repository, and {root} is not a checkout of it: give {option}")
    return root / path
