"""Converts weights with the names of the paper's reference checkpoints to a Network.

One tensor stands under several names (``w_in1``, ``layer_hidden1.w_in``, ``layer_hidden1.layer_in.w``). Three kinds of
network are read: two recurrent hidden layers (the SHD network), one hidden layer with a decay a synapse, and one hidden
layer with a decay a neuron and path. All have ``w`` weights [out, in], ``rho`` decays [out, in] or [out], and ``b`` a
constant drive shaped as the decays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.network import Network
from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec
from hetsyn_model.spec.errors import ModelError

Key = tuple[int, str]  # index of the layer, and name in hetsyn_model.layer.Layer
Named = tuple[str, Tensor]
SPEECH_SKIP_STEPS = 11  # the reference sums softmax over step index > 10


class CheckpointError(ModelError):
    """The state dict is not one of the reference's networks; the message names the entry."""

    code = "bad-reference"


def _entries(suffixes: tuple[str, ...], recurrent: bool) -> dict[Key, tuple[str, ...]]:
    """List the names that each tensor may have in a reference checkpoint."""
    entries: dict[Key, tuple[str, ...]] = {}
    for kind, ours in (("w", "w"), ("rho", "r"), ("b", "b")):
        for index, suffix in enumerate(suffixes):
            for path in ("in", "rec") if recurrent else ("in",):
                entries[index, f"{ours}_{path}"] = (
                    f"{kind}_{path}{suffix}",
                    f"layer_hidden{suffix}.{kind}_{path}",
                    f"layer_hidden{suffix}.layer_{path}.{kind}",
                )
        entries[len(suffixes), f"{ours}_in"] = f"{kind}_out", f"layer_out.{kind}_in", f"layer_out.layer_in.{kind}"
    return entries


def _architecture(names: set[str]) -> tuple[tuple[str, ...], bool]:
    """Find the network that explains the names best: suffixes of its hidden layers, and whether it is recurrent."""

    def unexplained(candidate: tuple[tuple[str, ...], bool]) -> int:
        entries = _entries(*candidate).values()
        return len(names.difference(*entries)) + sum(names.isdisjoint(entry) for entry in entries)

    return min(((("1", "2"), True), (("",), True), (("",), False)), key=unexplained)


def _collect(entries: Mapping[Key, tuple[str, ...]], state_dict: Mapping[str, Tensor]) -> dict[Key, Named]:
    """Collect the tensors, each with the name that it was found under."""
    extra = sorted(set(state_dict).difference(*entries.values()))
    if extra:
        raise CheckpointError(
            f"unknown entry {extra[0]!r}: not a tensor of this network"
            + (f" (and {len(extra) - 1} more)" if len(extra) > 1 else "")
            + ("; strip the prefix of the names" if extra[0].startswith(("param/", "module.")) else "")
        )
    parameters: dict[Key, Named] = {}
    for key, names in entries.items():
        present = [name for name in names if name in state_dict]
        if not present:
            raise CheckpointError(f"missing entry {names[0]!r} (also called {names[1]!r} or {names[2]!r})")
        tensors = [_tensor(name, state_dict[name]) for name in present]
        for name, alias in zip(present[1:], tensors[1:], strict=True):
            if alias.shape != tensors[0].shape or not torch.equal(alias, tensors[0]):
                raise CheckpointError(f"entry {name!r} differs from {present[0]!r}: both name one tensor")
        parameters[key] = present[0], tensors[0]
    return parameters


def _tensor(name: str, value: object) -> Tensor:
    """Return a float64 copy of a tensor or array of any kind."""
    try:
        if isinstance(value, Tensor):
            tensor = value.detach().to("cpu", torch.float64)
        else:
            tensor = torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"entry {name!r} is not a tensor of numbers ({error})") from error
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"entry {name!r} contains values that are not finite")
    return tensor


def _axes(key: Key, per_synapse: bool) -> tuple[int, ...]:
    """Return the layers that give a tensor's axes their lengths: 0 is the input, then the layers in order."""
    layer, parameter = key
    fan_in = layer + 1 if parameter.endswith("rec") else layer
    return (layer + 1, fan_in) if parameter.startswith("w") or per_synapse else (layer + 1,)


def _check_shapes(parameters: Mapping[Key, Named]) -> tuple[list[int], bool]:
    """Find the sizes of input and layers, and whether each synapse has a decay. An error names the odd entry."""
    kinds = Counter(tensor.dim() == 2 for (_, parameter), (_, tensor) in parameters.items() if parameter[0] != "w")
    per_synapse = kinds.most_common(1)[0][0]
    votes: dict[int, Counter[int]] = {}
    for key, (_, tensor) in parameters.items():
        axes = _axes(key, per_synapse)
        if len(axes) == tensor.dim():
            for axis, size in zip(axes, tensor.shape, strict=True):
                votes.setdefault(axis, Counter())[size] += 1
    sizes = {axis: counted.most_common(1)[0][0] for axis, counted in votes.items()}
    for key, (name, tensor) in parameters.items():
        expected = tuple(sizes.get(axis, 0) for axis in _axes(key, per_synapse))
        if tuple(tensor.shape) != expected or 0 in expected:
            raise CheckpointError(
                f"entry {name!r} has shape {tuple(tensor.shape)}, but the other entries need {expected}"
            )
    return [sizes[axis] for axis in sorted(sizes)], per_synapse


def from_reference(
    state_dict: Mapping[str, Tensor],
    *,
    threshold: float = 1.0,
    step_s: float = 1e-3,
    tau_reset_s: float = 20e-3,
    dtype: torch.dtype = torch.float32,
) -> Network:
    """Make a Network of weights with the reference checkpoint's names, for input as the reference bins it.

    Args:
        state_dict: name to tensor (or NumPy array); every alias of a tensor is optional.
        tau_reset_s: time constant of the reset.
        dtype: float32 or float64.

    Raises:
        CheckpointError: an entry is missing, unknown, misshaped, not finite, or not a decay in [0, 1].
        ModelError: another dtype, or a duration of 0 or less.
    """
    if dtype not in (torch.float32, torch.float64):
        raise ModelError(f"dtype {dtype}: a network is float32 or float64")
    if not (step_s > 0 and tau_reset_s > 0):
        raise ModelError(f"step_s {step_s} and tau_reset_s {tau_reset_s} must be above 0")
    suffixes, recurrent = _architecture(set(state_dict))
    parameters = _collect(_entries(suffixes, recurrent), state_dict)
    sizes, per_synapse = _check_shapes(parameters)
    for (_, parameter), (name, tensor) in parameters.items():
        if parameter[0] == "r" and not bool(((tensor >= 0) & (tensor <= 1)).all()):
            raise CheckpointError(f"entry {name!r} contains decays outside [0, 1]")
    weights_rec = [tensor for (_, parameter), (_, tensor) in parameters.items() if parameter == "w_rec"]
    biased = any(bool(tensor.any()) for (_, parameter), (_, tensor) in parameters.items() if parameter[0] == "b")
    spec = NetworkSpec(
        channels=sizes[0],
        hidden=tuple(sizes[1:-1]),
        outputs=sizes[-1],
        recurrent=recurrent,
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
        for (index, parameter), (_, tensor) in parameters.items():
            if biased or parameter[0] != "b":
                target = network.layers[index].get_parameter(parameter)
                target.copy_(tensor.reshape(target.shape))
    return network
