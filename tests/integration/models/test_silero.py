"""silero-vad's ONNX file, which nobody here made, is imported and served: its own probabilities, in any chunks."""

from __future__ import annotations

import importlib.util
import os
import wave
from pathlib import Path

import numpy as np
import pytest
import soxr

from hetsyn_client import StreamingClient
from service.runtime.onnx import Array, load_graph
from tests.support.paths import RECORDINGS
from tests.support.servers.socket_server import running, serving_from_file

MISSING = importlib.util.find_spec("onnxscript") is None or (
    "HETSYN_SILERO_ONNX" not in os.environ and importlib.util.find_spec("silero_vad") is None
)
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        MISSING,
        reason="no silero-vad: pip install onnxscript, and pip install --no-deps silero-vad or HETSYN_SILERO_ONNX=FILE",
    ),
]

RATE_HZ, FRAME, CONTEXT, ALLOWED = 16_000, 512, 64, 1e-5


def model_file() -> Path:
    """The file of the installed package, or of HETSYN_SILERO_ONNX."""
    if "HETSYN_SILERO_ONNX" in os.environ:
        return Path(os.environ["HETSYN_SILERO_ONNX"])
    package = importlib.util.find_spec("silero_vad")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "data" / "silero_vad.onnx"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export import import_onnx

    file, folder = model_file(), tmp_path_factory.mktemp("models")
    for name, labels, kind, decision in (
        ("trace", ["speech"], "scores", "trace"),
        ("vad", ["silence", "speech"], "probabilities", "last"),
    ):
        import_onnx(
            file,
            out=folder / name / "1",
            labels=labels,
            state={"state": "stateN"},
            constants={"sr": RATE_HZ},
            batch_axis={"state": 1},
            context=CONTEXT,
            audio=RATE_HZ,
            frame=FRAME,
            output_kind=kind,  # type: ignore[arg-type]
            decision=decision,  # type: ignore[arg-type]
        )
    return folder


def recording() -> Array:
    """Ten digits with pauses, int16 in whole steps."""
    parts = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
            parts += [soxr.resample(samples, file.getframerate(), RATE_HZ), np.zeros(8_000)]
    whole = np.concatenate(parts)
    clipped: Array = np.clip(whole[: len(whole) // FRAME * FRAME], -(2**15), 2**15 - 1).astype(np.int16)
    return clipped


def own_probabilities(samples: Array) -> Array:
    """The file's output at each step, with the context that the model wants: the end of the step before."""
    graph = load_graph(model_file().read_bytes())
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT), np.float32)
    found = []
    for step in samples.astype(np.float32).reshape(-1, 1, FRAME) / np.float32(32_768):
        x = np.concatenate([context, step], 1)
        out = graph.run({"input": x, "state": state, "sr": np.array(RATE_HZ)}, ["output", "stateN"])
        state, context = out["stateN"], x[:, -CONTEXT:]
        found.append(out["output"][0, 0])
    return np.array(found)


def test_its_probabilities_come_out_in_any_chunks_and_across_a_restart(models: Path, tmp_path: Path) -> None:
    samples = recording()
    expected = own_probabilities(samples)
    assert 0.2 < (expected > 0.5).mean() < 0.8  # speech and pauses
    cuts = np.sort(np.random.default_rng(0).choice(len(samples), 12, replace=False))
    chunks = np.split(samples, cuts)
    rows: list[list[float]] = []
    for part in (range(7), range(7, len(chunks))):
        with serving_from_file(models, tmp_path / "sessions.db") as url, StreamingClient(url) as client:
            for seq in part:
                end = seq == len(chunks) - 1
                rows += client.infer_chunk(chunks[seq], RATE_HZ, model="trace", session="talk", seq=seq, end=end)[
                    "readout"
                ]
    np.testing.assert_allclose(np.array(rows)[:, 0], expected, atol=ALLOWED)


def test_two_labels_and_the_latest_probability(models: Path) -> None:
    samples = recording()[: 40 * FRAME]
    with running(models) as url, StreamingClient(url) as client:
        reply = client.infer_chunk(samples, RATE_HZ, model="vad", end=True)
    last = float(own_probabilities(samples)[-1])
    np.testing.assert_allclose(np.asarray(reply["probabilities"]), [1 - last, last], atol=ALLOWED)
    assert reply["labels"] == ["silence", "speech"]
