"""Makes the parts of an artifact's encoder, and verifies its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from export.evaluation import noise_and_silence
from export.graphs.encoder_graph import encoder_graph, encoder_state
from export.graphs.level_crossing_graph import level_crossing_graph, level_crossing_state
from export.parity import ParityError
from hetsyn_model.encoders.encoder import Encoder
from hetsyn_model.encoders.level_crossing import AnyEncoderSpec, LevelCrossing, LevelCrossingSpec
from service.contract.graph_io import AUDIO, EVENT_ROW, EVENT_UNIT, STEPS, VALUES, next_name, state_name
from service.contract.manifest import EncoderDescription, TensorDescription
from service.runtime.onnx import Array, Graph

ENCODER_FILE = "encoder.onnx"


@dataclass(frozen=True)
class EncoderParts:
    """The parts of an encoder.

    Attributes:
        graph: serialised ONNX.
        reference: the encoder in torch.
        probe: default input of the verification: float32 audio [stream, whole steps], or values [stream, steps,
            channels].
        input_description: what the network's channels are.
    """

    graph: bytes
    description: EncoderDescription
    reference: Encoder | LevelCrossing
    probe: torch.Tensor
    input_description: str


def encoder_parts(spec: AnyEncoderSpec) -> EncoderParts:
    """Make the parts of an encoder."""
    if isinstance(spec, LevelCrossingSpec):
        return EncoderParts(
            level_crossing_graph(spec),
            EncoderDescription(
                kind="values",
                file=ENCODER_FILE,
                channels=spec.inputs,
                sample_rate_hz=0,
                samples_per_step=1,
                state=level_crossing_state(spec),
            ),
            LevelCrossing(spec),
            wandering_values(spec),
            "Crossings of levels by values: direction (up, down), channel, level",
        )
    return EncoderParts(
        encoder_graph(spec),
        EncoderDescription(
            file=ENCODER_FILE,
            sample_rate_hz=spec.sample_rate_hz,
            samples_per_step=spec.step_samples,
            state=encoder_state(spec),
        ),
        Encoder(spec),
        noise_and_silence(spec),
        "Crossings of log Mel band levels: direction (up, down), band, level",
    )


def wandering_values(spec: LevelCrossingSpec, steps: int = 100) -> torch.Tensor:
    """Draw values, float32 [4, steps, channels], that wander over all levels, beyond them, and onto them."""
    rng = np.random.default_rng(0)
    walk = rng.normal(0.0, [[[0.1]], [[0.4]], [[2.0]], [[0.0]]], (4, steps, spec.inputs)).cumsum(1)
    walk[3] = rng.choice(spec.thresholds(), (steps, spec.inputs))
    scale = np.array(spec.scale)
    values = walk / np.where(scale == 0, 1.0, scale) + np.array(spec.offset)
    return torch.from_numpy(values.astype(np.float32))


def initial_arrays(layout: Sequence[TensorDescription], batch: int) -> dict[str, Array]:
    """Make the encoder's state before the first step for its graph, by tensor: [batch, *shape]."""
    return {t.name: np.full((batch, *t.shape), t.initial, t.dtype) for t in layout}


def verify_encoder(
    encoder: Encoder | LevelCrossing,
    graph: Graph,
    layout: Sequence[TensorDescription],
    inputs: torch.Tensor,
) -> None:
    """Compare an encoder's graph with torch, whole and in chunks.

    Args:
        encoder: the reference.
        inputs: float32 audio [stream, whole steps], or values [stream, steps, channels].

    Raises:
        ParityError: a spike differs.
    """
    batch = inputs.shape[0]
    # each encoder takes its own state
    expected = encoder.step(inputs, encoder.initial_state(batch))[0].numpy()  # type: ignore[arg-type]
    name, hop = (AUDIO, encoder.spec.step_samples) if isinstance(encoder, Encoder) else (VALUES, 1)
    for cut in (expected.shape[1], 3, 1):
        state = initial_arrays(layout, batch)
        for start in range(0, expected.shape[1], cut):
            width = min(cut, expected.shape[1] - start)
            feed = {
                name: inputs[:, start * hop : (start + width) * hop].numpy(),
                STEPS: np.full(batch, width, np.int64),
            } | {state_name(tensor): value for tensor, value in state.items()}
            out = graph.run(feed, [EVENT_ROW, EVENT_UNIT, *(next_name(tensor) for tensor in state)])
            state = {tensor: out[next_name(tensor)] for tensor in state}
            got = np.zeros((batch * width, expected.shape[2]), np.uint8)
            got[out[EVENT_ROW], out[EVENT_UNIT]] = 1
            wrong = int((got.reshape(-1, width, expected.shape[2]) != expected[:, start : start + width]).sum())
            if wrong:
                raise ParityError(f"encoder: ONNX Runtime differs from torch in {wrong} spikes, chunks of {cut} steps")
