"""Published networks as descriptions: values of :class:`hetsyn_model.spec.NetworkSpec` with the papers' settings."""

from hetsyn_model.families.delays import dcls_like, delrec_like, filtered_input

__all__ = ["dcls_like", "delrec_like", "filtered_input"]
