"""Small charts as SVG, in the colours of the page, so that they are readable by day and by night."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40
Y_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1e4, 1e6, 1e9, 1e300)
MOST_Y_TICKS = 6
SLACK = 1e-9


class Chart:
    """A chart whose horizontal axis is logarithmic.

    Args:
        x_range: of the horizontal axis, above 0.
        y_range: of the vertical axis, which ends on round numbers.
        x_name: of the horizontal axis.
        y_name: of the vertical axis.
        percent: the vertical axis is a share.
    """

    def __init__(
        self, x_range: tuple[float, float], y_range: tuple[float, float], x_name: str, y_name: str, *, percent: bool
    ) -> None:
        self._low, self._high = log10(x_range[0]), log10(x_range[1])
        self._bottom, self._top = y_range
        self._parts: list[str] = []
        self._legend: list[tuple[str, str]] = []
        for value in _ticks(x_range):
            x = self._x(value)
            self._parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            self._parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{value:g}", "middle"))
        step = next(step for step in Y_STEPS if (self._top - self._bottom) / step < MOST_Y_TICKS)
        self._bottom, self._top = step * floor(self._bottom / step + SLACK), step * ceil(self._top / step - SLACK)
        for value in np.arange(self._bottom, self._top + step / 2, step):
            y = self._y(value)
            self._parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            self._parts.append(_text(LEFT - 6, y + 4, f"{value:.0%}" if percent else f"{value:.4g}", "end"))
        self._parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_name, "middle"))
        self._parts.append(_text(4, 12, y_name, "start"))

    def bars(self, edges: Numbers, heights: Numbers, colour: str, name: str) -> None:
        """Bars between edges."""
        for low, high, height in zip(edges, edges[1:], heights, strict=False):
            if height > 0:
                x, y = self._x(low), self._y(height)
                width, bar = self._x(high) - x, self._y(0.0) - y
                self._parts.append(
                    f'<rect class="bar {colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{bar:.1f}"/>'
                )
        self._legend.append((colour, name))

    def marks(self, values: Sequence[float], colour: str, name: str) -> None:
        """A line from top to bottom at each value."""
        for value in values:
            x = self._x(value)
            self._parts.append(f'<path class="mark {colour}" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        self._legend.append((colour, name))

    def line(self, xs: Numbers, ys: Numbers, colour: str) -> None:
        points = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        self._parts.append(f'<polyline class="line {colour}" points="{points}"/>')

    def name(self, colour: str, name: str) -> None:
        """An entry of the legend."""
        self._legend.append((colour, name))

    def svg(self, title: str) -> str:
        """The chart, and its legend below it.

        Args:
            title: for those who cannot see it.
        """
        entries = "".join(f'<span><i class="key {colour}"></i>{escape(name)}</span>' for colour, name in self._legend)
        drawn = "".join(self._parts)
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{drawn}</svg>'
            f"<div class=legend>{entries}</div>"
        )

    def _x(self, value: float) -> float:
        share = (log10(value) - self._low) / (self._high - self._low)
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        share = (value - self._bottom) / (self._top - self._bottom)
        return TOP + (1 - min(1.0, max(0.0, share))) * (HEIGHT - TOP - BOTTOM)


def _ticks(x_range: tuple[float, float]) -> list[float]:
    """Round numbers within a range, not too many."""
    low, high = floor(log10(x_range[0])), ceil(log10(x_range[1]))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{step}e{power}") for power in range(low, high + 1) for step in steps]
        within = [tick for tick in ticks if x_range[0] <= tick <= x_range[1] * 1.0001]
        if len(within) <= 8:
            return within
    return within


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
