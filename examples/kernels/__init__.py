"""Synapses whose kernels are no single exponential, in the banks of HetSyn: f-LIF and the DYNAP-SE's pairs."""
