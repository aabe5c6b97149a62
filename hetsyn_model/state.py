"""Names, shapes, types and initial values of all state tensors, in one fixed order.

Synapses, neurons and paths describe their own (``compiled.py`` collects them); rollout, graphs and manifest use these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor

from hetsyn_model.spec import DecisionSpec

Form = Literal["exact", "bank"]
FORMS: tuple[Form, ...] = get_args(Form)
State = dict[str, Tensor]  # by the name of the state tensor
Shapes = dict[str, tuple[int, ...]]  # for one stream, by the tensor's name in its layer
DECISION_SCORE_LOW, DECISION_SCORE, DECISION_STEP = "decision.score_low", "decision.score", "decision.step"


def state_name(layer: str, tensor: str) -> str:
    """Return the name of a layer's state tensor."""
    return f"{layer}.{tensor}"


@dataclass(frozen=True)
class StateTensor:
    """One state tensor of one stream; a batch of streams adds a leading axis.

    Attributes:
        name: ``{layer}.{tensor}``, or ``decision.{tensor}``.
        initial: value of every element before the first step.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"] = "float32"
    initial: float = 0.0

    @property
    def bytes(self) -> int:
        return prod(self.shape) * (4 if self.dtype == "float32" else 8)

    @property
    def is_decision(self) -> bool:
        return self.name in (DECISION_SCORE_LOW, DECISION_SCORE, DECISION_STEP)


def decision_layout(decision: DecisionSpec, outputs: int) -> tuple[StateTensor, ...]:
    """List the state tensors of a decision."""
    words = (DECISION_SCORE_LOW, DECISION_SCORE) if decision.adds_up else (DECISION_SCORE,)
    return (*(StateTensor(word, (outputs,)) for word in words), StateTensor(DECISION_STEP, (), "int64"))


def state_bytes(layout: Sequence[StateTensor]) -> int:
    """Count the bytes of one stream's state."""
    return sum(tensor.bytes for tensor in layout)


def initial_state(
    layout: Sequence[StateTensor],
    batch: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> State:
    """Make the state of ``batch`` streams before their first step; float tensors get ``dtype``."""
    return {
        tensor.name: torch.full(
            (batch, *tensor.shape),
            tensor.initial,
            dtype=torch.int64 if tensor.dtype == "int64" else dtype,
            device=device,
        )
        for tensor in layout
    }
