"""The formulas of operations: NeuroBench's own example and figures, LIF and LSTM, any rate."""

from __future__ import annotations

import numpy as np
import pytest

from export.inspection.operations import (
    Operations,
    all_connected,
    count,
    lif_work,
    lstm_hidden,
    lstm_values,
    lstm_work,
    work_of_network,
)
from service.contract.manifest import TensorDescription

SIZES = {"hidden1": 8, "hidden2": 4, "readout": 3}


def test_the_example_of_neurobench() -> None:
    """The page "Synaptic Operations" of its documentation: 4 effective and 9 dense operations."""
    weights = np.array([[1.3, 0.0, -3.2], [0.0, 1.2, -5.1], [-1.1, 2.7, 0.0]], np.float32).T
    active = np.array([0.0, 1.3, -1.0]) != 0
    of_values = work_of_network({"readout.weight_in": weights}, (), {"readout": 3}, 3, is_binary=False)
    counted = count(of_values, {"input": active.astype(float)})
    assert (counted.effective_macs, counted.effective_acs, counted.dense) == (4, 0, 9)
    assert (counted.multiplications, counted.additions) == (4, 4)
    of_spikes = work_of_network({"readout.weight_in": weights}, (), {"readout": 3}, 3)
    counted = count(of_spikes, {"input": active.astype(float)})
    assert (counted.effective_macs, counted.effective_acs, counted.dense) == (0, 4, 9)
    assert (counted.multiplications, counted.additions) == (0, 4)


def test_a_unit_s_spike_arrives_once_a_tap() -> None:
    weights = np.array([[1, 0], [2, 3], [0, 0], [4, 5], [6, 0], [7, 8]], np.int16)  # tap 0 of three units, then tap 1
    tensors = {"readout.weight_in": weights, "readout.delay_in": np.zeros(6, np.int16)}
    of_taps = work_of_network(tensors, (), {"readout": 2}, 3)
    counted = count(of_taps, {"input": np.array([1.0, 0.0, 1.0])})
    assert (counted.effective_acs, counted.dense) == (3 + 2, 12)
    assert counted.weight_bytes_read == 2 * 2 * 2 * weights.itemsize + 6 * 2


def test_neurons_that_nobody_has_counted_are_refused() -> None:
    """In place of a figure without what they cost; then ``hetsyn inspect`` shows no operations."""
    weights = {f"{name}.weight_in": np.ones((units, 2), np.int16) for name, units in (("hidden1", 3), ("readout", 2))}
    names = ("hidden1.membrane", "hidden1.turned")
    state = [TensorDescription(name=name, shape=(2,), dtype="float32", initial=0.0) for name in names]
    with pytest.raises(ValueError, match="what the state turned costs"):
        work_of_network(weights, state, {"hidden1": 2, "readout": 2}, 3)


def test_an_lstm_as_neurobench_counts_it() -> None:
    """``single_layer_MACs`` of neurobench 2.3.0 for cells 20-8-4, a linear readout of 3 and 7 of 20 inputs active."""
    active = np.arange(20) < 7
    counted = count(lstm_work(20, (8, 4), 3), {"input": active.astype(float)})
    assert counted.effective_acs + counted.effective_macs == 504 + 204 + 12
    assert counted.dense == 920 + 204 + 12
    assert counted.effective_acs == 7 * 4 * 8
    of_values = count(lstm_work(20, (8, 4), 3, is_binary=False), {"input": active.astype(float)})
    assert of_values.effective_macs == 720
    assert of_values.effective_acs == 0


def test_an_lstm_of_as_many_values_is_the_widest_that_fits() -> None:
    assert lstm_values(20, (8, 4), 3) == 4 * 8 * (20 + 8 + 1) + 4 * 4 * (8 + 4 + 1) + (4 + 1) * 3
    for values in (200, 1_000, 5_000):
        hidden = lstm_hidden(20, (8, 4), 3, values)
        assert lstm_values(20, hidden, 3) <= values
        assert lstm_values(20, [hidden[0] + 1, round((hidden[0] + 1) / 2)], 3) > values
    assert lstm_hidden(20, (8, 4), 3, 5) == [1, 1]  # none is so small


def test_a_lif_network_in_its_smallest_form() -> None:
    connected = all_connected(20, SIZES, recurrent=True)
    rates = {"input": 0.1, "hidden1": 0.25, "hidden2": 0.5}
    lif, hetneu = (count(lif_work(connected, SIZES, own_decays=own), rates) for own in (False, True))
    accumulates = 2 * 8 + 2 * (8 + 4) + 2 * (4 + 3)
    assert lif.effective_acs == hetneu.effective_acs == accumulates
    assert lif.dense == 8 * (20 + 8) + 4 * (8 + 4) + 3 * 4
    assert lif.multiplications == hetneu.multiplications == 8 + 4 + 3
    assert lif.additions == accumulates + (8 + 4 + 3) + 2 + 2  # and resets
    assert lif.state_bytes_read == lif.state_bytes_written == 4 * (2 * 8 + 2 * 4 + 3)
    assert lif.weight_bytes_read == 4 * accumulates
    assert hetneu.weight_bytes_read == lif.weight_bytes_read + 4 * (8 + 4 + 3)


def test_energy_is_that_of_additions_and_multiplications() -> None:
    counted = count(lstm_work(20, (8, 4), 3), {"input": 0.0})
    assert counted.arithmetic_nj == pytest.approx(4.6e-3 * counted.effective_macs)
    silent = Operations(*[0.0] * 11)
    assert silent.arithmetic_nj == 0
    assert set(silent.to_dict()) >= {"dense", "effective_macs", "effective_acs", "arithmetic_nj"}


@pytest.mark.parametrize("shape", [(7, 8), (20,)])
def test_weights_of_another_network_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"hidden1\.weight_in"):
        work_of_network({"hidden1.weight_in": np.ones(shape, np.float32)}, (), SIZES, 20)
