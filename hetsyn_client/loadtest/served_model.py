"""The model under load, as its server describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from hetsyn_client.errors import InputError, NotFound, ServiceUnreachable
from hetsyn_client.loadtest.target import Address

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ServedModel:
    """A model, with the facts that a load depends on.

    Attributes:
        name: of the model.
        version: of the model.
        form: ``exact`` or ``bank``.
        channels: input channels.
        step_s: length of a network step.
        sample_rate_hz: of the sound that the model takes; None for a model that takes none.
        row_values: numbers of a row of values that the model takes; 0 for a model that takes none.
    """

    name: str
    version: str
    form: str
    channels: int
    step_s: float
    sample_rate_hz: int | None
    row_values: int = 0


def fetch_model(
    address: Address,
    name: str | None = None,
    version: str | None = None,
    form: str | None = None,
    transport: httpx.BaseTransport | None = None,
) -> ServedModel:
    """Ask a server for a model.

    Args:
        address: of the server.
        name: by default the server's default model.
        version: by default the newest.
        form: by default the model's default form.
        transport: replaces the network in tests.

    Raises:
        ServiceUnreachable: no answer, or not the answer of ``hetsyn serve``.
        NotFound: the server has no such model, version or form.
        InputError: the server asks for a key, or for another one.
    """
    verify = address.tls or True
    with httpx.Client(
        base_url=address.url, headers=address.headers, timeout=TIMEOUT_S, transport=transport, verify=verify
    ) as http:
        listed = _get(http, "/models", {})
        name = name or listed.get("default_model")
        if name is None:
            names = ", ".join(model["name"] for model in listed["models"])
            raise NotFound(f"the server has no default model: name one with --model, of {names}")
        described = _get(http, f"/models/{name}", {"version": version} if version else {})
    forms = described["forms"]
    if form is not None and form not in forms:
        raise NotFound(f"model {name!r} has no form {form!r}: it has {', '.join(forms)}")
    encoder, taken = described["encoder"], described["input"]
    is_encoded = encoder is not None and encoder.get("kind") == "values"
    takes_values = is_encoded or taken.get("kind") == "values"
    return ServedModel(
        name=described["name"],
        version=described["version"],
        form=form or described["default_form"],
        channels=taken["channels"],
        step_s=taken["step_s"],
        sample_rate_hz=None if encoder is None or is_encoded else encoder["sample_rate_hz"],
        row_values=(encoder if is_encoded else taken)["channels"] if takes_values else 0,
    )


def _get(http: httpx.Client, path: str, query: dict[str, str]) -> dict[str, Any]:
    try:
        response = http.get(path, params=query)
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise ServiceUnreachable(
                f"{http.base_url}: its certificate is not trusted ({error}): name the file of its certificate "
                "authority with --ca-file"
            ) from error
        raise ServiceUnreachable(f"{http.base_url}: {error}: is 'hetsyn serve' running there?") from error
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.status_code == 404 and isinstance(answer, dict) and "detail" in answer:
        raise NotFound(str(answer["detail"]))
    if response.status_code in (401, 403):
        detail = str(answer.get("detail", "")) if isinstance(answer, dict) else ""
        said = detail.partition(":")[0] or "it asks for a key"
        raise InputError(
            f"{http.base_url} ({response.status_code}): {said}: give a key that may infer with --key KEY or HETSYN_KEY"
        )
    if not response.is_success or not isinstance(answer, dict):
        raise ServiceUnreachable(
            f"{http.base_url} answers {path} with {response.status_code}, unlike 'hetsyn serve': is the address right?"
        )
    return answer
