from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from hetsyn_client.errors import NotFound, ServiceUnreachable
from hetsyn_client.loadtest.served_model import ServedModel, fetch_model
from hetsyn_client.loadtest.target import Address

SHD: dict[str, Any] = {
    "name": "shd",
    "version": "2",
    "input": {"channels": 700, "step_s": 0.004},
    "encoder": None,
    "default_form": "bank",
    "forms": {"exact": {}, "bank": {}},
}


def server(default: str | None = "shd") -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/models":
            return httpx.Response(200, json={"models": [{"name": "shd"}], "default_model": default})
        if request.url.path == "/models/shd" and request.url.params.get("version", "2") == "2":
            return httpx.Response(200, json=SHD)
        return httpx.Response(404, json={"detail": "does not have this model"})

    return answer


def ask(
    answer: Callable[[httpx.Request], httpx.Response],
    name: str | None = None,
    version: str | None = None,
    form: str | None = None,
) -> ServedModel:
    return fetch_model(Address.parse("http://test"), name, version, form, transport=httpx.MockTransport(answer))


def test_the_default_model_and_a_named_one() -> None:
    assert ask(server()) == ServedModel("shd", "2", "bank", 700, 0.004, None)
    assert ask(server(default=None), "shd", "2", "exact").form == "exact"


@pytest.mark.parametrize(
    ("kind", "encoder", "expected"),
    [
        ("spikes", {"kind": "audio", "channels": 1, "sample_rate_hz": 8000}, (8000, 0)),
        ("spikes", {"kind": "values", "channels": 3, "sample_rate_hz": 0}, (None, 3)),
        ("values", None, (None, 700)),
        ("values", {"kind": "audio", "channels": 1, "sample_rate_hz": 16_000}, (16_000, 700)),
    ],
)
def test_what_the_model_takes(kind: str, encoder: dict[str, Any] | None, expected: tuple[int | None, int]) -> None:
    described = {**SHD, "input": {"kind": kind, "channels": 700, "step_s": 0.004}, "encoder": encoder}
    model = ask(lambda _: httpx.Response(200, json=described), "shd")
    assert (model.sample_rate_hz, model.row_values) == expected


def test_what_the_server_lacks_is_named() -> None:
    with pytest.raises(NotFound, match="does not have this model"):
        ask(server(), "other")
    with pytest.raises(NotFound, match="does not have this model"):
        ask(server(), "shd", "3")
    with pytest.raises(NotFound, match="no form 'large': it has exact, bank"):
        ask(server(), "shd", None, "large")
    with pytest.raises(NotFound, match="name one with --model, of shd"):
        ask(server(default=None))


def test_other_servers_are_told_apart() -> None:
    with pytest.raises(ServiceUnreachable, match="is the address right"):
        ask(lambda _: httpx.Response(404, text="<html>"))
    with pytest.raises(ServiceUnreachable, match="is the address right"):
        ask(lambda _: httpx.Response(200, json=[]))

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ServiceUnreachable, match="is 'hetsyn serve' running there"):
        ask(refuse)
