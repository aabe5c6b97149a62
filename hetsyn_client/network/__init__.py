"""The way to a server: its address and keys, and what carries out the steps of ``hetsyn_client.protocol``."""
