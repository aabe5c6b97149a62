"""Networks with delays, for tests that hold for every kind of path."""

from __future__ import annotations

from hetsyn_model import Network, PathSpec
from hetsyn_model.spec import InputKind, Rule
from tests.support.networks.networks import small_network

NONE = PathSpec()
PATHS: dict[str, tuple[PathSpec, PathSpec]] = {
    "input": (PathSpec(7), NONE),
    "input-24": (PathSpec(24), NONE),
    "input-26-taps-2": (PathSpec(26, 2), NONE),
    "recurrent": (NONE, PathSpec(5)),
    "recurrent-50-taps-2": (NONE, PathSpec(50, 2)),
    "both": (PathSpec(9, 2), PathSpec(27)),
}


def delayed_network(
    path: str,
    kind: str = "hetsyn",
    rule: Rule = "sum_softmax",
    *,
    bias: bool = False,
    input_kind: InputKind = "spikes",
) -> Network:
    """``small_network`` with one of ``PATHS``."""
    return small_network(kind, rule, bias=bias, input_kind=input_kind, paths=PATHS[path])
