"""Checks that a server can run a step for many streams at once and store its state."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from export.folder import ExportError
from service.runtime.onnx import Array
from service.runtime.states import LARGEST_VALUE, is_bounded

STATE_TYPES = (torch.float32, torch.float16, torch.bool)
INPUT_TYPES = (torch.float32, torch.float16, torch.bool, torch.int64, torch.int32)


@dataclass(frozen=True)
class Step:
    """A module's step, with its state as a list of tensors.

    Attributes:
        names: names of the state's tensors.
        states: initial values, [1, ...] each.
        input: an example of a step's input, [1, ...].
        outputs: number of values of one stream's output.
    """

    module: nn.Module
    structure: Any
    names: tuple[str, ...]
    states: tuple[Tensor, ...]
    input: Tensor
    outputs: int = 0

    def run(self, states: list[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run one step.

        Raises:
            ExportError: it does not return a state of the same structure and one tensor.
        """
        # copies: a step may change its arguments in place
        before = pytree.tree_unflatten([state.clone() for state in states], self.structure)
        result = self.module.step(before, x.clone())  # type: ignore[operator]
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise ExportError(f"step returns {_what(result)}: return a pair, (state, output)")
        state, output = result
        after, structure = pytree.tree_flatten(state)
        if structure != self.structure:
            raise ExportError(
                f"step returns a state of another structure than initial_state ({_shape_of(state)} and "
                f"{_shape_of(pytree.tree_unflatten(list(self.states), self.structure))}): return the same"
            )
        if not isinstance(output, Tensor):
            raise ExportError(
                f"step's output is {_what(output)}: return one tensor [batch, outputs], joined if need be"
            )
        return after, output


def check_step(module: nn.Module, example_input: Tensor, initial_state: Any, input_kind: str) -> None:
    """Check what can be checked without running the step.

    Raises:
        ExportError: there is no step, a batch axis or a type is wrong, or a weight is NaN.
    """
    if not isinstance(module, nn.Module) or not callable(getattr(module, "step", None)):
        raise ExportError(
            f"{type(module).__name__} has no method step: give a torch module with "
            "step(state, input) -> (state, output)"
        )
    if input_kind not in ("values", "spikes"):
        raise ExportError(f"input_kind is {input_kind!r}: use 'values' or 'spikes'")
    if not isinstance(example_input, Tensor):
        raise ExportError(f"example_input is {_what(example_input)}: give a tensor [1, ...]")
    advice = ", and call module.float() first" if example_input.dtype == torch.float64 else ""
    _check_tensor("example_input", example_input, INPUT_TYPES, f"use float32, bool, int32 or int64{advice}")
    if not example_input[0].numel():
        raise ExportError(f"example_input has shape {list(example_input.shape)}: give at least one value a step")
    leaves = _leaves(initial_state)
    for name, state in leaves:
        if not isinstance(state, Tensor):
            raise ExportError(f"{name} is {_what(state)}: make it a tensor [1, ...], or a constant of the module")
        hint = "keep it as float32" + (
            ", which is exact to 2^24" if not state.is_floating_point() and not state.is_complex() else ""
        )
        hint = "keep its real and imaginary parts as two float32 tensors" if state.is_complex() else hint
        _check_tensor(name, state, STATE_TYPES, hint)
        if not state.numel():
            raise ExportError(f"{name} has shape {list(state.shape)}, no values: leave it out")
        check_initial(name, state.detach().float().numpy())
    names = [name for name, _ in leaves]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ExportError(f"two tensors of initial_state are called {twice}: give their keys other names")
    for kind, tensors in (("weight", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in tensors:
            if tensor.device.type != "cpu":
                raise ExportError(f"{kind} {name} is on {tensor.device}: call module.cpu() first")
            bad = torch.isnan(tensor) if kind == "buffer" else ~torch.isfinite(tensor)
            if bad.any():
                raise ExportError(
                    f"{kind} {name} has {int(bad.sum())} values that are NaN or infinite: load weights of a training "
                    "that did not diverge"
                )


def checked_step(module: nn.Module, example_input: Tensor, initial_state: Any) -> Step:
    """Check a step on a stream and on a batch, and return it. The module must be in evaluation mode.

    Raises:
        ExportError: it fails, is random, keeps state in the module, or changes shapes or types.
    """
    leaves, structure = pytree.tree_flatten(initial_state)
    names = tuple(name for name, _ in _leaves(initial_state))
    states = tuple(leaf.detach().clone() for leaf in leaves)
    step = Step(module, structure, names, states, example_input.detach())
    try:
        after, output = step.run(list(states), step.input)
    except ExportError:
        raise
    except Exception as error:
        advice = "give those that it takes, with a leading batch axis of 1"
        if any(weight.dtype == torch.float64 for weight in module.parameters()):
            advice = "its weights are float64: call module.float() first"
        if isinstance(error, ImportError):
            advice = "install what it imports"
        raise ExportError(f"step fails on initial_state and example_input ({first_line(error)}): {advice}") from error
    _check_after(step, after, 1)
    if not output.numel() or output.shape[:1] != (1,):
        raise ExportError(f"step's output has shape {list(output.shape)}: return [batch, outputs]")
    step = Step(module, structure, names, states, step.input, output[0].numel())
    try:
        both, outputs = step.run([torch.cat([s, s]) for s in states], torch.cat([step.input, step.input]))
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"step takes a batch of 1, but fails on one of 2 ({first_line(error)}): take the batch from "
            "the input's shape"
        ) from error
    _check_after(step, both, 2)
    if outputs.shape[:1] != (2,):
        raise ExportError(f"step's output of a batch of 2 has shape {list(outputs.shape)}: return [batch, outputs]")
    _check_repeatable(step)
    return step


Modes = dict[nn.Module, bool]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[Modes]:
    """Set a module to evaluation mode, yield its parts' earlier modes, and restore them.

    Raises:
        ExportError: a part in training mode would behave differently.
    """
    modes = {part: part.training for part in module.modules()}
    active = [part for part in modes if part.training and isinstance(part, _DIFFERS_IN_TRAINING)]
    if active:
        raise _in_training(f"its {type(active[0]).__name__} does something else")
    module.eval()
    try:
        yield modes
    finally:
        _set(modes)


def check_modes(step: Step, modes: Modes) -> None:
    """Check that a module that came in training mode does the same in both modes.

    Raises:
        ExportError: it does not.
    """
    if not any(modes.values()):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = _noise(step.input)
        evaluated = step.run(list(step.states), x)
        _set(modes)
        trained = step.run(list(step.states), x)
    step.module.eval()
    pairs = zip((*evaluated[0], evaluated[1]), (*trained[0], trained[1]), strict=True)
    if not all(torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5) for a, b in pairs):
        raise _in_training("its step does something else")


