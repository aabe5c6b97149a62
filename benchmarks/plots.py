"""The common parts of the benchmarks' plots."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pyplot() -> ModuleType:
    """matplotlib's pyplot without a window. Imported late, because only a plot needs it."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    return pyplot


def plain(*panels: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Pale grid lines, and no frame at the top and on the right."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis=grid, alpha=0.3)
        axes.set_axisbelow(True)


def save(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Write a PNG file, and close the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    pyplot().close(figure)
