"""Training: data, augmentation, the loop, its metrics and checkpoints.

    from hetsyn_model.training import fit

    network, history = fit(spikes, labels)

A name is imported when it is used, so that ``hetsyn train --help`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hetsyn_model.training.config import Config, ConfigError, load_config
    from hetsyn_model.training.data import DataError
    from hetsyn_model.training.fitting import Fitted, fit

__all__ = ["Config", "ConfigError", "DataError", "Fitted", "fit", "load_config"]

_MODULES = {
    "config": ("Config", "ConfigError", "load_config"),
    "data": ("DataError",),
    "fitting": ("Fitted", "fit"),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
