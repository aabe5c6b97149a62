"""The level-crossing encoder: the spikes of its equation, the same for any way of cutting a series."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.encoders.level_crossing import LevelCrossing, LevelCrossingSpec, encoder_from_dict
from hetsyn_model.spec import SpecError

SPEC = LevelCrossingSpec(levels=4, step_s=0.02, offset=(10.0, -1.0), scale=(0.5, 2.0))
VALUES = st.floats(-20, 20, width=32)


def test_a_channel_fires_where_it_passes_a_level() -> None:
    assert SPEC.thresholds().tolist() == [0.75, 0.25, -0.25, -0.75]
    encoder = LevelCrossing(SPEC)
    # y of the first channel: -1, 0, 1, -0.5; the second stays at 0
    values = torch.tensor([[[8.0, -1.0], [10.0, -1.0], [12.0, -1.0], [9.0, -1.0]]])
    spikes, state = encoder.step(values, encoder.initial_state(1))
    up, down = spikes.view(4, 2, 2, 4).unbind(1)  # [step, channel, level], levels from the highest down
    assert up[:, 0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert down[:, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert up[:, 1].tolist() == [[0, 0, 1, 1], *[[0, 0, 0, 0]] * 3]  # the first row says where a channel stands
    assert state.tolist() == [[-0.5, 0.0]]


@given(arrays.arrays(np.float32, (2, 9, 2), elements=VALUES), st.lists(st.integers(0, 9), max_size=4))
def test_any_cut_gives_the_same_spikes(values: np.ndarray, cuts: list[int]) -> None:
    encoder, tensor = LevelCrossing(SPEC), torch.from_numpy(values)
    whole, end = encoder.step(tensor, encoder.initial_state(2))
    state, parts = encoder.initial_state(2), []
    edges = [0, *sorted(cuts), 9]
    for start, stop in itertools.pairwise(edges):
        spikes, state = encoder.step(tensor[:, start:stop], state)
        parts.append(spikes)
    assert torch.equal(torch.cat(parts, 1), whole)
    assert torch.equal(state, end)


@given(arrays.arrays(np.float32, (1, 12, 2), elements=VALUES))
def test_ups_less_downs_are_the_levels_below_a_value(values: np.ndarray) -> None:
    encoder = LevelCrossing(SPEC)
    spikes, _ = encoder.step(torch.from_numpy(values), encoder.initial_state(1))
    up, down = spikes.view(12, 2, 2, 4).long().unbind(1)
    y = (values[0].astype(np.float64) - SPEC.offset) * SPEC.scale
    below = (y[..., None] > SPEC.thresholds()).sum(-1)
    assert np.array_equal((up - down).sum(-1).cumsum(0).numpy(), below)


def test_few_outliers_do_not_move_the_levels() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(5, 15, (1000, 2)).astype(np.float32)
    values[:5, 0] = 1e6
    values[:, 1] = 3.0
    spec = LevelCrossingSpec.learn([values[:400], values[400:]], levels=8, step_s=0.01, quantile=0.01)
    assert spec.offset[0] == pytest.approx(10, abs=0.2)
    assert 1 / spec.scale[0] == pytest.approx(5, abs=0.2)
    assert (spec.offset[1], spec.scale[1]) == (3.0, 0.0)
    encoder = LevelCrossing(spec)
    spikes, _ = encoder.step(torch.from_numpy(values[None]), encoder.initial_state(1))
    constant = spikes.view(1000, 2, 2, 8)[:, :, 1]
    assert not constant[1:].any()  # a channel that never changes is silent after the first row


def test_a_channel_that_seldom_changes_is_heard() -> None:
    values = np.zeros((1000, 1), np.float32)
    values[::300] = 2.0
    spec = LevelCrossingSpec.learn([values], levels=4, step_s=0.01, quantile=0.01)
    assert (spec.offset, spec.scale) == ((1.0,), (1.0,))


def test_either_encoder_survives_a_checkpoint() -> None:
    assert encoder_from_dict(SPEC.to_dict()) == SPEC
    assert encoder_from_dict(EncoderSpec(bands=8).to_dict()) == EncoderSpec(bands=8)


@pytest.mark.parametrize(
    ("levels", "step_s", "offset", "scale", "message"),
    [
        (0, 0.1, (0.0,), (1.0,), "levels: 0 is below 1"),
        (1, 0.0, (0.0,), (1.0,), "step_s: 0.0 is not above 0"),
        (1, 0.1, (0.0,), (1.0, 2.0), "1 offsets and 2 scales"),
        (1, 0.1, (), (), "not one a channel"),
        (1, 0.1, (float("nan"),), (1.0,), "not finite"),
    ],
)
def test_a_wrong_description_is_one_sentence(
    levels: int, step_s: float, offset: tuple[float, ...], scale: tuple[float, ...], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        LevelCrossingSpec(levels, step_s, offset, scale)
