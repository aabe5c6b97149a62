"""Encodes examples as batches of spikes, as a server does or varied for training."""
