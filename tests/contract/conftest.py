"""An artifact exported by ``export``, read by the service."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.evaluation import Evaluation, seeded_streams
from export.own_network import Source, write_artifact
from hetsyn_model import DecisionSpec, Network, NetworkSpec, NeuronSpec
from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.state import FORMS, Form

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def encoder_spec() -> EncoderSpec:
    return EncoderSpec(bands=16, levels=6, spacing_db=4.0, contrast=0.4, emphasis_db_per_octave=6.0)


@pytest.fixture(scope="session")
def network(encoder_spec: EncoderSpec) -> Network:
    spec = NetworkSpec(
        channels=encoder_spec.channels,
        hidden=(24, 12),
        outputs=3,
        step_s=encoder_spec.step_s,
        neuron=NeuronSpec(tau_init_steps=(2, 15)),
        decision=DecisionSpec("sum_softmax", skip_steps=5),
    )
    made = Network(spec, seed=4).eval()
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(2.0)
    return made


@pytest.fixture(scope="session", params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    """That the artifacts have."""
    chosen: Form = request.param
    return chosen


@pytest.fixture(scope="session")
def models(network: Network, encoder_spec: EncoderSpec, form: Form, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    source = Source(network, "words", "1", "three words", ("a", "b", "c"), "bands", encoder_spec, tail_steps=7)
    evaluation = Evaluation(seeded_streams(encoder_spec.channels, 0.05, streams=4, steps=20))
    write_artifact(source, evaluation, folder / "words/1", form=form)
    return folder
