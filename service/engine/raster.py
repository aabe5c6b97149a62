"""Collects the spikes of a chunk, of the input and of each hidden layer, for clients that ask for them.

A network's graph has the spikes of its hidden layers as outputs, which cost nothing unless requested. Steps are those
of the session's input. In a session with utterances, the network hears only these, each from its pre-roll on; the
silent tail at an utterance's end is no input, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hetsyn_client.results import LayerSpikes, Spikes
from service.contract.graph_io import EVENT_ROW, EVENT_UNIT, spikes_name
from service.engine.utterances import steps_at
from service.engine.work import Inputs, Job, Piece, Raster, RasterPart
from service.errors import ArtifactError
from service.models.model import Model
from service.runtime.onnx import Array
from service.wire.chunk import Chunk, SpikeChunk

INPUT = "input"
MOST_CELLS = 2**17
"""Steps of a chunk times units of input and hidden layers, each of which may spike: a reply has 1.3 MB at most, and
is made on the event loop."""


def most_steps(model: Model) -> int:
    """Return the limit of a chunk's steps for which spikes may be requested."""
    return max(1, MOST_CELLS // (model.manifest.input.channels + sum(model.manifest.hidden)))


def seen(model: Model, piece: Piece, inputs: Inputs, outputs: Mapping[str, Array], b: int, longest: int) -> Raster:
    """Append the spikes of a piece, index ``b`` of a batch with ``longest`` steps, to the raster of its job."""
    traces: dict[str, Array] = {}
    if EVENT_ROW in inputs.network:
        rows, units = inputs.network[EVENT_ROW], inputs.network[EVENT_UNIT]
        begin, until = np.searchsorted(rows, (b * longest, b * longest + piece.steps))
        traces[INPUT] = np.zeros((piece.steps, model.manifest.input.channels), bool)
        traces[INPUT][rows[begin:until] - b * longest, units[begin:until]] = True
    elif isinstance(piece.job.chunk, SpikeChunk):
        traces[INPUT] = piece.values
    for name, neurons in model.hidden_layers.items():
        trace = outputs[spikes_name(name)]
        if trace.shape[1:] != (longest, neurons):
            raise ArtifactError(
                f"model {model.name!r} version {model.version!r} gave spikes of {name} as "
                f"{list(trace.shape[1:])}, not {[longest, neurons]}: export the model again with a matching hetsyn"
            )
        traces[name] = trace[b, : piece.steps]
    first, end = _span(model, piece.job)
    kept = piece.steps if end is None else max(0, min(piece.steps, end - first))
    bits = {name: np.packbits(trace[:kept] != 0, axis=1) for name, trace in traces.items()}
    return (*(piece.job.raster or ()), RasterPart(first, bits))


def spikes_of(model: Model, chunk: Chunk | None, raster: Raster, first: int, end: int) -> Spikes:
    """Convert a raster to JSON values.

    Args:
        first: the session's step at which the chunk begins.
        end: the session's steps after it.
    """
    first = min([first, *(part.first for part in raster)])
    sizes = dict(model.hidden_layers)
    if not model.takes_values_only or isinstance(chunk, SpikeChunk):
        sizes = {INPUT: model.manifest.input.channels, **sizes}
    layers: list[LayerSpikes] = []
    for name, size in sizes.items():
        layer: LayerSpikes = {"name": name, "size": size, "times": [], "units": []}
        for part in raster:
            step, unit = np.nonzero(np.unpackbits(part.bits[name], axis=1, count=size))
            layer["times"] += (step + (part.first - first)).tolist()
            layer["units"] += unit.tolist()
        layers.append(layer)
    return {"first_step": first, "steps": end - first, "layers": layers}


def _span(model: Model, job: Job) -> tuple[int, int | None]:
    """Return the session's step at which a piece begins, and the last step of the utterance that it ends, or None."""
    before = job.stream.step
    heard = job if job.after is None else job.after
    utterances = heard.stream.utterances
    if utterances is None:
        return before, None
    end = None if job.after is None else steps_at(model, heard.stream, utterances.position)
    return steps_at(model, heard.stream, utterances.start) + before, end
