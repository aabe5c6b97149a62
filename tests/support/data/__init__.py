"""Sound, spikes and values: arrays, files and data sets, made from a seed."""
