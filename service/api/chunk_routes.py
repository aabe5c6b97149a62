"""Which requests have a chunk (``api.exchange``), and what their responses have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from service.api.exchange import Door, Field, Planner
from service.api.infer import PATH, InferPlan
from service.api.open_inference import inference_planner
from service.ingress import Ingress
from service.keys.keys import Keys
from service.observe.counters import Counters
from service.open_inference.service import OpenInference
from service.settings import Limits

EXPOSED = ("Retry-After", "X-Request-ID")
"""Headers of a response that a page of another origin may read."""


class ChunkRoutes:
    """See above.

    Args:
        ingress: applies chunks.
        counters: count abandoned chunks.
        limits: of a body.
        open_inference: what answers below ``/v2``.
        cors_origins: whose pages may send requests.
        keys: that clients need; None lets everybody in.

    Attributes:
        door: which the exchanges share.
    """

    def __init__(
        self,
        ingress: Ingress,
        counters: Counters,
        limits: Limits,
        open_inference: OpenInference,
        cors_origins: Collection[str] = (),
        keys: Keys | None = None,
    ) -> None:
        self.door = Door(ingress, counters, keys)
        self._limits = limits
        self._open_inference = open_inference
        self._infer = partial(InferPlan, limits=limits)
        self._origins = {origin.lower().encode() for origin in cors_origins}  # as browsers send them

    def planner(self, method: bytes, path: str) -> Planner | None:
        """What plans a request; None for a request without a chunk."""
        if method != b"POST":
            return None
        if path == PATH:
            return self._infer
        return inference_planner(self._open_inference, self._limits, path)

    def cross_origin(self, fields: Mapping[bytes, bytes]) -> Sequence[Field]:
        """Headers of a response that let a page of another origin read it."""
        if not self._origins or (origin := fields.get(b"origin")) not in self._origins:
            return ()
        exposed = ", ".join(EXPOSED).encode()
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", exposed),
            (b"vary", b"Origin"),
        ]
