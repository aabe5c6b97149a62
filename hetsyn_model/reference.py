"""Weights under the names of the paper's reference checkpoints become a Network.

The names are facts of a file format; one tensor stands under several of them (``w_in1``,
``layer_hidden1.w_in``, ``layer_hidden1.layer_in.w``). Three shapes of network are read: two recurrent
hidden layers (the SHD network), one hidden layer with a decay a synapse, and one hidden layer whose
decays belong to a neuron and path. All have ``w`` weights [out, in], ``rho`` decays [out, in] or [out],
and ``b`` a constant drive shaped as the decays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hetsyn_model.network import Network
from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec

SPEECH_SKIP_STEPS = 11  # the reference sums softmax over step index > 10


class CheckpointError(ValueError):
    """The state dict is not one of the reference's networks; the message names the entry."""


@dataclass(frozen=True)
class _Entry:
    """One tensor of the network: its names in a checkpoint, its place in ours, its shape if not a decay's."""

    names: tuple[str, ...]
    layer: int
    parameter: str


def _entries(suffixes: tuple[str, ...], recurrent: bool) -> list[_Entry]:
    entries = []
    for index, suffix in enumerate(suffixes):
        for path in ("in", "rec") if recurrent else ("in",):
            for kind in ("w", "rho", "b"):
                names = (
                    f"{kind}_{path}{suffix}",
                    f"layer_hidden{suffix}.{kind}_{path}",
                    f"layer_hidden{suffix}.layer_{path}.{kind}",
                )
                entries.append(_Entry(names, index, f"{kind.replace('rho', 'r')}_{path}"))
    for kind in ("w", "rho", "b"):
        names = (f"{kind}_out", f"layer_out.{kind}_in", f"layer_out.layer_in.{kind}")
        entries.append(_Entry(names, len(suffixes), f"{kind.replace('rho', 'r')}_in"))
    return entries


def _collect(entries: list[_Entry], state_dict: Mapping[str, Tensor]) -> dict[_Entry, Tensor]:
    known = {name for entry in entries for name in entry.names}
    extra = sorted(set(state_dict) - known)
    if extra:
        raise CheckpointError(
            f"unknown entry {extra[0]!r}: not a tensor of this network"
            + (f" (and {len(extra) - 1} more)" if len(extra) > 1 else "")
        )
    found: dict[_Entry, Tensor] = {}
    for entry in entries:
        present = [name for name in entry.names if name in state_dict]
        if not present:
            raise CheckpointError(
                f"missing entry {entry.names[0]!r} (also called "
                + " or ".join(repr(name) for name in entry.names[1:])
                + ")"
            )
        first = torch.as_tensor(state_dict[present[0]]).detach()
        for other in present[1:]:
            alias = torch.as_tensor(state_dict[other])
            if alias.shape != first.shape or not torch.equal(alias, first):
                raise CheckpointError(f"entry {other!r} differs from {present[0]!r}: both name one tensor")
        if not bool(torch.isfinite(first).all()):
            raise CheckpointError(f"entry {present[0]!r} holds values that are not finite")
        found[entry] = first
    return found


def from_reference(
    state_dict: Mapping[str, Tensor],
    *,
    threshold: float = 1.0,
    step_s: float = 1e-3,
    tau_reset_s: float = 20e-3,
    dtype: torch.dtype = torch.float32,
) -> Network:
    """A Network from weights under the reference checkpoint's names.

    Args:
        state_dict: name to tensor (or NumPy array); every alias of a tensor may be there or not.
        threshold: of all hidden neurons.
        step_s, tau_reset_s: duration of a step and time constant of the reset, in seconds.
        dtype: of the network's tensors.

    Raises:
        CheckpointError: an entry is missing, unknown, misshaped, not finite, or not a decay in [0, 1].
    """
    two = any(name.startswith(("w_in1", "layer_hidden1.", "w_in2", "layer_hidden2.")) for name in state_dict)
    recurrent = any(
        name.startswith(("w_rec", "rho_rec", "b_rec"))
        or ".w_rec" in name
        or ".layer_rec." in name
        or ".rho_rec" in name
        or ".b_rec" in name
        for name in state_dict
    )
    suffixes = ("1", "2") if two else ("",)
    entries = _entries(suffixes, recurrent or two)
    tensors = _collect(entries, state_dict)
    by_place = {(entry.layer, entry.parameter): (entry.names[0], tensor) for entry, tensor in tensors.items()}

    sizes: list[int] = []
    for index in range(len(suffixes) + 1):
        name, weight = by_place[(index, "w_in")]
        if weight.dim() != 2 or 0 in weight.shape:
            raise CheckpointError(f"entry {name!r} has shape {tuple(weight.shape)}: weights are [out, in]")
        sizes = sizes or [weight.shape[1]]
        sizes.append(weight.shape[0])
    per_synapse = by_place[(0, "r_in")][1].dim() == 2
    for (index, parameter), (name, tensor) in by_place.items():
        fan_in = sizes[index + 1] if parameter.endswith("rec") else sizes[index]
        matrix = (sizes[index + 1], fan_in)
        expected = matrix if parameter.startswith("w") or per_synapse else matrix[:1]
        if tuple(tensor.shape) != expected:
            raise CheckpointError(f"entry {name!r} has shape {tuple(tensor.shape)}, this network needs {expected}")
        if parameter.startswith("r") and not bool(((tensor >= 0) & (tensor <= 1)).all()):
            raise CheckpointError(f"entry {name!r} holds decays outside [0, 1]")

    weights_rec = [tensor for (_, parameter), (_, tensor) in by_place.items() if parameter == "w_rec"]
    biased = any(bool(tensor.any()) for (_, parameter), (_, tensor) in by_place.items() if parameter[0] == "b")
    spec = NetworkSpec(
        channels=sizes[0],
        hidden=tuple(sizes[1:-1]),
        outputs=sizes[-1],
        recurrent=recurrent or two,
        self_recurrent=any(bool(w.diagonal().any()) for w in weights_rec),
        bias=biased,
        step_s=step_s,
        neuron=NeuronSpec(
            decays="synapse" if per_synapse else "neuron", threshold=threshold, tau_reset_steps=tau_reset_s / step_s
        ),
        decision=DecisionSpec(skip_steps=SPEECH_SKIP_STEPS),
    )
    network = Network(spec).to(dtype)
    with torch.no_grad():
        for (index, parameter), (_, tensor) in by_place.items():
            if parameter[0] == "b" and not biased:
                continue
            target = getattr(network.layers[index], parameter)
            assert isinstance(target, nn.Parameter)
            target.copy_(tensor.reshape(target.shape))
    return network
