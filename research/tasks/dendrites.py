"""DH-SNN (H. Zheng et al., Nature Communications 15, 2024): neurons with dendritic branches, each with a decay.

A neuron deals its synapses out to D branches at random, as evenly as can be; a branch has one decay, which is learned.
Here that is a HetSyn network with tied decays: its neurons, reset, bank and training are HetSyn's. The paper's own
neuron has a membrane behind the branches, and no reset current.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hetsyn_model.network import Network


def tie_branches(network: Network, branches: int, seed: int) -> None:
    """Tie the decays of an untrained HetSyn network by branch, and keep them so in training.

    Args:
        network: is changed; its decays are a synapse's own.
        branches: D; a neuron of the readout has one.
    """
    generator = torch.Generator().manual_seed(seed + 4_000_037)
    for layer in network.named_layers().values():
        decays = [decay for decay in (layer.r_in, layer.r_rec) if decay is not None]
        widths = [decay.shape[1] for decay in decays]
        count = min(branches, sum(widths)) if layer.spiking else 1
        dealt = torch.rand(layer.neurons, sum(widths), generator=generator).argsort(1) % count
        indices = dealt.split(widths, 1)
        first = torch.cat([decay.detach() for decay in decays], 1)[:, :count]  # drawn as HetSyn's are
        with torch.no_grad():
            for decay, index in zip(decays, indices, strict=True):
                decay.copy_(first.gather(1, index))
        _tie_gradients(decays, indices, count)


def _tie_gradients(decays: Sequence[nn.Parameter], indices: Sequence[Tensor], count: int) -> None:
    """Give all decays of a branch one gradient: equal values then get equal steps, and stay equal.

    It is the branch's gradient over the root of its synapses: their norm is then the branch's, where gradients are
    clipped, and Adam's steps do not depend on the scale.
    """
    neurons = decays[0].shape[0]
    synapses = sum(torch.zeros(neurons, count).scatter_add_(1, i, torch.ones(i.shape)) for i in indices)
    assert isinstance(synapses, Tensor)

    def tie(_: Tensor) -> None:
        gradients = [decay.grad for decay in decays]
        if any(gradient is None for gradient in gradients):  # that of the other path comes later
            return
        total = torch.zeros(neurons, count)
        for gradient, index in zip(gradients, indices, strict=True):
            total.scatter_add_(1, index, gradient)  # type: ignore[arg-type]
        for gradient, index in zip(gradients, indices, strict=True):
            gradient.copy_((total / synapses.sqrt()).gather(1, index))  # type: ignore[union-attr]

    for decay in decays:
        decay.register_post_accumulate_grad_hook(tie)
