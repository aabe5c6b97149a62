"""What hears the band levels: a HetSyn network, and a convolutional one that teaches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.network import Network
from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec, SurrogateSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.tied_layer import tied_network

HIDDEN: Final = (128, 64)


class Convolutional(nn.Module):
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

    def save(self) -> Mapping[str, object]:
        return {"tensors": self.state_dict()}

    def restore(self, saved: Mapping[str, object]) -> None:
        self.load_state_dict(cast(Mapping[str, Any], saved["tensors"]))


@dataclass(frozen=True)
class Shape:
    """What network, and how large.

    Attributes:
        kind: ``hetsyn``, or ``cnn`` for a teacher.
        hidden: neurons of the two layers of HetSyn, or channels of the four of the other.
        dropout: of a spiking network.
    """

    kind: str = "hetsyn"
    hidden: tuple[int, ...] = HIDDEN
    dropout: float = 0.2


def spec_of(shape: Shape, encoder: EncoderSpec, outputs: int) -> NetworkSpec:
    return NetworkSpec(
        channels=encoder.channels,
        hidden=shape.hidden,
        outputs=outputs,
        step_s=encoder.step_s,
        recurrent=True,
        self_recurrent=True,
        bias=False,
        dropout=shape.dropout,
        neuron=NeuronSpec(decays="synapse", tau_init_steps=(2.0, 30.0), decay_range=(0.0, 0.985), tau_reset_steps=10.0),
        surrogate=SurrogateSpec(kind="gaussian", gain=1.0, width=1.0),
        decision=DecisionSpec("sum_softmax"),
    )


Model = Network | Convolutional


def make(shape: Shape, encoder: EncoderSpec, outputs: int, seed: int) -> Model:
    """Make an untrained network on level changes, with its weights from a seed."""
    torch.manual_seed(seed)
    if shape.kind == "cnn":
        return Convolutional(encoder.bands, outputs, shape.hidden)
    return tied_network(spec_of(shape, encoder, outputs), encoder, seed)


def readout(model: Model, batch: Batch) -> Tensor:
    """Run a model on the level changes of a batch: potentials or logits [b, longest, outputs]."""
    if isinstance(model, Network):
        return model.rollout(batch.events, "bank", batch.steps).readout
    return cast(Tensor, model(batch))


@torch.no_grad()
def without_words(network: Network, classes: int) -> Network:
    """Return the network without the outputs of the auxiliary words, which come after those of the classes."""
    kept = Network(replace(network.spec, outputs=classes))
    own = kept.state_dict()
    kept.load_state_dict(
        {
            name: tensor if tensor.shape == own[name].shape else tensor[:classes]
            for name, tensor in network.state_dict().items()
        }
    )
    kept.banks = dict(network.banks)
    return kept
