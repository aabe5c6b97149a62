"""HetSynLIF spiking networks in torch: description, state, exact and bank form, training.

A name is imported when it is used, so that ``hetsyn train --help`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hetsyn_model.bank import Bank, BankError
    from hetsyn_model.bank_fit import fit_bank
    from hetsyn_model.compiled import Compiled
    from hetsyn_model.events import Events
    from hetsyn_model.import_reference import CheckpointError, from_reference
    from hetsyn_model.network import Network
    from hetsyn_model.rollout import Rollout
    from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec, SpecError, SurrogateSpec, variant
    from hetsyn_model.state import StateTensor, initial_state, state_bytes

__all__ = [
    "Bank",
    "BankError",
    "CheckpointError",
    "Compiled",
    "DecisionSpec",
    "Events",
    "Network",
    "NetworkSpec",
    "NeuronSpec",
    "Rollout",
    "SpecError",
    "StateTensor",
    "SurrogateSpec",
    "fit_bank",
    "from_reference",
    "initial_state",
    "state_bytes",
    "variant",
]

_MODULES = {
    "bank": ("Bank", "BankError"),
    "bank_fit": ("fit_bank",),
    "compiled": ("Compiled",),
    "events": ("Events",),
    "import_reference": ("CheckpointError", "from_reference"),
    "network": ("Network",),
    "rollout": ("Rollout",),
    "spec": ("DecisionSpec", "NetworkSpec", "NeuronSpec", "SpecError", "SurrogateSpec", "variant"),
    "state": ("StateTensor", "initial_state", "state_bytes"),
}
_MODULE_OF = {name: f"hetsyn_model.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
