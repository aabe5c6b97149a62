"""The pictures of a page of the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class Pictures:
    """The pictures of a page, to be drawn once the page is written.

    Attributes:
        folder: beside the page.
        drawings: what draws each file.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.drawings: dict[str, Callable[[Path], None]] = {}

    def add(self, name: str, caption: str, draw: Callable[[Path], None]) -> str:
        """The Markdown of a picture with its caption."""
        self.drawings[f"{name}.png"] = draw
        return f"![{caption}]({self.folder}/{name}.png)\n*{caption}*\n\n"
