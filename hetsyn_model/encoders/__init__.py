"""The encoders that turn sound and rows of values into spikes."""
