"""Networks of Norse, with its step of 1 ms."""

from __future__ import annotations

import importlib
from typing import Any

import nir
import torch
from torch import Tensor, nn

from tests.long.libraries.case import HIDDEN, Case, array, chain, full, recurrent
from tests.long.libraries.task import CHANNELS, CLASSES


def _norse(cell: str, parameters: str, **values: float) -> Case:
    """Linear -> cell -> Linear -> cell of a feed-forward cell."""
    norse = importlib.import_module("norse.torch")

    def neurons(count: int) -> Any:
        given = {name: torch.full((count,), value) for name, value in values.items()}
        rest = {
            name: torch.zeros(count) for name in ("v_leak", "v_reset") if hasattr(getattr(norse, parameters)(), name)
        }
        return getattr(norse, cell)(getattr(norse, parameters)(**rest, **given))

    network = norse.SequentialState(
        nn.Linear(CHANNELS, HIDDEN), neurons(HIDDEN), nn.Linear(HIDDEN, CLASSES), neurons(CLASSES)
    )
    linears: list[Any] = [module for module in network.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for linear in linears:
            linear.weight.mul_(3.0)  # so that neurons fire at first

    def counts(spikes: Tensor) -> Tensor:
        state, total = None, torch.zeros(())
        for t in range(spikes.shape[1]):
            fired, state = network(spikes[:, t], state)
            total = total + fired
        return total

    def graph() -> Any:
        return importlib.import_module("norse.torch.utils.export_nir").to_nir(network, torch.zeros(1, CHANNELS))

    return Case(network, counts, graph)


def lif_box() -> Case:
    return _norse("LIFBoxCell", "LIFBoxParameters", tau_mem_inv=100.0, v_th=0.1)


def lif() -> Case:
    return _norse("LIFCell", "LIFParameters", tau_mem_inv=100.0, tau_syn_inv=200.0, v_th=0.3)


def iaf() -> Case:
    return _norse("IAFCell", "IAFParameters", v_th=1.0)


class _NorseRecurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norse = importlib.import_module("norse.torch")
        self.p = norse.LIFParameters(
            tau_mem_inv=torch.tensor(100.0), tau_syn_inv=torch.tensor(200.0), v_th=torch.tensor(0.5)
        )
        self.hidden = norse.LIFRecurrentCell(CHANNELS, HIDDEN, self.p)
        self.weights = nn.Linear(HIDDEN, CLASSES)
        self.out = norse.LIFCell(self.p)

    def forward(self, spikes: Tensor) -> Tensor:
        hidden = out = None
        total = torch.zeros(())
        for t in range(spikes.shape[1]):
            fired, hidden = self.hidden(spikes[:, t], hidden)
            fired, out = self.out(self.weights(fired), out)
            total = total + fired
        return total


def lif_recurrent() -> Case:
    network = _NorseRecurrent()

    def graph() -> Any:
        p = network.p
        numbers = (1 / p.tau_syn_inv, 1 / p.tau_mem_inv, 1.0, 0.0, p.v_th, 0.0, 1 / p.tau_syn_inv / 1e-3)
        inner = recurrent(full(nir.CubaLIF, HIDDEN, *numbers), nir.Linear(array(network.hidden.recurrent_weights)))
        return chain(
            nir.Linear(array(network.hidden.input_weights)),
            inner,
            nir.Affine(array(network.weights.weight), array(network.weights.bias)),
            full(nir.CubaLIF, CLASSES, *numbers),
        )

    return Case(network, network, graph, {"producer": None, "dt": 1e-3, "rule": "euler", "reset": "zero"})
