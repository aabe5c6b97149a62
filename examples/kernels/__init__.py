"""Synapses with kernels other than an exponential, in the banks of HetSyn: f-LIF and the DYNAP-SE's pairs."""
