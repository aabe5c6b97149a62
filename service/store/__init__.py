"""Session stores: the interface (``base``), its implementations, and the packing of sessions (``record``)."""
