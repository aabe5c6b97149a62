"""Networks of other papers as values of our description, with the settings that the papers have.

Each function gives the parts of a :class:`hetsyn_model.spec.NetworkSpec` that make the family, or all of it.
``docs/explanation/model.md`` says what is the same, and what is not.
"""

from hetsyn_model.families.delays import dcls_like, delrec_like, filtered_input
from hetsyn_model.families.kernels import dynap_pair, f_lif
from hetsyn_model.spec.neuron import se_adlif

__all__ = ["dcls_like", "delrec_like", "dynap_pair", "f_lif", "filtered_input", "se_adlif"]
