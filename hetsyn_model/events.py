"""Spikes as event lists, and their product with weights at the cost of the spikes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hetsyn_model import native


@dataclass(frozen=True)
class Events:
    """Spikes of a batch: row ``b * steps + t`` fires ``units[row_splits[row] : row_splits[row + 1]]``.

    Attributes:
        row_splits: int64 [batch * steps + 1], first event of each row.
        units: int32 [events], channel of each event.
        values: [events], 1 for a plain spike.
    """

    batch: int
    steps: int
    channels: int
    row_splits: Tensor
    units: Tensor
    values: Tensor

    @staticmethod
    def of(spikes: Tensor) -> Events:
        """Make events of a dense tensor [batch, steps, channels]; every value but 0 is one."""
        batch, steps, channels = spikes.shape
        rows = spikes.detach().reshape(batch * steps, channels)
        row, unit = rows.nonzero(as_tuple=True)
        splits = torch.zeros(batch * steps + 1, dtype=torch.int64, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=batch * steps), 0, out=splits[1:])
        return Events(batch, steps, channels, splits, unit.to(torch.int32), rows[row, unit].contiguous())

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the events as a dense tensor [batch, steps, channels]."""
        rows = torch.zeros(self.batch * self.steps, self.channels, dtype=dtype, device=self.units.device)
        index = torch.arange(rows.shape[0], device=rows.device)
        row = torch.repeat_interleave(index, self.row_splits.diff(), output_size=self.units.numel())
        rows[row, self.units.long()] = self.values.to(dtype)
        return rows.view(self.batch, self.steps, self.channels)

    def streams(self, first: int, last: int) -> Events:
        """Return the events of the streams ``first`` to ``last`` (excluded)."""
        splits = self.row_splits[first * self.steps : last * self.steps + 1]
        begin, end = int(splits[0]), int(splits[-1])
        return Events(
            *(min(last, self.batch) - first, self.steps, self.channels),
            *(splits - begin, self.units[begin:end], self.values[begin:end]),
        )

    def to(self, device: torch.device | str) -> Events:
        moved = (tensor.to(device) for tensor in (self.row_splits, self.units, self.values))
        return Events(self.batch, self.steps, self.channels, *moved)


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Return the address of a tensor in contiguous memory for the compiled library; None gives a null pointer."""
    if tensor is not None and not tensor.is_contiguous():
        raise ValueError("the compiled library takes contiguous memory only")
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class _EventProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor | None, weight: Tensor, events: Events) -> Tensor:  # noqa: ARG004 (spikes carry the gradient)
        library = native.required()
        weight = weight.contiguous()
        rows, columns = events.row_splits.numel() - 1, weight.shape[1]
        out = torch.empty(rows, columns, dtype=weight.dtype)
        values = events.values.to(weight.dtype)
        library.function("event_product", weight)(
            *(pointer(t) for t in (events.row_splits, events.units, values, weight, out)),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(weight, events.row_splits, events.units, values)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        library = native.required()
        weight, splits, units, values = ctx.saved_tensors
        rows_grad = grads[0].contiguous()
        grad_weight = torch.zeros_like(weight)
        library.function("event_product_backward", weight)(
            *(pointer(t) for t in (splits, units, values, rows_grad, grad_weight)),
            *map(ctypes.c_int64, rows_grad.shape),
            torch.get_num_threads(),
        )
        return rows_grad @ weight.T if ctx.needs_input_grad[0] else None, grad_weight, None


def event_product(spikes: Tensor | Events, weight: Tensor) -> Tensor:
    """Compute ``spikes @ weight``, [batch, steps, columns], at the cost of the spikes.

    Args:
        spikes: [batch, steps, channels] or its events; differentiable if a tensor.
        weight: [channels, columns].
    """
    if native.runs(weight):
        events = spikes if isinstance(spikes, Events) else Events.of(spikes)
        dense = spikes.reshape(-1, spikes.shape[-1]) if isinstance(spikes, Tensor) else None
        out: Tensor = _EventProduct.apply(dense, weight, events)
        return out.view(events.batch, events.steps, weight.shape[1])
    if isinstance(spikes, Tensor):
        return spikes @ weight
    return torch.nn.functional.embedding_bag(
        spikes.units.long(),
        weight,
        spikes.row_splits,
        mode="sum",
        include_last_offset=True,
        per_sample_weights=spikes.values.to(weight.dtype),
    ).view(spikes.batch, spikes.steps, weight.shape[1])
