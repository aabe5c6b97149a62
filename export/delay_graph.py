"""Delays of spikes in ONNX, as ``hetsyn_model/path.py`` computes them: shift registers of float32, bit for bit."""

from __future__ import annotations

import numpy as np

from export.build import GraphBuilder
from hetsyn_model.path import Delays
from hetsyn_model.spec.path import REGISTER_STEPS

_TOP = 2.0 ** (REGISTER_STEPS - 1)


def read_tables(graph: GraphBuilder, delays: Delays, steps: str) -> None:
    """Where each row of a path reads its bit, for :func:`arrive`; once a chunk.

    Args:
        graph: of the chunk.
        delays: of the path.
        steps: int16 [rows], the delays.
    """
    choices = np.arange(delays.path.max_delay_steps + 1)
    register = -(-choices // REGISTER_STEPS)  # 0 is the step's own spikes
    scale = 2.0 ** -np.where(choices > 0, (choices - 1) % REGISTER_STEPS, 0)
    unit = graph.constant(np.tile(np.arange(delays.units), delays.path.taps))
    chosen = graph.cast(steps, "int64")
    first = graph.node("Gather", graph.constant(register * delays.units), chosen)
    graph.bind(f"{steps}.index", graph.node("Add", first, unit))
    graph.bind(f"{steps}.scale", graph.node("Gather", graph.constant(scale.astype(np.float32)), chosen))


def arrive(body: GraphBuilder, delays: Delays, steps: str, history: str, x: str) -> tuple[str, str]:
    """What arrives in a step, [batch, rows], and the history after it.

    Args:
        body: of the step.
        delays: of the path.
        steps: the delays, of which :func:`read_tables` has made tables.
        history: [batch, registers, units].
        x: [batch, units], the spikes of this step.
    """

    def scalar(value: float) -> str:
        return body.constant(value, "float32")

    known = body.node("Concat", x, body.reshape(history, [0, -1]), axis=1)
    shifted = body.node(
        "Floor", body.node("Mul", body.node("Gather", known, f"{steps}.index", axis=1), f"{steps}.scale")
    )
    even = body.node("Mul", scalar(2.0), body.node("Floor", body.node("Mul", scalar(0.5), shifted)))
    arrived = body.node("Sub", shifted, even)

    lost = body.node("Floor", body.node("Mul", scalar(1.0 / _TOP), history))
    gained = body.unsqueeze(x, 1)
    if delays.path.registers > 1:
        first, last, axis = (body.constant([n], "int64") for n in (0, -1, 1))
        gained = body.node("Concat", gained, body.node("Slice", lost, first, last, axis), axis=1)
    left = body.node("Sub", history, body.node("Mul", scalar(_TOP), lost))
    return arrived, body.node("Add", body.node("Mul", scalar(2.0), left), gained)
