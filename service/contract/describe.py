"""Describes a model for users."""

from __future__ import annotations

from typing import Any

from service.contract.manifest import Manifest


def summary(manifest: Manifest) -> dict[str, Any]:
    """Describe a model as JSON values. ``state_bytes`` is the size of one session's state."""
    encoder = manifest.encoder
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
        "default_form": manifest.default_form,
        "forms": {
            name: {
                "state_bytes": form.state_bytes,
                "file_bytes": manifest.files[form.file].bytes,
                "torchscript_bytes": manifest.files[form.torchscript].bytes if form.torchscript else 0,
                "tolerance": form.tolerance,
                "exactness": manifest.exactness(name),
                "lookahead_steps": form.lookahead_steps,
                "bank_sizes": form.bank_sizes,
                "kernel_error": form.kernel_error,
                "accuracy": form.accuracy,
                "spike_mismatch": form.spike_mismatch,
                "state": [tensor.model_dump(mode="json") for tensor in form.state],
            }
            for name, form in manifest.forms.items()
        },
        "files": {name: entry.model_dump(mode="json") for name, entry in manifest.files.items()},
        "total_bytes": sum(entry.bytes for entry in manifest.files.values()),
        "provenance": manifest.provenance,
    }
