"""Do torch, ONNX Runtime, TorchScript and ``/infer`` give the same answers, form by form? How do the forms differ?

Every recording goes through torch (encoder and rollout), through the exported network in ONNX Runtime
(whole, in chunks, step by step) and TorchScript, and through the server's ``/infer`` in chunks of 7 ms,
of 100 ms and as a whole. Reported: labels and spikes that differ from torch's, and the largest difference
of a probability.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from export.evaluation import padded
from export.parity import Difference, Streams, run_torch, verify_form
from export.write import CHECKPOINT, graphs_by_runtime
from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.state import Form
from hetsyn_model.training.augment import encode_batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import load_config
from hetsyn_model.training.data import Recording, read_folder
from service.app import create_app
from service.contract.artifact import Artifact
from service.settings import Settings

FORMS: tuple[Form, ...] = ("exact", "bank")
CHUNKS_MS = (7, 100, None)  # None: the whole recording in one request
AT_ONCE = 32


@dataclass(frozen=True)
class FormDifference:
    """How the bank differs from the exact form, over all recordings.

    Attributes:
        labels: recordings that get another label.
        spikes: hidden spikes that occur in one form only.
        of_spikes: hidden spikes of the exact form.
        probabilities: largest difference of a probability.
        accuracy_exact: share of right labels of the exact form.
        accuracy_bank: the same of the bank.
    """

    labels: int
    spikes: int
    of_spikes: int
    probabilities: float
    accuracy_exact: float
    accuracy_bank: float


def compare(models: Path, name: str, version: str, recordings: Sequence[Recording]) -> dict[str, Any]:
    """The whole comparison, as plain values: ``implementations``, ``served`` and ``forms``."""
    folder = models / name / version
    manifest = Artifact.open(folder).manifest
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    if not isinstance(checkpoint.encoder, EncoderSpec):
        raise SystemExit(f"{folder}: takes no sound; this compares networks with an encoder of audio")
    network, encoder = checkpoint.network.eval(), Encoder(checkpoint.encoder)
    truth = np.array([recording.label for recording in recordings])
    implementations: list[Difference] = []
    served: list[dict[str, Any]] = []
    probabilities: dict[str, NDArray[np.float32]] = {}
    hidden: dict[str, list[NDArray[np.float32]]] = {form: [] for form in FORMS}
    for form in FORMS:
        compiled = network.compile(form)
        graphs = graphs_by_runtime((folder / manifest.forms[form].file).read_bytes())
        script = (folder / f"{form}.pt").read_bytes()
        by_torch = []
        for start in range(0, len(recordings), AT_ONCE):
            streams = _streams(encoder, recordings[start : start + AT_ONCE], checkpoint.tail_steps)
            implementations += verify_form(compiled, graphs, script, streams)
            traces = run_torch(compiled, streams)
            by_torch.append(traces.probabilities)
            hidden[form] += traces.hidden
        probabilities[form] = np.concatenate(by_torch)
        for chunk_ms in CHUNKS_MS:
            got = asyncio.run(_served(models, name, version, form, recordings, chunk_ms))
            served.append(
                {
                    "form": form,
                    "chunk_ms": chunk_ms,
                    "labels": int((got.argmax(1) != probabilities[form].argmax(1)).sum()),
                    "probabilities": float(np.abs(got - probabilities[form]).max()),
                }
            )
    forms = FormDifference(
        int((probabilities["exact"].argmax(1) != probabilities["bank"].argmax(1)).sum()),
        sum(int((a != b).sum()) for a, b in zip(hidden["exact"], hidden["bank"], strict=True)),
        sum(int(a.sum()) for a in hidden["exact"]),
        float(np.abs(probabilities["exact"] - probabilities["bank"]).max()),
        float((probabilities["exact"].argmax(1) == truth).mean()),
        float((probabilities["bank"].argmax(1) == truth).mean()),
    )
    return {
        "recordings": len(recordings),
        "implementations": [asdict(item) for item in _joined(implementations)],
        "served": served,
        "bank_against_exact": asdict(forms),
    }


def _streams(encoder: Encoder, recordings: Sequence[Recording], tail_steps: int) -> Streams:
    batch = encode_batch(encoder, recordings, tail_steps)
    dense = batch.events.dense()
    return padded([stream[:steps] for stream, steps in zip(dense, batch.steps.tolist(), strict=True)])


def _joined(items: Sequence[Difference]) -> list[Difference]:
    """One difference for each implementation: the sum of counts, the maximum of distances."""
    names = list(dict.fromkeys(item.implementation for item in items))
    grouped = [[item for item in items if item.implementation == name] for name in names]
    return [
        Difference(
            group[0].implementation,
            sum(item.labels for item in group),
            sum(item.spikes for item in group),
            max(item.readout for item in group),
            max(item.probabilities for item in group),
        )
        for group in grouped
    ]


async def _served(
    models: Path, name: str, version: str, form: Form, recordings: Sequence[Recording], chunk_ms: int | None
) -> NDArray[np.float32]:
    """Probabilities [recording, outputs] of the last reply to each recording."""
    app = create_app(Settings(models=models, default_model=name))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answers = []
        for index, recording in enumerate(recordings):
            pcm = np.round(recording.audio * 32768).astype("<i2")
            size = len(pcm) if chunk_ms is None else 8 * chunk_ms
            pieces = [pcm[start : start + size] for start in range(0, len(pcm), size)]
            reply: dict[str, Any] = {}
            for seq, piece in enumerate(pieces):
                response = await client.post(
                    "/infer",
                    params={
                        "session": f"r{index}",
                        "model": name,
                        "version": version,
                        "form": form,
                        "seq": seq,
                        "end": seq + 1 == len(pieces),
                    },
                    content=_wav(piece),
                    headers={"content-type": "audio/wav"},
                )
                response.raise_for_status()
                reply = response.json()
            answers.append(reply["probabilities"])
    return np.array(answers, np.float32)


def _wav(pcm: NDArray[np.int16]) -> bytes:
    content = BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(pcm.tobytes())
    return content.getvalue()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of digit_speaker_take.wav, 8 kHz")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--model", default="speech-digits")
    parser.add_argument("--version", default="1")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    recordings = read_folder(arguments.data, tuple(load_config("speech-digits").names), 8000)
    count = 20 if arguments.quick else 250
    chosen = recordings[:: max(1, len(recordings) // count)]
    results = compare(arguments.models, arguments.model, arguments.version, chosen)
    _print(results)
    return results


def _print(results: dict[str, Any]) -> None:
    console = Console()
    table = Table("against torch", "labels", "spikes", "probabilities", title=f"{results['recordings']} recordings")
    for item in results["implementations"]:
        table.add_row(item["implementation"], str(item["labels"]), str(item["spikes"]), f"{item['probabilities']:.1e}")
    for item in results["served"]:
        chunk = "whole" if item["chunk_ms"] is None else f"{item['chunk_ms']} ms"
        table.add_row(f"{item['form']}: /infer, {chunk}", str(item["labels"]), "", f"{item['probabilities']:.1e}")
    console.print(table)
    console.print("bank against exact: " + json.dumps(results["bank_against_exact"]))
