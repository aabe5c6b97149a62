"""Describes a model for users."""

from __future__ import annotations

from typing import Any

from service.contract.manifest import Manifest


def summary(manifest: Manifest) -> dict[str, Any]:
    """Describe a model as JSON values. ``state_bytes`` is the size of one session's state."""
    encoder, network = manifest.encoder, manifest.network
    return {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "labels": list(manifest.labels),
        "rejected_labels": list(manifest.rejected_labels),
        "acceptance_threshold": manifest.acceptance_threshold,
        "inputs": list(manifest.inputs),
        "input": manifest.input.model_dump(mode="json"),
        "encoder": encoder
        and {
            "kind": encoder.kind,
            "channels": encoder.channels,
            "sample_rate_hz": encoder.sample_rate_hz,
            "samples_per_step": encoder.samples_per_step,
            "state_bytes": encoder.state_bytes,
            "file_bytes": manifest.files[encoder.file].bytes if encoder.file else 0,
        },
        "hidden": list(manifest.hidden),
        "outputs": manifest.outputs,
        "decision": manifest.decision.model_dump(mode="json"),
        "endpointing": manifest.endpointing and manifest.endpointing.model_dump(mode="json"),
        "network": {
            "form": network.form,
            "state_bytes": network.state_bytes,
            "file_bytes": manifest.files[network.file].bytes,
            "torchscript_bytes": manifest.files[network.torchscript].bytes if network.torchscript else 0,
            "tolerance": network.tolerance,
            "exactness": network.exactness,
            "lookahead_steps": network.lookahead_steps,
            "bank_sizes": network.bank_sizes,
            "kernel_error": network.kernel_error,
            "accuracy": network.accuracy,
            "spike_mismatch": network.spike_mismatch,
            "state": [tensor.model_dump(mode="json") for tensor in network.state],
        },
        "files": {name: entry.model_dump(mode="json") for name, entry in manifest.files.items()},
        "total_bytes": sum(entry.bytes for entry in manifest.files.values()),
        "provenance": manifest.provenance,
    }
