"""A model as one HTML page, which loads nothing and runs no script."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.inspection.drawing import Chart
from export.inspection.energy import Energy, energy_section
from export.inspection.layers import LONGEST_KERNEL_STEPS, Layer, read_layers, sizes
from export.inspection.style import page
from service.contract.artifact import GOLDEN, Artifact
from service.contract.describe import summary
from service.contract.manifest import Manifest

Numbers = NDArray[np.float64]
BINS = 24
SHORTEST_LAG_STEPS = 0.1  # on a logarithmic axis
SMALL = 0.02  # of a kernel, by which its axis is not made longer
CURVE_POINTS = 60
MOST_CELLS = 40  # labels of a confusion matrix that is shown whole
MOST_CONFUSIONS = 20  # that are listed where it is not
COLOURS = ("c0", "c1", "c2", "c3", "c4")


def as_html(artifact: Artifact, facts: Mapping[str, Any], energy: Energy | None = None) -> str:
    """The page of a model.

    Args:
        artifact: of the model.
        facts: about it, by name.
        energy: operations of its step; None where they are not known.

    Raises:
        ArtifactError: a file is damaged.
    """
    manifest = artifact.manifest
    layers = read_layers(artifact)
    sections: list[tuple[str, str | None]] = [
        ("Layers", _layers(manifest, layers)),
        ("Time constants", _time_constants(manifest, layers)),
        ("Kernels", _kernels(manifest, layers)),
        ("Network", _network(summary(manifest)["network"])),
        ("Operations of a step", None if energy is None else energy_section(energy)),
        ("Confusion", _confusion(artifact)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections if content)
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if name != "description"
    )
    title = f"{manifest.name} {manifest.version}"
    head = f"<h1>{escape(title)}</h1><p class=lead>{escape(manifest.description)}</p>"
    return page(escape(title), f"{head}<table class=facts>{rows}</table>{body}")


def _layers(manifest: Manifest, layers: Sequence[Layer]) -> str:
    encoder, known = manifest.encoder, {layer.name: layer for layer in layers}
    boxes = []
    if encoder is not None:
        source = f"{encoder.sample_rate_hz:,} Hz" if encoder.kind == "audio" else f"{encoder.channels} values a step"
        boxes.append(_box(encoder.kind, source, ""))
    channels = f"{manifest.input.channels:,} {'values' if manifest.input.kind == 'values' else 'channels'}"
    boxes.append(_box("input", channels, manifest.input.description))
    for name, neurons in sizes(manifest).items():
        layer = known.get(name)
        detail = "" if layer is None else f"{layer.synapses:,} synapses"
        detail += ", recurrent" if layer is not None and layer.is_recurrent else ""
        boxes.append(_box(name, _count(neurons, "neuron"), detail))
    boxes.append(_box("decision", manifest.decision.rule, _count(len(manifest.labels), "label")))
    arrows = '<li class="arrow" aria-hidden="true">→</li>'.join(boxes)
    total = sum(layer.synapses for layer in layers)
    said = f"<p>{total:,} synapses in all.</p>" if total else ""
    return f"<ol class=boxes>{arrows}</ol>{said}"


def _box(name: str, size: str, detail: str) -> str:
    more = f"<small>{escape(detail)}</small>" if detail else ""
    return f"<li class=box><b>{escape(name)}</b><span>{escape(size)}</span>{more}</li>"


def _time_constants(manifest: Manifest, layers: Sequence[Layer]) -> str | None:
    """Histograms of all decays as time constants, with those of bank and reset."""
    figures, step_ms = [], 1000 * manifest.input.step_s
    for layer in layers:
        if layer.lag_steps:
            figures.append(_lags(layer, step_ms))
            continue
        taus = {kind: _taus_ms(decays, step_ms) for kind, decays in layer.decays.items()}
        taus = {kind: values for kind, values in taus.items() if len(values)}
        bank, reset = _taus_ms(layer.bank, step_ms), np.unique(np.round(_taus_ms(layer.reset_decay, step_ms), 6))
        if not taus and not len(bank) and not len(reset):
            continue
        chart = _histogram(taus, np.concatenate([bank, reset]), "time constant, ms")
        if len(bank):
            chart.marks(bank.tolist(), "c2", f"the {len(bank)} of the bank")
        if 0 < len(reset) <= 12:
            chart.marks(reset.tolist(), "c3", "reset" if len(reset) == 1 else "reset, of each neuron")
        endless = sum(int((decays >= 1).sum()) for decays in layer.decays.values())
        note = _medians(taus) + (f" {endless:,} synapses never decay." if endless else "")
        figures.append(_figure(layer.name, chart.svg(f"time constants of {layer.name}. {note}"), note))
    return _grid(figures)


def _lags(layer: Layer, step_ms: float) -> str:
    """A histogram of the mean lags of synapses that have no time constant of their own, such as pairs."""
    lags = {kind: step_ms * np.maximum(lag, SHORTEST_LAG_STEPS) for kind, lag in layer.lag_steps.items() if len(lag)}
    chart = _histogram(lags, np.zeros(0), "mean lag of the current after a spike, ms")
    bank = _taus_ms(layer.bank, step_ms)
    note = f"{_medians(lags)} {_count(len(layer.bank), 'decay')} in the bank"
    note += f", {bank.min():.1f} to {bank.max():,.0f} ms." if len(bank) else "."
    return _figure(layer.name, chart.svg(f"mean lags of {layer.name}. {note}"), note)


def _histogram(values: Mapping[str, Numbers], others: Numbers, x_name: str) -> Chart:
    """The share of the synapses of each kind by a time; the axis has room for the other times too."""
    every = np.concatenate([*values.values(), others, *([] if values or len(others) else [np.ones(1)])])
    low, high = float(every.min()) / 1.2, float(every.max()) * 1.2
    edges = np.geomspace(low, high, BINS + 1)
    shares = {kind: np.histogram(found, edges)[0] / len(found) for kind, found in values.items()}
    top = max((float(share.max()) for share in shares.values()), default=0.0) or 1.0
    chart = Chart((low, high), (0.0, top), x_name, "share of synapses", percent=True)
    for (kind, share), colour in zip(shares.items(), COLOURS, strict=False):
        chart.bars(edges, share, colour, f"{kind} synapses")
    return chart


def _medians(values: Mapping[str, Numbers]) -> str:
    medians = ", ".join(f"{kind} {np.median(found):.3g} ms" for kind, found in values.items())
    return f"Median: {medians}." if medians else ""


def _kernels(manifest: Manifest, layers: Sequence[Layer]) -> str | None:
    """Draw the current after one spike, of a few synapses of a bank."""
    figures, step_ms = [], 1000 * manifest.input.step_s
    for layer in layers:
        if not layer.kernels:
            continue
        slowest = max(kernel.lag_steps for kernel in layer.kernels)
        longest = int(min(LONGEST_KERNEL_STEPS, max(8.0, 4 * slowest)))
        steps = np.unique(np.geomspace(1, longest, CURVE_POINTS).round()) - 1  # after the spike; its own step is first
        banks = [kernel.at(steps, layer.bank) for kernel in layer.kernels]
        low, high = min(0.0, *(bank.min() for bank in banks)), max(1.0, *(bank.max() for bank in banks))
        y_range = (0.0 if low > -SMALL else low, 1.0 if high < 1 + SMALL else high)
        span, x_name = (step_ms, step_ms * longest), "time with the spike's own step, ms"
        chart = Chart(span, y_range, x_name, "current, relative to its largest", percent=False)
        for kernel, bank, colour in zip(layer.kernels, banks, COLOURS, strict=False):
            chart.line((steps + 1) * step_ms, bank, colour)
            chart.name(colour, f"mean lag {step_ms * kernel.lag_steps:.3g} ms")
        note = _bank_note(manifest, layer)
        figures.append(_figure(layer.name, chart.svg(f"kernels of {layer.name}. {note}"), note))
    if not figures:
        return None
    return f"<p>A few input synapses, from the earliest to the latest, out of the bank.</p>{_grid(figures)}"


def _bank_note(manifest: Manifest, layer: Layer) -> str:
    """Size of a layer's bank, and how far its kernels are off."""
    error = manifest.network.kernel_error.get(layer.name)
    note = f"{_count(len(layer.bank), 'decay')} in the bank."
    return note if error is None else f"{note} Worst kernel of all synapses: {error:.2%} off (relative L2)."


