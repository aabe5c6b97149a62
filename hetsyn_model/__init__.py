"""HetSynLIF spiking networks in torch: description, state, exact and bank form, training."""

from hetsyn_model.bank import Bank, BankError, fit_bank
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
