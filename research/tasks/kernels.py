"""Kernels of an experiment, by their names. HetSyn no longer trains networks with them; their results are kept."""

from __future__ import annotations

from hetsyn_model.run_folder import RunError

LEARNED = "learned"
LAST_COMMIT = "890ab00"  # of this repository, with such kernels


def filters_of(kernel: str) -> int:
    """Read the number of filters a neuron in ``filters-4``.

    Raises:
        RunError: it is another kernel, or fewer than two filters.
    """
    name, _, count = kernel.partition("-")
    if name != "filters" or not count.isdigit() or int(count) < 2:
        raise RunError(f"kernel {kernel!r}: DH-SNN and the free bank have filters-2, filters-4 or more")
    return int(count)


def check_kernel(kernel: str) -> None:
    """Refuse kernels other than exponentials.

    Args:
        kernel: empty for these; ``pair``; ``order-0.5``, fractional of this order; or ``order-learned``.

    Raises:
        RunError: it is one of the others.
    """
    if kernel:
        raise RunError(
            f"kernel {kernel!r}: hetsyn no longer trains networks with it: take the kept results, or commit "
            f"{LAST_COMMIT} (examples/kernels has such networks as cells)"
        )
