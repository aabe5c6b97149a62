"""How kernels are served: in which form, and what the manifest says of them."""

from __future__ import annotations

from export.folder import ExportError
from hetsyn_model.network import Network
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.state import Form


def check_form(spec: NetworkSpec, form: Form | None) -> None:
    """Check that a network has a form.

    Raises:
        ExportError: it does not.
    """
    if form == "exact" and not spec.kernel.is_exponential:
        raise ExportError(f"kernels of shape {spec.kernel.shape!r} are served in the bank form: choose form bank")


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
