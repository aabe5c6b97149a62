"""Networks of other libraries, and ours for them, by NIR: the exchange format of spiking networks (``nir`` on PyPI)."""
