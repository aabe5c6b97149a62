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
        drawn = torch.cat([decay.detach() for decay in decays], 1)  # as HetSyn's are
        count = min(branches, sum(widths)) if layer.spiking else 1
        dealt = torch.rand(drawn.shape, generator=generator).argsort(1) % count
        with torch.no_grad():
            for decay, tied in zip(decays, drawn.gather(1, dealt).split(widths, 1), strict=True):
                decay.copy_(tied)
        _tie_gradients(decays, dealt, count)


def _tie_gradients(decays: Sequence[nn.Parameter], dealt: Tensor, count: int) -> None:
    """Give all decays of a branch one gradient: equal values then get equal steps, and stay equal.

    It is the branch's gradient over the root of its synapses: their norm is then the branch's, where gradients are
    clipped, and Adam's steps do not depend on the scale.
    """
    widths = [decay.shape[1] for decay in decays]
    none = torch.zeros(len(dealt), count)
    synapses = none.scatter_add(1, dealt, torch.ones(dealt.shape))

    def tie(_: Tensor) -> None:
        gradients = [decay.grad for decay in decays if decay.grad is not None]
        if len(gradients) < len(decays):  # that of the other path comes later
            return
        total = none.scatter_add(1, dealt, torch.cat(gradients, 1))
        tied = (total / synapses.sqrt()).gather(1, dealt)
        for gradient, own in zip(gradients, tied.split(widths, 1), strict=True):
            gradient.copy_(own)

    for decay in decays:
        decay.register_post_accumulate_grad_hook(tie)
