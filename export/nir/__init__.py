"""Networks of other libraries, and ours for them, by NIR, the exchange format of neuromorphic frameworks (nir on PyPI)."""
