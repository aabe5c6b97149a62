"""A first layer that hears band levels: all synapses that a neuron has from one band learn as one.

Each crossing of a threshold is a spike on a channel of its own, so that a neuron has 2 * levels synapses from a band.
Left to themselves they learn the few speakers by heart. Tied, those for upward crossings share one weight, those for
downward ones have its negative, and all share a decay: the current is the band's level, counted in thresholds and
forgotten with the synapse's own time constant. The learner then has one input a band, the number of thresholds that
its level went up in a step (:func:`climbs`), and :func:`spread` makes of it the network that takes the spikes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.network import Layer, Network
from hetsyn_model.spec import NetworkSpec

NEIGHBOURS = (0.2, 0.6, 1.0, 0.6, 0.2)  # a neuron's weights from neighbouring bands start alike
START = 0.033  # standard deviation of the weights, of a threshold: a word's levels then bring potentials near it


def climbs(events: Events, encoder: EncoderSpec) -> Events:
    """Spikes of the encoder as events with a value: thresholds that each band's level passed, upwards positive."""
    rows, half = events.batch * events.steps, encoder.bands * encoder.levels
    unit = events.units.numpy().astype(np.int64)
    row = np.repeat(np.arange(rows), np.diff(events.row_splits.numpy()))
    cell = row * encoder.bands + unit % half // encoder.levels
    value = np.bincount(cell, np.where(unit < half, 1.0, -1.0), rows * encoder.bands).astype(np.float32)
    return Events.of(torch.from_numpy(value).view(events.batch, events.steps, encoder.bands))


def learner(spec: NetworkSpec, encoder: EncoderSpec, seed: int) -> Network:
    """The network that hears :func:`climbs`: its first layer starts as random filters, smooth over the bands."""
    network = Network(replace(spec, channels=encoder.bands), seed=seed)
    weight = _first(network).w_in
    drawn = torch.randn(weight.shape[0], 1, encoder.bands, generator=torch.Generator().manual_seed(seed))
    reach = len(NEIGHBOURS) // 2
    padded = torch.nn.functional.pad(drawn, (reach, reach), mode="replicate")
    smooth = torch.nn.functional.conv1d(padded, torch.tensor([[NEIGHBOURS]])).squeeze(1)
    smooth = smooth - smooth.mean(-1, keepdim=True)  # loudness alone starts without effect
    with torch.no_grad():
        weight.copy_(smooth * (START * spec.neuron.threshold / float(smooth.std())))
    return network


@torch.no_grad()
def spread(network: Network, encoder: EncoderSpec) -> Network:
    """The same network, fed with the encoder's spikes."""
    whole = Network(replace(network.spec, channels=encoder.channels))
    tensors = network.state_dict()
    tensors["layers.0.w_in"] = torch.cat([_of_channels(_first(network).w_in, encoder) * sign for sign in (1, -1)], 1)
    tensors["layers.0.r_in"] = _of_channels(_first(network).r_in, encoder).repeat(1, 2)
    whole.load_state_dict(tensors)
    whole.banks = dict(network.banks)
    return whole


@torch.no_grad()
def gather(network: Network, encoder: EncoderSpec) -> Network:
    """Inverse of :func:`spread`: the network that hears :func:`climbs`."""
    bands = Network(replace(network.spec, channels=encoder.bands))
    tensors = network.state_dict()
    for name in ("layers.0.w_in", "layers.0.r_in"):
        tensors[name] = tensors[name][:, : encoder.bands * encoder.levels : encoder.levels].clone()
    bands.load_state_dict(tensors)
    bands.banks = dict(network.banks)
    return bands


def _first(network: Network) -> Layer:
    layer = network.layers[0]
    assert isinstance(layer, Layer)
    return layer


def _of_channels(of_bands: Tensor, encoder: EncoderSpec) -> Tensor:
    return of_bands.repeat_interleave(encoder.levels, 1)
