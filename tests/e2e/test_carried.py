"""Two server processes that share keys and nothing else, with the shipped model on ONNX Runtime."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import numpy as np
import pytest

from hetsyn_client.client import StreamingClient
from service.wire.sound import decode_wav
from tests.support.clients.recording_stream import CHUNK_SAMPLES
from tests.support.paths import RECORDINGS
from tests.support.servers.server_process import RestartableServer

pytestmark = pytest.mark.process


def test_every_chunk_goes_to_another_process(tmp_path: Path) -> None:
    """At 8 kHz less 1, so that the resampler's state is carried too."""
    (tmp_path / "keys").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    samples, _ = decode_wav((RECORDINGS / "seven.wav").read_bytes())
    pcm = np.round(samples * 32_768.0).astype(np.int16)
    pieces = [pcm[begin : begin + CHUNK_SAMPLES] for begin in range(0, len(pcm), CHUNK_SAMPLES)]
    replicas = [RestartableServer("--carry-keys", str(tmp_path / "keys"), "--log-level", "warning") for _ in range(2)]
    try:
        for replica in replicas:
            replica.ready()
        with StreamingClient(replicas[0].url) as one, StreamingClient(replicas[1].url) as other:
            token = None
            for n, piece in enumerate(pieces):
                end = n == len(pieces) - 1
                expected = one.infer_chunk(piece, 7_975, session="a", seq=n, end=end)
                client = (one, other)[n % 2]
                reply = client.infer_chunk(piece, 7_975, session="a", seq=n, end=end, carry=True, token=token)
                token = reply.pop("token")
                assert reply == expected
        assert token is None
    finally:
        for replica in replicas:
            replica.stop()