def _in_training(what: str) -> ExportError:
    return ExportError(f"the module is in training mode, in which {what}: call module.eval() first")


def _set(modes: Modes) -> None:
    for part, mode in modes.items():
        part.training = mode


def _noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape).to(like.dtype) if like.is_floating_point() else like


_DIFFERS_IN_TRAINING = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._BatchNorm,
    nn.RReLU,
)


def _check_repeatable(step: Step) -> None:
    """Check that the same state and input always give the same result."""
    runs = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = _noise(step.input)
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            after, output = step.run(list(step.states), x)
            runs.append([value.clone() for value in (*after, output)])
    same, drawn = (all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True)) for other in runs[1:])
    if not same:
        raise ExportError(
            "step gives another result when it is called again: the module keeps a state of its own; pass all of it in "
            "initial_state and return it"
        )
    if not drawn:
        raise ExportError("the step draws random numbers: take them out, or make them part of the input")


def _check_after(step: Step, after: list[Any], batch: int) -> None:
    for name, before, value in zip(step.names, step.states, after, strict=True):
        if not isinstance(value, Tensor):
            raise ExportError(f"after a step {name} is {_what(value)}: return a tensor, as in initial_state")
        expected = (batch, *before.shape[1:])
        if tuple(value.shape) != expected or value.dtype != before.dtype:
            raise ExportError(
                f"{name} is {_dtype(before)} {list(expected)} before a step and {_dtype(value)} {list(value.shape)} "
                "after it: a state keeps its shape and type"
            )


def _check_tensor(name: str, tensor: Tensor, types: tuple[torch.dtype, ...], hint: str) -> None:
    if tensor.dim() == 0 or tensor.shape[0] != 1:
        raise ExportError(
            f"{name} has shape {list(tensor.shape)}: put a batch axis of 1 in front, [1, ...] (and in the step, "
            "[batch, ...])"
        )
    if tensor.dtype not in types:
        raise ExportError(f"{name} is {_dtype(tensor)}, which is not taken: {hint}")


def _leaves(state: Any) -> list[tuple[str, Any]]:
    """List the parts of a state with their names: ``state.0``, ``state.cell.h``."""
    found = pytree.tree_flatten_with_path(state)[0]
    return [(".".join(["state", *(_key(part) for part in path)]), leaf) for path, leaf in found]


def _key(part: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)


def _what(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _shape_of(state: Any) -> str:
    if isinstance(state, dict):
        return f"a dict of {', '.join(map(str, state))}"
    return f"a {type(state).__name__} of {len(state)}" if isinstance(state, tuple | list) else _what(state)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without its full stop."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200].rstrip(":. ")


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Silence torch's notes on optional libraries and on itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def check_initial(name: str, values: Array) -> None:
    """Check that a session can begin with a state's values.

    Raises:
        ExportError: one is not finite, or too large.
    """
    if not is_bounded(values):
        raise ExportError(
            f"{name} has a value that is not finite, or not below {LARGEST_VALUE:g}: begin with numbers that a session "
            "keeps, such as -1e29 for the lowest of all"
        )
