"""What hears the band levels: spiking networks, and networks without spikes of as many values beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hetsyn_model.network import Network
from hetsyn_model.spec import NetworkSpec, NeuronSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.config import load_config
from hetsyn_model.training.tied_layer import tied_network
from research.tasks.dendrites import tie_branches
from research.tasks.free_bank import FreeBank, SavedModule, spread_bank

CONFIG: Final = load_config("speech-digits")
ENCODER: Final = CONFIG.encoder.audio


class Gru(SavedModule):
    """Two layers of gated recurrent units on the changes of the band levels."""

    def __init__(self, bands: int, outputs: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.first = nn.GRU(bands, hidden[0], batch_first=True)
        self.second = nn.GRU(hidden[0], hidden[1], batch_first=True)
        self.readout = nn.Linear(hidden[1], outputs)

    def forward(self, batch: Batch) -> Tensor:
        x, _ = self.first(torch.cumsum(batch.events.dense(), 1) / 4.0)
        x, _ = self.second(functional.dropout(x, 0.2, self.training))
        return cast(Tensor, self.readout(functional.dropout(x, 0.2, self.training)))


class Convolutional(SavedModule):
    """A small two-dimensional network on the band levels; it hears a clip whole, so it is not causal.

    Args:
        bands: of the encoder.
        outputs: classes.
        widths: channels of the four layers.
    """

    def __init__(self, bands: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 1
        for index, width in enumerate(widths):
            blocks += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            blocks += [nn.MaxPool2d((2, 2) if index < len(widths) - 1 else (1, 1))]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.shrink = 2 ** (len(widths) - 1)
        self.readout = nn.Linear(before * (bands // self.shrink), outputs)

    def forward(self, batch: Batch) -> Tensor:
        levels = torch.cumsum(batch.events.dense(), 1)
        steps = levels.shape[1]
        pad = -steps % self.shrink
        x = self.blocks(functional.pad(levels, (0, 0, 0, pad)).unsqueeze(1) / 8.0)
        counted = torch.arange(x.shape[2]) < (batch.steps.unsqueeze(-1) / self.shrink).ceil()
        weight = counted.to(x.dtype).view(x.shape[0], 1, -1, 1)
        # mean and maximum over the time of the clip
        pooled = (x * weight).sum(2) / weight.sum(2) + (x - 1e4 * (1 - weight)).amax(2)
        logits = self.readout(functional.dropout(pooled.flatten(1), 0.3, self.training))
        return cast(Tensor, logits).unsqueeze(1).expand(-1, steps, -1)


@dataclass(frozen=True)
class Shape:
    """What network, and how large.

    Attributes:
        kind: ``hetsyn``, ``hetneu``, ``alif``, ``lif``, ``dh-snn`` (``BRANCHES`` a neuron), ``free-bank`` (``FILTERS``
            decays a layer, and weights a synapse), ``gru`` or ``cnn``.
        hidden: neurons of the two layers of a recurrent network.
        dropout: of a spiking network.
    """

    kind: str = "hetsyn"
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.2


LIKE_HETSYN: Final = ("hetsyn", "dh-snn", "free-bank")
BRANCHES, FILTERS = 4, 2
MIDDLE_TAU_STEPS: Final = math.sqrt(2.0 * 30.0)  # the free bank's decays span the time constants that others begin with


def neuron_of(kind: str) -> NeuronSpec:
    """Return the neuron of a spiking network: a decay a synapse, a neuron or for all, with or without adaptation."""
    common: dict[str, Any] = {"tau_init_steps": (2.0, 30.0), "decay_range": (0.0, 0.985), "tau_reset_steps": 10.0}
    own: dict[str, dict[str, Any]] = {
        "hetsyn": {"decays": "synapse"},
        "hetneu": {"decays": "neuron"},
        "alif": {"decays": "shared", "adaptation_strength": 0.1, "adaptation_tau_steps": 100.0},
        "lif": {"decays": "shared"},
    }
    return NeuronSpec(**(common | own["hetsyn" if kind in LIKE_HETSYN else kind]))


def spec_of(shape: Shape, outputs: int) -> NetworkSpec:
    return NetworkSpec(
        channels=ENCODER.channels,
        hidden=shape.hidden,
        outputs=outputs,
        step_s=ENCODER.step_s,
        dropout=shape.dropout,
        neuron=neuron_of(shape.kind),
    )


Model = Network | SavedModule


def make(shape: Shape, outputs: int, seed: int) -> Model:
    """Make an untrained network on level changes, with its weights from a seed."""
    torch.manual_seed(seed)
    if shape.kind == "gru":
        return Gru(ENCODER.bands, outputs, cast(tuple[int, int], shape.hidden))
    if shape.kind == "cnn":
        return Convolutional(ENCODER.bands, outputs, shape.hidden)
    network = tied_network(spec_of(shape, outputs), ENCODER, seed)
    if shape.kind == "dh-snn":
        tie_branches(network, BRANCHES, seed)
    if shape.kind == "free-bank":
        return FreeBank(network, spread_bank(MIDDLE_TAU_STEPS, FILTERS))
    return network


def readout(model: Model, batch: Batch) -> Tensor:
    """Run a model on the level changes of a batch: potentials or logits [b, longest, outputs]."""
    if isinstance(model, Network | FreeBank):
        return model.rollout(batch.events, "bank", batch.steps).readout
    return cast(Tensor, model(batch))


@torch.no_grad()
def keep_outputs(network: Network, outputs: Sequence[int]) -> Network:
    """Return the network with some of its outputs, in the given order."""
    kept = Network(replace(network.spec, outputs=len(outputs)))
    last = f"layers.{len(network.spec.hidden)}."
    kept.load_state_dict(
        {
            name: tensor[list(outputs)] if name.startswith(last) else tensor
            for name, tensor in network.state_dict().items()
        }
    )
    kept.banks = dict(network.banks)
    return kept
