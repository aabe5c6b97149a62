"""What talks to a server: ``StreamingClient``, ``LiveStream``, ``LiveStreams``, ``hetsyn stream`` and ``hetsyn bench``.

It imports nothing of ``service``, so that it works beside a folder of the user's own with that name.
"""

from hetsyn_client.client import ChunkOptions, Reply, Session, StreamingClient
from hetsyn_client.errors import HetsynError, InputError, NotFound, ServiceProblem, ServiceUnreachable
from hetsyn_client.live import LiveStream
from hetsyn_client.many import LiveStreams

__all__ = [
    "ChunkOptions",
    "HetsynError",
    "InputError",
    "LiveStream",
    "LiveStreams",
    "NotFound",
    "Reply",
    "ServiceProblem",
    "ServiceUnreachable",
    "Session",
    "StreamingClient",
]
