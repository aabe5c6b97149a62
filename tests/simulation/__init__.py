"""A simulated world: real servers and clients, and a network, stores and time that a seed decides."""
