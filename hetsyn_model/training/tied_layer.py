"""A first layer on band levels: all synapses of a neuron from one band share a weight and a decay.

Each threshold has its own channel for upward and for downward crossings, so a neuron has 2 * levels synapses from a
band. Learned separately, they overfit to the few speakers. Tied, the upward ones share a weight, the downward ones have
its negative, and all share a decay: the current is the band's level, counted in thresholds, decaying with the synapse's
time constant. The tied network has one input a band, the number of thresholds that its level rose by in a step
(:func:`level_changes`). :func:`untie` turns it into the network that takes the spikes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.layer import Layer
from hetsyn_model.network import Network
from hetsyn_model.spec import NetworkSpec

SMOOTHING = (0.2, 0.6, 1.0, 0.6, 0.2)  # smooths a neuron's initial weights over neighbouring bands
INITIAL_DEVIATION = 0.033  # of the weights: a word's levels then bring potentials near the threshold


def level_changes(events: Events, encoder: EncoderSpec) -> Events:
    """Convert spikes to events [batch, steps, bands] with a value: the thresholds that each band's level rose by."""
    rows, channels_up = events.batch * events.steps, encoder.bands * encoder.levels
    unit = events.units.numpy().astype(np.int64)
    row = np.repeat(np.arange(rows), np.diff(events.row_splits.numpy()))
    cell = row * encoder.bands + unit % channels_up // encoder.levels
    value = np.bincount(cell, np.where(unit < channels_up, 1.0, -1.0), rows * encoder.bands).astype(np.float32)
    return Events.of(torch.from_numpy(value).view(events.batch, events.steps, encoder.bands))


def tied_network(spec: NetworkSpec, encoder: EncoderSpec, seed: int) -> Network:
    """Make the untrained network for :func:`level_changes`, of the description of one that takes the encoder's spikes.

    Its first layer begins as random smooth filters over bands.
    """
    network = Network(replace(spec, channels=encoder.bands), seed=seed)
    weight = _first(network).w_in
    drawn = torch.randn(weight.shape[0], 1, encoder.bands, generator=torch.Generator().manual_seed(seed))
    reach = len(SMOOTHING) // 2
    padded = torch.nn.functional.pad(drawn, (reach, reach), mode="replicate")
    smooth = torch.nn.functional.conv1d(padded, torch.tensor([[SMOOTHING]])).squeeze(1)
    smooth = smooth - smooth.mean(-1, keepdim=True)  # so that loudness alone has no effect at first
    with torch.no_grad():
        weight.copy_(smooth * (INITIAL_DEVIATION * spec.neuron.threshold / float(smooth.std())))
    return network


@torch.no_grad()
def untie(network: Network, encoder: EncoderSpec) -> Network:
    """Convert the network to one that takes the encoder's spikes."""
    whole = Network(replace(network.spec, channels=encoder.channels))
    tensors = network.state_dict()
    tensors["layers.0.w_in"] = torch.cat([_of_channels(_first(network).w_in, encoder) * sign for sign in (1, -1)], 1)
    tensors["layers.0.r_in"] = _of_channels(_first(network).r_in, encoder).repeat(1, 2)
    whole.load_state_dict(tensors)
    whole.banks = dict(network.banks)
    return whole.to(network.device)


def _first(network: Network) -> Layer:
    return network.layer(network.spec.layer_names[0])


def _of_channels(of_bands: Tensor, encoder: EncoderSpec) -> Tensor:
    return of_bands.repeat_interleave(encoder.levels, 1)
