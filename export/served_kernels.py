"""How kernels are served: in which forms, and what the manifest says of them."""

from __future__ import annotations

from collections.abc import Sequence

from export.folder import ExportError
from hetsyn_model.network import Network
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.state import Form


def servable_forms(spec: NetworkSpec, forms: Sequence[Form]) -> tuple[Form, ...]:
    """The forms of these that an artifact can have.

    Raises:
        ExportError: none.
    """
    found = tuple(form for form in forms if form == "bank" or spec.kernel.is_exponential)
    if not found:
        raise ExportError(f"kernels of shape {spec.kernel.shape!r} are served in the bank form: choose form bank")
    return found


def kernel_provenance(network: Network) -> dict[str, str | int | float | bool | None]:
    """What the manifest says of kernels: the share of decays at an end of their range, and a shape of their own."""
    spec, share = network.spec, network.share_at_bounds()
    found: dict[str, str | int | float | bool | None] = {}
    if share is not None:
        found["decays_at_bounds"] = round(share, 4)
    if spec.kernel.is_exponential:
        return found
    window = {"kernel_window_steps": spec.kernel.window_steps} if spec.kernel.shape == "fractional" else {}
    return {**found, "kernel": spec.kernel.shape, **window}
