"""The encoder of the artifact that the contract is tested with."""

from __future__ import annotations

from hetsyn_model.encoder import EncoderSpec

ENCODER = EncoderSpec(bands=16, levels=6, spacing_db=4.0, contrast=0.4, emphasis_db_per_octave=6.0)
