"""Torch, ONNX Runtime, TorchScript and ``/infer`` give one answer to every recording.

Every recording goes through torch (encoder and rollout), through the exported network in ONNX Runtime (whole, in
chunks, step by step) and TorchScript, and through ``/infer`` in chunks of 7 ms, of 100 ms and as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from export.evaluation import padded
from export.graphs.torchscript import torchscript
from export.own_network import CHECKPOINT
from export.parity import Difference, Streams, graphs_by_runtime, run_torch
from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
from hetsyn_model.state import Form
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.data import Recording, read_folder, read_wav
from hetsyn_model.training.encoding.augment import encode_batch
from service.app import create_app
from service.contract.artifact import Artifact
from service.settings import Settings
from tests.support.clients.wire import wire_transport
from tests.support.networks.exported import verify_form
from tests.support.paths import FSDD, MODELS, RECORDINGS, SPEECH
from tests.support.tools import NO_RECORDINGS

pytestmark = pytest.mark.long

FORM: Form = "bank"  # the one that the shipped model has
NAMES = load_config("speech-digits").names  # by label
RATE_HZ = 8000
TOLERANCE = 1e-4  # of a probability
CHUNKS_MS = (7, 100, None)  # None: the whole recording in one request
AT_ONCE = 32
Probabilities = NDArray[np.float32]


def test_the_shipped_recordings() -> None:
    recordings = [
        Recording(read_wav(RECORDINGS / f"{word}.wav", RATE_HZ), label, "flite-rms", 0)
        for label, word in enumerate(NAMES.values())
    ]
    agreeing(recordings)


def test_real_speech() -> None:
    if not FSDD.is_dir():
        pytest.skip(NO_RECORDINGS)
    chosen = read_folder(FSDD, tuple(NAMES), RATE_HZ)[::60]
    assert len(chosen) >= 40
    agreeing(chosen)


def agreeing(recordings: Sequence[Recording]) -> None:
    """Compare all implementations with torch."""
    manifest = Artifact.open(SPEECH).manifest
    checkpoint = Checkpoint.load(SPEECH / CHECKPOINT)
    assert isinstance(checkpoint.encoder, EncoderSpec)
    compiled = checkpoint.network.eval().compile(FORM)
    graphs = graphs_by_runtime((SPEECH / manifest.network.file).read_bytes())
    script = torchscript(compiled)
    found: list[Difference] = []
    parts = []
    for start in range(0, len(recordings), AT_ONCE):
        streams = _streams(Encoder(checkpoint.encoder), recordings[start : start + AT_ONCE], checkpoint.tail_steps)
        found += verify_form(compiled, graphs, script, streams)
        parts.append(run_torch(compiled, streams).probabilities)
    for item in found:
        assert (item.labels, item.spikes) == (0, 0), item
        assert item.probabilities <= TOLERANCE, item
    probabilities = np.concatenate(parts)
    for chunk_ms in CHUNKS_MS:
        got = asyncio.run(_served(recordings, chunk_ms))
        assert (got.argmax(1) == probabilities.argmax(1)).all(), chunk_ms
        assert np.abs(got - probabilities).max() <= TOLERANCE, chunk_ms


def _streams(encoder: Encoder, recordings: Sequence[Recording], tail_steps: int) -> Streams:
    batch = encode_batch(encoder, recordings, tail_steps)
    dense = batch.events.dense()
    return padded([stream[:steps] for stream, steps in zip(dense, batch.steps.tolist(), strict=True)])


async def _served(recordings: Sequence[Recording], chunk_ms: int | None) -> Probabilities:
    """Probabilities [recording, outputs] of the last reply to each recording."""
    transport = wire_transport(create_app(Settings(models=MODELS)))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answers = []
        for index, recording in enumerate(recordings):
            pcm = np.round(recording.audio * 32768).astype("<i2")
            size = len(pcm) if chunk_ms is None else RATE_HZ * chunk_ms // 1000
            for seq, start in enumerate(range(0, len(pcm), size)):
                response = await client.post(
                    "/infer",
                    params={"session": f"r{index}", "seq": seq, "end": start + size >= len(pcm)},
                    content=pcm[start : start + size].tobytes(),
                    headers={"content-type": f"audio/pcm;encoding=pcm_s16le;rate={RATE_HZ}"},
                )
                response.raise_for_status()
            answers.append(response.json()["probabilities"])
    return np.array(answers, np.float32)
