"""A stream through resonant neurons and kills of its server, and one that is not disturbed: the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export import export_network
from hetsyn_client import StreamingClient
from tests.support.kills import through_kills
from tests.support.networks import small_network

pytestmark = pytest.mark.long

CHUNKS, STEPS, CHANNELS, LABELS = 8, 12, 30, "abcde"


def test_a_killed_server_goes_on_in_the_middle_of_a_swing(tmp_path: Path) -> None:
    spikes = (np.random.default_rng(3).random((CHUNKS * STEPS, CHANNELS)) < 0.3).astype(np.float32)
    spikes[STEPS * 4 :] = 0  # the input ends, and the neurons swing on
    made = small_network("hetsyn-resonance", "sum_softmax")
    examples = torch.from_numpy(spikes[None])
    export_network(made, out=tmp_path / "models" / "resonant" / "1", labels=list(LABELS), examples=examples)

    def replies(session: str, kills: tuple[int, ...]) -> list[Any]:
        def send(client: StreamingClient, seq: int) -> Any:
            times, units = np.nonzero(spikes[seq * STEPS :][:STEPS])
            return client.infer_events(STEPS, times, units, session=session, seq=seq, end=seq == CHUNKS - 1)

        return through_kills(tmp_path, CHUNKS, kills, send)

    calm = replies("calm", ())
    shaken = replies("shaken", (3, CHUNKS - 1))
    assert [{**reply, "session": "calm"} for reply in shaken] == calm
    reply = shaken[-1]
    with torch.no_grad():
        expected = made.rollout(examples, "bank" if reply["form"] == "bank" else "exact").probabilities[0].numpy()
    np.testing.assert_allclose(reply["probabilities"], expected, atol=1e-6)