def _network(network: Mapping[str, Any]) -> str:
    head = ("form", "state of a session", "file", "kernel error", "spikes that differ", "accuracy")
    cells = (
        network["form"],
        f"{network['state_bytes']:,} bytes",
        f"{network['file_bytes']:,} bytes",
        f"{max(network['kernel_error'].values(), default=0.0):.2g}",
        _share(network["spike_mismatch"]),
        _share(network["accuracy"]),
    )
    heads = "".join(f"<th>{name}</th>" for name in head)
    row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f"<div class=wide><table><tr>{heads}</tr><tr>{row}</tr></table></div>"


def _confusion(artifact: Artifact) -> str | None:
    """What the examples of each label were taken for, where the export has counted it."""
    labels, counts = artifact.manifest.labels, read_confusion(artifact)
    if counts is None or counts.shape != (len(labels), len(labels)) or not counts.sum():
        return None
    right, total = int(np.trace(counts)), int(counts.sum())
    said = f"<p>{right:,} of {total:,} examples of the export right ({right / total:.1%}).</p>"
    if len(labels) > MOST_CELLS:
        return said + _worst_confusions(counts, labels)
    heads = "".join(f'<th scope="col"><span>{escape(label)}</span></th>' for label in labels)
    rows = [f"<tr><th>is \\ heard as</th>{heads}</tr>"]
    for label, row in zip(labels, counts.tolist(), strict=True):
        of_label = max(1, sum(row))
        cells = "".join(f'<td style="--share:{100 * count / of_label:.0f}%">{count or ""}</td>' for count in row)
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    return f"{said}<div class=wide><table class=confusion>{''.join(rows)}</table></div>"


