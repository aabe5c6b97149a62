"""The engine benchmark's networks of other kinds: axonal delays, fractional kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.engine_cost import BANK_8, BANK_PLAIN, DELAYED, FRACTIONAL_8

if TYPE_CHECKING:
    from hetsyn_model import Network

Only = Literal["delays", "kernels"]
OF_KIND: dict[Only, tuple[str, tuple[str, ...]]] = {
    "delays": (BANK_PLAIN, tuple(DELAYED)),
    "kernels": (BANK_8, (FRACTIONAL_8,)),
}
"""What a run of one kind alone measures: what it is compared with, and what is compared."""


def with_delays(network: Network, longest: Mapping[str, int]) -> Network:
    """The network with a random delay for each unit.

    Args:
        network: without delays.
        longest: steps of the longest delay of ``input_path``, ``recurrent_path`` or both.
    """
    from hetsyn_model import Network, PathSpec  # imports torch: the table needs none

    paths = {name: PathSpec(longest.get(name, 0)) for name in ("input_path", "recurrent_path")}
    spec = replace(network.spec, input_path=paths["input_path"], recurrent_path=paths["recurrent_path"])
    made = Network(spec, seed=1).eval()
    made.load_state_dict(network.state_dict(), strict=False)
    made.fit_banks()
    return made


def cost_of(kind: Only, cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The time of each network of a kind over that of the ordinary one, and the geometric mean of each."""
    ordinary, names = OF_KIND[kind]
    without = {_key(cell): cell["microseconds"] for cell in cells if cell["implementation"] == ordinary}
    found: dict[str, float] = {}
    for name in names:
        shares = {
            _key(cell): cell["microseconds"] / without[_key(cell)] for cell in cells if cell["implementation"] == name
        }
        if not shares:
            continue
        found |= {
            f"{workload}; batch {batch}, {steps} steps; {name}": round(share, 3)
            for (workload, batch, steps), share in shares.items()
        }
        found[f"geometric mean; {name}"] = round(geometric_mean(shares.values()), 3)
    return found


def with_fractional(network: Network) -> Network:
    """The same weights and time constants with kernels of order 0.9, one bank of 8 a layer, and the same reset."""
    from hetsyn_model import Network
    from hetsyn_model.spec import KernelSpec

    kernel = KernelSpec("fractional", order_init=(0.9, 0.9), order_range=(0.9, 0.9))
    other = Network(replace(network.spec, kernel=kernel))
    other.load_state_dict(network.state_dict(), strict=False)
    other.fit_banks(size=8)
    return other.eval()


def _key(cell: dict[str, Any]) -> tuple[str, int, int]:
    return cell["workload"], cell["batch"], cell["steps"]
