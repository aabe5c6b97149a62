"""The least that an implementation of the engine benchmark must do: bytes of state, bytes moved, and operations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.contract.artifact import Artifact
from service.contract.graph_io import Float32Array

EAGER = "eager PyTorch, a current a synapse"
IN_PLACE = "the same, in place"
SCRIPT = "TorchScript, step by step"
STEP = "exact step graph, a call a step"
EXACT_PLAIN = "exact, plain ONNX, chunk"
BANK_PLAIN = "bank, plain ONNX, chunk"
BANK = "bank, operator"
BANK_8 = "bank of 8 decays, operator"
BANK_OTHER = "bank, operator of the other build"


@dataclass(frozen=True)
class CostWorkload:
    """Input of the benchmark.

    Attributes:
        artifact: folder of the model.
        spikes: float32 [streams, steps, channels], repeated for longer runs.
    """

    name: str
    artifact: Path
    spikes: Float32Array

    @property
    def density(self) -> float:
        """Spikes a channel and step."""
        return float(self.spikes.mean())


@dataclass(frozen=True)
class Cost:
    """The least that a form must do.

    Attributes:
        state_bytes: state of a stream.
        moved_bytes: bytes read and written a stream and step.
        operations: floating-point operations a stream and step.
    """

    state_bytes: int
    moved_bytes: float
    operations: float

    def limit_microseconds(self, machine: dict[str, float]) -> float:
        """Compute the least time of a stream and step on a machine with this bandwidth and peak."""
        moving_s = self.moved_bytes / machine["bandwidth_bytes_per_s"]
        return 1e6 * max(moving_s, self.operations / machine["peak_flop_per_s"])


def costs(workload: CostWorkload, rates: dict[str, float]) -> dict[str, Cost]:
    """Compute the cost of each implementation.

    Args:
        workload: gives the density of the input.
        rates: spikes a step of each hidden layer, and under ``bank`` the number of decays of a bank.
    """
    manifest = Artifact.open(workload.artifact).manifest
    fan_in = (manifest.input.channels, *manifest.hidden)
    neurons = (*manifest.hidden, manifest.outputs)
    arriving = (
        workload.density * manifest.input.channels,
        *(rates[f"hidden{i + 1}"] for i in range(len(manifest.hidden))),
    )
    synapses = sum(i * n for i, n in zip(fan_in, neurons, strict=True)) + sum(n * n for n in manifest.hidden)

    def bank(decays: float) -> Cost:
        rows = sum(
            (count + (arriving[layer + 1] if layer < len(manifest.hidden) else 0.0)) * n
            for layer, (count, n) in enumerate(zip(arriving, neurons, strict=True))
        )
        values, state = rows * decays, sum(neurons) * decays + 2 * sum(manifest.hidden)
        return Cost(int(4 * state), 2 * values + 8 * state, values + 3 * state)  # 16-bit weights

    # decays and currents read, currents written
    exact = Cost(4 * (synapses + 2 * sum(manifest.hidden)), 12 * synapses, 3 * synapses)
    by_name = dict.fromkeys((EAGER, IN_PLACE, SCRIPT, STEP, EXACT_PLAIN), exact)
    by_name |= dict.fromkeys((BANK, BANK_PLAIN, BANK_OTHER), bank(rates["bank"]))
    return by_name | {BANK_8: bank(8.0)}
