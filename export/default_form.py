"""Which form of a network a session gets by default, and how far a bank's spikes are from the exact form's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.contract.graph_io import Float32Array
from service.contract.manifest import FormName

SAME_SPIKES = 1e-3  # share of spikes that may differ in a bank whose kernels have no error
MOST_LARGER = 1.5  # of the state of such a bank, over the exact form's


def default_form(
    state: Mapping[FormName, int], kernel_error: Mapping[str, float], spike_mismatch: float | None
) -> FormName:
    """The form that a session gets.

    Args:
        state: bytes of each form that there is.
        kernel_error: of each layer's bank.
        spike_mismatch: of the bank, on the streams that the export is verified with.

    Returns:
        A bank that is next to the same network, and at most half as large again: no kernel has an error, and at most
        0.1% of the spikes differed because its weights are rounded to 16 bits. Its step takes less time than the exact
        form's (`python -m benchmarks engine --families`). Else the form with the smaller state.
    """
    is_close = spike_mismatch is not None and spike_mismatch <= SAME_SPIKES and not any(kernel_error.values())
    if is_close and state.get("bank", 0) <= MOST_LARGER * state.get("exact", 0):
        return "bank"
    return min(state, key=lambda form: (state[form], form == "bank"))


def spike_mismatch(reference: Sequence[Float32Array], other: Sequence[Float32Array]) -> float | None:
    """Spikes of each hidden layer that differ, over those of the reference; None where it has none."""
    spikes = sum(float(a.sum()) for a in reference)
    different = sum(float((a != b).sum()) for a, b in zip(reference, other, strict=True))
    return different / spikes if spikes else None
