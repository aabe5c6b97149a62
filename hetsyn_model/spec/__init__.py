"""The description of a network: a frozen dataclass for each part, all with units.

Index letters, used in every file: ``b`` stream, ``t`` step, ``j`` (or ``n``) postsynaptic neuron,
``i`` presynaptic unit, ``k`` decay of a timescale bank. Times are in steps unless a name says ``_s``.

The four neuron models of the paper are values of one description, not classes
(arXiv 2508.11644, Propositions 1-3): see :func:`variant`.
"""

from hetsyn_model.spec.decision import DecisionSpec, Rule
from hetsyn_model.spec.errors import SpecError
from hetsyn_model.spec.network import InputKind, NetworkSpec
from hetsyn_model.spec.neuron import (
    MEMBRANE_RESETS,
    Decays,
    NeuronSpec,
    Potential,
    Reset,
    Variant,
    se_adlif,
    variant,
)
from hetsyn_model.spec.own import OwnNeurons, decay_of
from hetsyn_model.spec.path import PathSpec
from hetsyn_model.spec.resonance import ResonanceSpec
from hetsyn_model.spec.surrogate import SurrogateKind, SurrogateSpec

ERROR_BOUND = 1e-3  # relative L2 error of a bank's worst kernel, if the bank has no set size

__all__ = [
    "ERROR_BOUND",
    "MEMBRANE_RESETS",
    "Decays",
    "DecisionSpec",
    "InputKind",
    "NetworkSpec",
    "NeuronSpec",
    "OwnNeurons",
    "PathSpec",
    "Potential",
    "Reset",
    "ResonanceSpec",
    "Rule",
    "SpecError",
    "SurrogateKind",
    "SurrogateSpec",
    "Variant",
    "decay_of",
    "se_adlif",
    "variant",
]
