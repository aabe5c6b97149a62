"""The state that silence leaves behind, in every kind of network and both forms."""

from __future__ import annotations

import pytest
import torch

from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.quiet import QuietStart, layout_after, quiet_steps
from hetsyn_model.spec import SpecError
from hetsyn_model.state import FORMS, Form, initial_state
from hetsyn_model.step import step
from tests.support.networks import NEURONS, small_network

LENGTHS = torch.tensor([25, 20, 4, 25])


def streams(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Spikes [4, 25, 30], and those of a stream before them [1, 7, 30]."""
    torch.manual_seed(seed)
    return (torch.rand(4, 25, 30) < 0.1).float(), (torch.rand(1, 7, 30) < 0.3).float()


def test_events_come_after_others() -> None:
    spikes, before = streams()
    spikes[2] = 0.0
    joined = torch.cat([before.expand(4, -1, -1), spikes], 1)
    assert torch.equal(Events.of(spikes).after(Events.of(before)).dense(), joined)
    assert torch.equal(Events.of(spikes).after(Events.of(0 * before)).dense()[:, 7:], spikes)
    assert torch.equal(Events.of(spikes[:, :0]).after(Events.of(before)).dense(), before.expand(4, -1, -1))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", NEURONS)
def test_a_rollout_leaves_out_what_came_before(kind: str, form: Form) -> None:
    network, (spikes, before) = small_network(kind, "sum_softmax", bias=True), streams()
    whole = network.rollout(torch.cat([before.expand(4, -1, -1), spikes], 1), form)
    rolled = network.rollout(spikes, form, LENGTHS, Events.of(before))
    assert torch.equal(rolled.readout, whole.readout[:, 7:])
    for found, expected in zip(rolled.hidden_spikes, whole.hidden_spikes, strict=True):
        assert torch.equal(found, expected[:, 7:])
    inside = (torch.arange(25) < LENGTHS.unsqueeze(-1)) & (torch.arange(25) >= network.spec.decision.skip_steps)
    expected = (torch.softmax(rolled.readout, -1) * inside.unsqueeze(-1)).sum(1)
    assert torch.allclose(rolled.scores, expected, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", NEURONS)
def test_a_stream_may_begin_in_the_state_after(kind: str, form: Form) -> None:
    network, (spikes, before) = small_network(kind, "sum_softmax", bias=True), streams()
    compiled = network.compile(form).detach()
    state = initial_state(layout_after(compiled, Events.of(before)), 4)
    assert not state["decision.score"].any()
    assert not state["decision.step"].any()
    readout = []
    with torch.no_grad():
        for x in spikes.unbind(1):
            state, output = step(compiled, state, x)
            readout.append(output.readout)
        expected = network.rollout(spikes, form, before=Events.of(before))
    assert torch.allclose(torch.stack(readout, 1), expected.readout, atol=1e-5)
    assert torch.allclose(state["decision.score"], expected.scores, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_what_came_before_is_learned_from(form: Form) -> None:
    network, (_, before) = small_network("hetsyn", "last"), streams()
    network.rollout(torch.zeros(2, 3, 30), form, before=Events.of(before)).readout.square().sum().backward()
    assert any(bool(p.grad.any()) for p in network.parameters() if p.grad is not None)


def test_an_encoder_goes_on_after_silence() -> None:
    encoder = Encoder(EncoderSpec(bands=8, levels=4, spacing_db=6.0, contrast=0.5))
    audio = 0.1 * torch.randn(3, 800, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, _ = encoder.step(torch.cat([torch.zeros(3, 960), audio], 1), encoder.initial_state(3))
    quiet = QuietStart.of(encoder, 12)
    spikes, _ = encoder.step(audio, quiet.encoder_state(3))
    assert torch.equal(spikes, whole[:, 12:])
    assert torch.equal(quiet.events.dense()[0], whole[0, :12].float())


@pytest.mark.parametrize("quiet_s", [-0.1, 61.0, float("nan"), float("inf")])
def test_a_silence_of_another_length_is_refused(quiet_s: float) -> None:
    with pytest.raises(SpecError, match=r"quiet_s: .* is not from 0 to 60 seconds"):
        quiet_steps(quiet_s, 0.01)


def test_a_silence_is_of_whole_steps() -> None:
    assert [quiet_steps(each, 0.01) for each in (0.0, 0.3, 0.004)] == [0, 30, 0]
