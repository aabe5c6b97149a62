"""Which requests have a chunk (``api.exchange``)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from service.api.exchange import Door, Planner
from service.api.infer import PATH, InferPlan
from service.api.open_inference import inference_planner
from service.ingress import Ingress
from service.keys.keys import Keys
from service.observe.counters import Counters
from service.open_inference.service import OpenInference
from service.settings import Limits


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
        self.door = Door(ingress, counters, keys, cors_origins)
        self._limits = limits
        self._open_inference = open_inference
        self._infer = partial(InferPlan, limits=limits)

    def planner(self, method: bytes, path: str) -> Planner | None:
        """What plans a request; None for a request without a chunk."""
        if method != b"POST":
            return None
        if path == PATH:
            return self._infer
        return inference_planner(self._open_inference, self._limits, path)
