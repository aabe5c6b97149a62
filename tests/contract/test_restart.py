"""Every family of networks: a session goes on from a store's file in another server, with the bits of one server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np

from export import export_network
from service.app import create_app
from service.models.catalog import ModelCatalog
from tests.support.artifacts.default import with_default
from tests.support.clients.json_input import Json
from tests.support.networks.delays import delayed_network
from tests.support.networks.families import FAMILIES, family_network
from tests.support.product import make_settings
from tests.support.servers.socket_server import serving

CHUNKS, STEPS = 8, 10  # delays of 9 steps into each layer and of 27 back to it are under way after each chunk


def test_a_session_goes_on_in_another_server(tmp_path: Path) -> None:
    late = delayed_network("both")
    for name, delay in late.delays().items():
        delay.detach().fill_(late.path_of(name).max_delay_steps)
    networks = {"late": late}
    networks |= {name.replace(", ", "-").replace(" ", "-"): family_network(name)[0] for name in FAMILIES}
    for model, network in networks.items():
        export_network(network, out=tmp_path / "models" / model / "1", labels=list("abcde"), torchscript=False)
    rng = np.random.default_rng(0)
    chunks = {
        model: [(rng.random((STEPS, network.spec.channels)) < 0.15).astype(int).tolist() for _ in range(CHUNKS)]
        for model, network in networks.items()
    }

    def replies(session: str, numbers: range) -> dict[str, list[Json]]:
        """Apply the chunks in a server of its own, on the same file."""
        settings = make_settings(tmp_path / "models", store=f"file://{tmp_path}/sessions.db")
        with (
            serving(create_app(settings, ModelCatalog(with_default(tmp_path / "models", "late")))) as url,
            httpx.Client(base_url=url, timeout=60) as client,
        ):

            def reply(model: str, number: int) -> Json:
                spikes = {"kind": "dense", "spikes": chunks[model][number]}
                body = {"session": f"{session}-{model}", "model": model, "seq": number, "end": number == CHUNKS - 1}
                response = client.post("/infer", json={**body, "input": spikes})
                assert response.status_code == 200, response.text
                return {**response.json(), "session": ""}

            return {model: [reply(model, number) for number in numbers] for model in networks}

    calm = replies("calm", range(CHUNKS))
    parts = [replies("moved", range(*bounds)) for bounds in ((0, 4), (4, 6), (6, CHUNKS))]
    assert {model: [reply for part in parts for reply in part[model]] for model in networks} == calm
    for model, answers in calm.items():
        assert len({json.dumps(answer["probabilities"]) for answer in answers[3:]}) == 5, model
