"""The ways in which chunks go to ``hetsyn serve``."""

from __future__ import annotations

from importlib import import_module

from hetsyn_client.loadtest.columns_pool import ColumnsTarget
from hetsyn_client.loadtest.open_inference import OpenInferenceTarget
from hetsyn_client.loadtest.stream_pool import StreamTarget
from hetsyn_client.loadtest.target import HetsynTarget

TARGETS: dict[str, type[HetsynTarget]] = {
    "infer": HetsynTarget,
    "stream": StreamTarget,
    "streams": ColumnsTarget,
    "v2": OpenInferenceTarget,
}
"""By the name of ``hetsyn bench --transport``, except those that need an extra."""


def target_type(transport: str) -> type[HetsynTarget]:
    """What makes the requests of a transport."""
    if transport == "grpc":
        made: type[HetsynTarget] = import_module("hetsyn_client.loadtest.grpc_pool").GrpcTarget
        return made
    return TARGETS[transport]
