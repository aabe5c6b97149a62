"""Sessions that are imported over HTTP: from where, and how many at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from service.carried.token import Tokens
from service.session.session import Session
from tests.support.artifacts.artifact import write_artifact
from tests.support.clients.http_calls import is_problem, ok, put_state
from tests.support.clients.json_input import audio
from tests.support.data.signals import sound
from tests.support.servers.in_process import HttpServer, ServeHttp

unseal = Tokens.unseal


async def exported(server: HttpServer, session: str) -> bytes:
    response = await server.client.get(f"/sessions/{session}/state")
    assert response.status_code == 200, response.text
    return response.content


async def test_a_server_without_the_model_says_so(tmp_path: Path, models: Path, serve: ServeHttp) -> None:
    """503 and not 422: another server may have it."""
    write_artifact(tmp_path / "others", "deaf", takes_audio=False)
    server, other = await serve(models), await serve(tmp_path / "others")
    await ok(server.client, session="abc", seq=0, input=audio(sound(4_000, 1), 44_100))
    content = await exported(server, "abc")
    refused = await put_state(other.client, "abc", content)
    assert is_problem(refused, 503, "does not have")["type"].endswith("model-absent")
    assert refused.headers["Retry-After"] == "1"


@pytest.mark.parametrize("rate_hz", [8_000, 191_975])
async def test_a_long_import_is_read_on_a_thread(
    rate_hz: int, serve: ServeHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    client = server.client
    await ok(client, session="abc", seq=0, input=audio(sound(22_000, 1), rate_hz))
    content = await exported(server, "abc")
    threads: list[threading.Thread] = []

    def recorded(tokens: Tokens, content: bytes) -> tuple[str, Session]:
        threads.append(threading.current_thread())
        return unseal(tokens, content)

    monkeypatch.setattr(Tokens, "unseal", recorded)
    assert (await put_state(client, "def", content)).status_code == 201
    assert [thread is threading.main_thread() for thread in threads] == [len(content) <= 64 * 1024]
