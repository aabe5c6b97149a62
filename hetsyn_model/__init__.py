"""HetSynLIF spiking networks in torch: description, state, exact and bank form, training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetsyn_model.lazy import lazy_names

if TYPE_CHECKING:
    from hetsyn_model.compiled import Compiled
    from hetsyn_model.events import Events
    from hetsyn_model.import_reference import CheckpointError, from_reference
    from hetsyn_model.network import Network
    from hetsyn_model.rollout import Rollout
    from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec, PathSpec, SpecError, SurrogateSpec, variant
    from hetsyn_model.state import StateTensor, initial_state, state_bytes
    from hetsyn_model.synapses.bank import Bank, BankError
    from hetsyn_model.synapses.bank_fit import fit_bank

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
    "PathSpec",
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
    ".synapses.bank": ("Bank", "BankError"),
    ".synapses.bank_fit": ("fit_bank",),
    ".compiled": ("Compiled",),
    ".events": ("Events",),
    ".import_reference": ("CheckpointError", "from_reference"),
    ".network": ("Network",),
    ".rollout": ("Rollout",),
    ".spec": ("DecisionSpec", "NetworkSpec", "NeuronSpec", "PathSpec", "SpecError", "SurrogateSpec", "variant"),
    ".state": ("StateTensor", "initial_state", "state_bytes"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
