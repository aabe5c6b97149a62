"""The ways in which chunks go to ``hetsyn serve``."""

from __future__ import annotations

from hetsyn_client.loadtest.columns_pool import ColumnsTarget
from hetsyn_client.loadtest.stream_pool import StreamTarget
from hetsyn_client.loadtest.target import HetsynTarget

TARGETS: dict[str, type[HetsynTarget]] = {
    "infer": HetsynTarget,
    "stream": StreamTarget,
    "streams": ColumnsTarget,
}
"""By the name of ``hetsyn bench --transport``."""
