"""Training: data, augmentation, the loop, its metrics and checkpoints.

    from hetsyn_model.training import fit

    network, history = fit(spikes, labels)

A name is imported when it is used, so that ``hetsyn train --help`` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetsyn_model.lazy import lazy_names

if TYPE_CHECKING:
    from hetsyn_model.training.config import Config, ConfigError, load_config
    from hetsyn_model.training.datasets.data import DataError
    from hetsyn_model.training.fitting import Fitted, fit

__all__ = ["Config", "ConfigError", "DataError", "Fitted", "fit", "load_config"]

_MODULES = {
    ".config": ("Config", "ConfigError", "load_config"),
    ".datasets.data": ("DataError",),
    ".fitting": ("Fitted", "fit"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
