"""The synapses of a layer: exact, with a current for each decay, or through a bank of shared decays."""
