"""A stream through resonant neurons and kills of its server, and one that is not disturbed: the same answers."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export import export_network
from hetsyn_client import HetsynError, StreamingClient
from tests.support.networks import small_network
from tests.support.server_process import RestartableServer

CHUNKS, STEPS, CHANNELS, LABELS = 8, 12, 30, "abcde"


def test_a_killed_server_goes_on_in_the_middle_of_a_swing(tmp_path: Path) -> None:
    spikes = (np.random.default_rng(3).random((CHUNKS * STEPS, CHANNELS)) < 0.3).astype(np.float32)
    spikes[STEPS * 4 :] = 0  # the input ends, and the neurons swing on
    made = small_network("hetsyn-resonance", "sum_softmax")
    examples = torch.from_numpy(spikes[None])
    export_network(made, out=tmp_path / "models" / "resonant" / "1", labels=list(LABELS), examples=examples)
    # the last of two options counts
    options = "--models", str(tmp_path / "models"), "--store", f"file://{tmp_path}/sessions.db"
    server = RestartableServer(*options, "--log-level", "warning")

    def send(session: str, seq: int, **how: Any) -> Any:
        times, units = np.nonzero(spikes[seq * STEPS :][:STEPS])
        with StreamingClient(server.url, **how) as client:
            return client.infer_events(STEPS, times, units, session=session, seq=seq, end=seq == CHUNKS - 1)

    def send_and_forget(seq: int) -> None:
        with suppress(HetsynError):
            send("shaken", seq, repeats=0)

    try:
        server.ready()
        calm = [send("calm", seq) for seq in range(CHUNKS)]
        for seq in range(CHUNKS):
            if seq in (3, CHUNKS - 1):  # killed with the chunk under way, which may be applied, or not
                under_way = threading.Thread(target=send_and_forget, args=(seq,))
                under_way.start()
                server.kill()
                under_way.join()
                server.restart()
            reply = send("shaken", seq)
            assert {**reply, "session": "calm"} == calm[seq]
    finally:
        server.kill()
    with torch.no_grad():
        expected = made.rollout(examples, "bank" if reply["form"] == "bank" else "exact").probabilities[0].numpy()
    np.testing.assert_allclose(reply["probabilities"], expected, atol=1e-6)
