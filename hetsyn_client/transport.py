"""Requests to one server, and when they are sent again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from hetsyn_client.bodies import Body
from hetsyn_client.errors import ServiceProblem, ServiceUnreachable

_PROXY_LOST_THE_SERVER = (502, 504)
LONGEST_PAUSE_S = 30.0


class Transport:
    """Connections to one server.

    Args:
        url: as ``http://127.0.0.1:8000``.
        timeout_s: for one request.
        repeats: how often a chunk that can be repeated is sent again.
        transport: replaces the network in tests.
        sleep: waits between two tries, in seconds.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        repeats: int,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._repeats = repeats
        self._sleep = sleep
        self._http = httpx.Client(base_url=url, timeout=timeout_s, transport=transport)

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str) -> httpx.Response:
        """The response to a request without a body.

        Raises:
            ServiceProblem: the server refused.
            ServiceUnreachable: the server cannot be reached.
        """
        try:
            response = self._http.request(method, path)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return _checked(response)

    def post_chunk(self, query: dict[str, Any], body: Body, *, is_repeatable: bool) -> httpx.Response:
        """The response to ``POST /infer``, of the last try.

        Args:
            query: parameters of the request.
            body: of the request.
            is_repeatable: the server counts the chunk once, however often it is sent.

        Raises:
            ServiceProblem: the server refused.
            ServiceUnreachable: the last try had no response.
        """
        tries = 1 + (self._repeats if is_repeatable else 0)
        headers = {"Content-Type": body.content_type}
        for attempt in range(tries):
            is_last = attempt == tries - 1
            pause_s = 0.1 * 2**attempt
            try:
                response = self._http.post("/infer", params=query, content=body.content, headers=headers)
                if is_last or not _is_repeatable(response):
                    break
                later_s = _retry_after_s(response)
                if later_s is not None:
                    if later_s > LONGEST_PAUSE_S:
                        break
                    pause_s = later_s
            except httpx.TransportError as error:
                if is_last:
                    raise self._unreachable(error) from error
            self._sleep(pause_s)
        return _checked(response)

    def _unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        return ServiceUnreachable(f"{self._url}: {error}: is 'hetsyn serve' running there?")


def _is_repeatable(response: httpx.Response) -> bool:
    """Whether to send a numbered chunk again: the server says "later", or a proxy lost the server."""
    if response.status_code == 503:
        return _retry_after_s(response) is not None
    return response.status_code in _PROXY_LOST_THE_SERVER


def _retry_after_s(response: httpx.Response) -> float | None:
    retry_after = response.headers.get("Retry-After", "")
    return float(retry_after) if retry_after.isdecimal() else None


def _checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is a success."""
    if response.is_success:
        return response
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    detail = str(body.get("detail") or response.reason_phrase)
    raise ServiceProblem(response.status_code, detail, body.get("expected_seq"), _retry_after_s(response))
