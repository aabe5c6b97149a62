"""The engine benchmark's networks with axonal delays: the same sizes and weights, and a delay for each unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import geometric_mean
from typing import Any

from benchmarks.engine_cost import BANK, DELAYED
from hetsyn_model import Network, PathSpec

LONGEST_STEPS = 24  # of a delay: one number of history a unit


def with_delays(network: Network, paths: Sequence[str]) -> Network:
    """The network with a random delay for each unit of these paths, ``input_path`` or ``recurrent_path``."""
    late, ordinary = PathSpec(LONGEST_STEPS), PathSpec()
    spec = replace(
        network.spec,
        input_path=late if "input_path" in paths else ordinary,
        recurrent_path=late if "recurrent_path" in paths else ordinary,
    )
    made = Network(spec, seed=1).eval()
    made.load_state_dict(network.state_dict(), strict=False)
    made.fit_banks()
    return made


def cost_of_delays(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The time of each network with delays over that of the same without, and the geometric mean of each."""
    without = {_key(cell): cell["microseconds"] for cell in cells if cell["implementation"] == BANK}
    found: dict[str, float] = {}
    for name in DELAYED:
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


def _key(cell: dict[str, Any]) -> tuple[str, int, int]:
    return cell["workload"], cell["batch"], cell["steps"]
