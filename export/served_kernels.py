"""What the manifest says of a network's kernels."""

from __future__ import annotations

from hetsyn_model.network import Network


def kernel_provenance(network: Network) -> dict[str, str | int | float | bool | None]:
    """Give the share of decays at an end of their range, where decays are learned."""
    share = network.share_at_bounds()
    return {} if share is None else {"decays_at_bounds": round(share, 4)}
