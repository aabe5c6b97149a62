"""A recording as a picture: a raster of its spikes, layer by layer, and the probabilities over time."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetsyn_client.errors import InputError
from hetsyn_client.extras import install_command
from hetsyn_client.terminal.recorded import Layer, Recorded
from hetsyn_client.whole_file import check_file, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
WIDTH_INCHES, LAYER_INCHES, ANSWERS_INCHES = 9.0, 1.5, 2.6
DOTS_AN_INCH = 150
MOST_VECTORS = 20_000  # spikes of a picture that are drawn as shapes in an SVG; more become an image within it
NAMED = 6  # likeliest labels in the legend
GREY, INK, SHADE = "#8a8f98", "#22262b", "#2f6fb0"
COLOURS = (
    *("#2f6fb0", "#d9822b", "#3a8f5c", "#c23b3b", "#7b5cb8", "#8c6239"),
    *("#d073b0", "#5a6472", "#a3a52e", "#2aa6b5"),
)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hetsyn",
    "text.parse_math": False,  # names of files and labels may have any characters
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
}


def check_picture(path: Path) -> None:
    """Check that a picture can be written, before anything is streamed.

    Raises:
        InputError: it cannot.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--save {path}: name a file that ends in .png or .svg")
    check_file(path, "--save")
    if find_spec("matplotlib") is None:
        raise InputError(f"--save draws with matplotlib, which is missing: {install_command('bench')}")


def write_picture(recorded: Recorded, name: str, path: Path) -> None:
    """Draw a stream into a .png or .svg file, which appears whole or not at all; InputError if it cannot be written."""
    write_whole(path, draw(recorded, name, path.suffix.lower().removeprefix(".")), "--save")


def draw(recorded: Recorded, name: str, kind: str) -> bytes:
    """Draw a picture as ``png`` or ``svg``, without pyplot: no global state, no window."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    layers = recorded.layers()
    heights = [LAYER_INCHES] * len(layers) + [ANSWERS_INCHES]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + 0.6), layout="constrained")
        every: list[Axes] = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[
            :, 0
        ].tolist()
        begin = recorded.begin
        every[0].set_title(f"{name}: {begin['model']} {begin['version']}", loc="left", color=INK,
                           pad=None if layers else 20)  # fmt: skip  # the words stand between title and curves
        spikes = sum(len(layer.units) for layer in layers)
        for axes, layer in zip(every, layers, strict=False):
            _draw_layer(axes, layer, as_image=spikes > MOST_VECTORS)
        _draw_answers(every[-1], recorded)
        for axes in every:
            _shade_utterances(axes, recorded)
        _name_utterances(every[-1], recorded)
        every[-1].set_xlim(*recorded.span_s)
        every[-1].set_xlabel("time, s")
        buffer = io.BytesIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=DOTS_AN_INCH, metadata=metadata)
    return buffer.getvalue()


def _draw_layer(axes: Axes, layer: Layer, *, as_image: bool) -> None:
    size = 12.0 if layer.size <= 64 else 4.0 if layer.size <= 256 else 1.5
    axes.scatter(layer.times_s, layer.units, s=size, c=INK, marker="|" if layer.size <= 64 else ".", linewidths=0.6,
                 edgecolors="none" if layer.size > 64 else None, rasterized=as_image)  # fmt: skip
    axes.set_ylim(-0.5, layer.size - 0.5)
    axes.set_yticks([0, layer.size - 1])
    noun = "channels" if layer.name == "input" else "neurons"
    axes.set_ylabel(f"{layer.name}\n{layer.size} {noun}")


def _draw_answers(axes: Axes, recorded: Recorded) -> None:
    """Draw probabilities or readouts over time, one line an output, with a gap where nothing is heard."""
    times, rows = _curves(recorded)
    if not len(rows):
        axes.text(0.5, 0.5, "nothing heard", transform=axes.transAxes, ha="center", color=GREY)
        return
    labels = recorded.begin["labels"] or [f"output {k}" for k in range(rows.shape[1])]
    peaks = np.nanmax(np.abs(rows), axis=0)
    named = set(np.argsort(-peaks)[:NAMED].tolist())
    shown = []
    for k, label in enumerate(labels):
        colour = COLOURS[k % len(COLOURS)]
        width, alpha = (1.6, 1.0) if k in named else (0.6, 0.5)
        size = 2 if len(times) < 200 else 0
        (line,) = axes.plot(times, rows[:, k], color=colour, marker="o", markersize=size, linewidth=width, alpha=alpha)
        shown += [(line, label)] if k in named else []
    if recorded.is_trace:
        axes.set_ylabel("readout")
    else:
        axes.set_ylim(0, 1.03)
        axes.set_yticks([0, 0.5, 1], ["0", "50%", "100%"])
        axes.set_ylabel("probability")
    # by itself, matplotlib leaves out names that begin with _, such as _silence_
    axes.legend(*zip(*shown, strict=True), loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _curves(recorded: Recorded) -> tuple[Any, Any]:
    """Make times [points] and values [points, outputs]; NaN between utterances, and where nothing is heard."""
    outputs = next((a.values.shape[-1] for a in recorded.answers if a.values is not None), 0)
    if not outputs:
        return np.zeros(0), np.zeros((0, 0))
    times: list[float] = []
    rows: list[Any] = []
    before = None
    for answer in recorded.answers:
        if answer.values is None or (before is not None and answer.utterance != before):
            times.append(answer.start_s)
            rows.append(np.full(outputs, np.nan))
        if answer.values is not None and answer.values.ndim == 2:
            steps = len(answer.values)
            times += np.linspace(answer.start_s, answer.end_s, steps, endpoint=False).tolist()
            rows += list(answer.values)
        elif answer.values is not None:
            times.append(answer.end_s)
            rows.append(answer.values)
        before = answer.utterance
    return np.array(times), np.array(rows)


def _shade_utterances(axes: Axes, recorded: Recorded) -> None:
    if len(recorded.utterances) == 1 and recorded.utterances[0].start_s == 0.0:
        return  # all of the input is one
    for utterance in recorded.utterances:
        if utterance.label is not None:
            axes.axvspan(utterance.start_s, utterance.end_s, color=SHADE, alpha=0.10, linewidth=0, zorder=0)


def _name_utterances(axes: Axes, recorded: Recorded) -> None:
    """Write what was heard above the curves."""
    for utterance in recorded.utterances:
        if utterance.label is not None:
            middle_s = (max(utterance.start_s, recorded.span_s[0]) + min(utterance.end_s, recorded.span_s[1])) / 2
            axes.text(middle_s, 1.0, utterance.label, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                      color=INK, fontweight="bold", clip_on=False)  # fmt: skip
