"""Delays: shift registers, the reduction to a network without them, chunks, gradients."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hetsyn_model import Network, NetworkSpec, PathSpec, initial_state
from hetsyn_model.state import FORMS, Form, State
from hetsyn_model.step import step
from hetsyn_model.synapses.path import Delays, push, triangle
from tests.support.networks.delays import PATHS, delayed_network
from tests.support.networks.networks import small_network
from tests.support.pairs import in_pairs

CHANNELS = 30


def spikes(batch: int = 3, steps: int = 60, *, seed: int = 0) -> Tensor:
    return (torch.rand(batch, steps, CHANNELS, generator=torch.Generator().manual_seed(seed)) < 0.12).float()


def run(made: Network, form: Form, x: Tensor, state: State | None = None) -> tuple[State, Tensor]:
    """Steps through the registers: the last state, and the readout of every step."""
    compiled = made.compile(form).detach()
    state = initial_state(compiled.layout, x.shape[0]) if state is None else state
    readout = []
    for t in range(x.shape[1]):
        state, output = step(compiled, state, x[:, t])
        readout.append(output.readout)
    return state, torch.stack(readout, 1)


@given(
    longest=st.sampled_from([1, 7, 23, 24, 25, 47, 48, 49, 72]),
    taps=st.integers(1, 3),
    seed=st.integers(0, 2**16),
    density=st.sampled_from([0.05, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=40)
def test_registers_are_the_past_itself(longest: int, taps: int, seed: int, density: float) -> None:
    drawn = torch.Generator().manual_seed(seed)
    path = PathSpec(longest, taps)
    delays = Delays(path, torch.randint(0, longest + 1, (taps, 4), generator=drawn))
    x = (torch.rand(2, 3 * longest + 5, 4, generator=drawn) < density).float()
    history, arrived = torch.zeros(2, path.registers, 4), []
    for t in range(x.shape[1]):
        arrived.append(delays.arrivals(history, x[:, t]))
        history = push(history, x[:, t])
    expected = torch.zeros(2, x.shape[1], taps * 4)
    for row, d in enumerate(delays.steps.flatten().tolist()):
        expected[:, d:, row] = x[:, : x.shape[1] - d, row % 4]
    assert torch.equal(torch.stack(arrived, 1), expected)
    assert torch.equal(delays.of_stream(x), expected)
    learning = delays.learning(x.dtype)
    recent = {name: torch.zeros(2, *shape) for name, shape in learning.state(4).items()}
    for t in range(x.shape[1]):
        recent, now = learning.step(recent, x[:, t])
        assert torch.equal(now, expected[:, t])
    spread = Delays(path, delays.steps, triangle(delays.steps.double(), longest, 0.0))
    assert torch.equal(spread.of_stream(x.double()).float(), expected)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_delays_of_zero_are_the_network_without_them(form: Form) -> None:
    plain = small_network("hetsyn", "sum_softmax")
    one_tap = Network(replace(plain.spec, input_path=PathSpec(9), recurrent_path=PathSpec(27))).eval()
    one_tap.load_state_dict(plain.state_dict(), strict=False)
    for delay in one_tap.delays().values():
        delay.zero_()
    one_tap.fit_banks()
    got, wanted = one_tap.rollout(spikes(), form), plain.rollout(spikes(), form)
    assert bool(wanted.hidden_spikes[1].any())
    assert torch.equal(got.readout, wanted.readout)
    state, readout = run(one_tap, form, spikes())
    plain_state, plain_readout = run(plain, form, spikes())
    assert torch.equal(readout, plain_readout)
    for name, value in plain_state.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize(
    ("form", "path", "kind"), in_pairs(product(FORMS, PATHS, ["hetsyn", "hetneu", "lif-zero", "alif"]))
)
@torch.no_grad()
def test_steps_are_the_rollout(form: Form, path: str, kind: str) -> None:
    made = delayed_network(path, kind, bias=True)
    rolled = made.rollout(spikes(), form)
    assert bool(rolled.hidden_spikes[1].any())
    assert torch.equal(run(made, form, spikes())[1], rolled.readout)


@pytest.mark.parametrize("path", PATHS)
def test_a_state_in_mid_delay_goes_on(path: str) -> None:
    made = delayed_network(path)
    whole = run(made, "bank", spikes())[1]
    half, first = run(made, "bank", spikes()[:, :31])
    saved = {name: value.numpy().tobytes() for name, value in half.items()}
    read = {
        name: torch.frombuffer(bytearray(saved[name]), dtype=value.dtype).view(value.shape)
        for name, value in half.items()
    }
    assert torch.equal(torch.cat([first, run(made, "bank", spikes()[:, 31:], read)[1]], 1), whole)


def test_a_delay_learns_only_while_it_is_spread() -> None:
    made = delayed_network("both")
    for training, spread in ((True, 3.0), (True, None), (False, 3.0)):
        made.train(training)
        made.delay_spread = spread
        made.zero_grad()
        made.rollout(spikes(), "bank").readout.square().sum().backward()
        learns = training and spread is not None
        for delay in made.delays().values():
            assert (delay.grad is not None and bool(delay.grad.any())) == learns


def test_the_gradient_finds_the_delay() -> None:
    # one spike; its weight should arrive seven steps later than it does at first
    spec = NetworkSpec(1, (1,), 1, recurrent=False, input_path=PathSpec(20))
    made = Network(spec, seed=0).train()
    path = made.layer("hidden1")
    assert path.delay_in is not None
    wanted = torch.zeros(1, 40, 1)
    wanted[0, 15] = 1.0
    x = torch.zeros(1, 40, 1)
    x[0, 3] = 1.0
    optimiser = torch.optim.Adam([path.delay_in], lr=0.2)
    with torch.no_grad():
        path.delay_in.fill_(5.0)
    for update in range(300):
        arrived = path.input_way(10.0 * (1 - update / 300)).of_stream(x)
        loss = -(arrived * wanted).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        made.clamp_decays_()
    assert int(path.delay_in.detach().round()) == 12


@torch.no_grad()
def test_silence_longer_than_the_registers_leaves_nothing() -> None:
    delays = Delays(PathSpec(49, 2), torch.tensor([[0, 24], [25, 49]]))
    history = torch.zeros(1, 3, 2)
    for _ in range(100):
        history = push(history, torch.ones(1, 2))
    assert history.max() == 2**24 - 1
    for _ in range(3 * 24):
        history = push(history, torch.zeros(1, 2))
    assert not history.any()
    assert not delays.arrivals(history, torch.zeros(1, 2)).any()


def test_a_saved_network_is_the_same() -> None:
    made = delayed_network("input-26-taps-2")
    again = Network.load(made.save())
    assert torch.equal(made.rollout(spikes(), "bank").readout, again.rollout(spikes(), "bank").readout)


def test_taps_that_are_even_are_every_delay() -> None:
    made = Network(NetworkSpec(3, (2,), 2, input_path=PathSpec(4, 5, learn_delays=False, initial="even")))
    delays = made.layer("hidden1").input_way(None)
    assert isinstance(delays, Delays)
    assert delays.steps.tolist() == [[d, d, d] for d in range(5)]
    assert not made.delays()


def test_nobody_is_their_own_presynaptic_neuron_through_any_tap() -> None:
    spec = NetworkSpec(3, (4,), 2, self_recurrent=False, recurrent_path=PathSpec(6, 3))
    exact = Network(spec, seed=1).layer("hidden1").exact()
    assert exact.recurrent is not None
    for tap in exact.recurrent.weight.split(4, 1):
        assert not tap.diagonal().any()
        assert int((tap != 0).sum()) == 12


@given(st.floats(0.0, 24.0), st.floats(0.0, 12.0))
def test_a_spread_spike_weighs_as_much_as_a_whole_one(delay: float, spread: float) -> None:
    d = torch.tensor([[delay]], dtype=torch.float64, requires_grad=True)
    shares = triangle(d, 24, spread)
    assert float(shares.detach().sum()) == pytest.approx(1.0)
    (slope,) = torch.autograd.grad((torch.arange(25.0, dtype=torch.float64) @ shares[:, 0]).sum(), d)
    assert float(slope) >= -1e-9  # a longer delay arrives later in the mean
