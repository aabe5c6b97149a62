"""A network and its encoder, small enough to be trained in a test."""

from __future__ import annotations

from hetsyn_model import DecisionSpec, NetworkSpec, NeuronSpec
from hetsyn_model.encoder import EncoderSpec

ENCODER = EncoderSpec(bands=8, levels=4, spacing_db=6.0)
NETWORK = NetworkSpec(
    channels=ENCODER.channels,
    hidden=(24,),
    outputs=3,
    step_s=ENCODER.step_s,
    neuron=NeuronSpec(tau_init_steps=(2, 10), tau_reset_steps=10),
    decision=DecisionSpec(),
)