def _worst_confusions(counts: NDArray[np.int64], labels: Sequence[str]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None)[:MOST_CONFUSIONS]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[i, j]]
    rows = "".join(
        f"<tr><td>{escape(labels[i])}</td><td>{escape(labels[j])}</td><td>{wrong[i, j]:,}</td></tr>" for i, j in pairs
    )
    return f"<div class=wide><table><tr><th>is</th><th>heard as</th><th>times</th></tr>{rows}</table></div>"


def read_confusion(artifact: Artifact) -> NDArray[np.int64] | None:
    """Read the counts [label, heard as] of the examples of the export; None where it had no labels."""
    if GOLDEN not in artifact.manifest.files:
        return None
    try:
        with np.load(io.BytesIO(artifact.read(GOLDEN)), allow_pickle=False) as file:
            name = f"{artifact.manifest.network.form}.confusion"
            found = file[name] if name in file.files else None
    except Exception:  # a damaged file may raise anything; the server's golden test says so
        return None
    return found if found is not None and found.dtype.kind in "iu" else None


def _taus_ms(decays: Numbers, step_ms: float) -> Numbers:
    """Time constants of decays that have one."""
    within = decays[(decays > 1e-12) & (decays < 1)].ravel()
    return np.asarray(-step_ms / np.log(within))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def _figure(name: str, chart: str, note: str) -> str:
    said = f"<p class=note>{escape(note)}</p>" if note else ""
    return f"<figure><figcaption>{escape(name)}</figcaption>{chart}{said}</figure>"


def _grid(figures: Sequence[str]) -> str | None:
    return f"<div class=figures>{''.join(figures)}</div>" if figures else None
