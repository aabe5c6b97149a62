"""What an artifact has of either encoder: its graph, its description, and what verifies it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from export.encoder_graph import encoder_graph, encoder_state
from export.evaluation import noise_and_silence
from export.level_crossing_graph import level_crossing_graph, level_crossing_state
from hetsyn_model.encoder import Encoder
from hetsyn_model.level_crossing import AnyEncoderSpec, LevelCrossing, LevelCrossingSpec
from service.contract.manifest import EncoderDescription

ENCODER_FILE = "encoder.onnx"


@dataclass(frozen=True)
class EncoderParts:
    """An encoder as the exporter needs it.

    Attributes:
        graph: serialised ONNX.
        description: for the manifest.
        reference: the encoder in torch.
        probe: what verifies the graph where nothing better is at hand: float32 audio [stream, whole steps], or values
            [stream, steps, channels].
        input_description: of the network's channels.
    """

    graph: bytes
    description: EncoderDescription
    reference: Encoder | LevelCrossing
    probe: torch.Tensor
    input_description: str


def encoder_parts(spec: AnyEncoderSpec) -> EncoderParts:
    """The parts of an encoder."""
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
    """Seeded values, float32 [4, steps, channels], that wander over all levels, beyond them, and onto them."""
    rng = np.random.default_rng(0)
    walk = rng.normal(0.0, [[[0.1]], [[0.4]], [[2.0]], [[0.0]]], (4, steps, spec.inputs)).cumsum(1)
    walk[3] = rng.choice(spec.thresholds(), (steps, spec.inputs))
    scale = np.array(spec.scale)
    values = walk / np.where(scale == 0, 1.0, scale) + np.array(spec.offset)
    return torch.from_numpy(values.astype(np.float32))
