"""What a server says of the model under load, as far as a load needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from hetsyn_client.errors import NotFound, ServiceUnreachable

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ServedModel:
    """sample_rate_hz: of the model's encoder; None where it takes spikes only."""

    name: str
    version: str
    form: str
    channels: int
    step_s: float
    sample_rate_hz: int | None


def ask_model(
    url: str,
    name: str | None = None,
    version: str | None = None,
    form: str | None = None,
    transport: httpx.BaseTransport | None = None,
) -> ServedModel:
    """The named model, or the server's default, in the named version and form, or its newest and default.

    Args:
        transport: in place of the network, for tests.

    Raises:
        ServiceUnreachable: no answer, or not from a server of models. NotFound: no such model, version or form.
    """
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, transport=transport) as http:
        listed = _get(http, "/models", {})
        name = name or listed.get("default_model")
        if name is None:
            names = ", ".join(model["name"] for model in listed["models"])
            raise NotFound(f"the server has no default model: name one with --model, of {names}")
        described = _get(http, f"/models/{name}", {"version": version} if version else {})
    forms = described["forms"]
    if form is not None and form not in forms:
        raise NotFound(f"model {name!r} has no form {form!r}: it has {', '.join(forms)}")
    encoder = described["encoder"]
    return ServedModel(
        name=described["name"],
        version=described["version"],
        form=form or described["default_form"],
        channels=described["input"]["channels"],
        step_s=described["input"]["step_s"],
        sample_rate_hz=encoder and encoder["sample_rate_hz"],
    )


def _get(http: httpx.Client, path: str, query: dict[str, str]) -> dict[str, Any]:
    try:
        response = http.get(path, params=query)
    except httpx.TransportError as error:
        raise ServiceUnreachable(f"{http.base_url}: {error}: is 'hetsyn serve' running there?") from error
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.status_code == 404 and isinstance(answer, dict) and "detail" in answer:
        raise NotFound(str(answer["detail"]))
    if not response.is_success or not isinstance(answer, dict):
        raise ServiceUnreachable(
            f"{http.base_url} answers {path} with {response.status_code}, and not as 'hetsyn serve' does: is it one?"
        )
    return answer
