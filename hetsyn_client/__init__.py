"""What talks to a server: ``StreamingClient``, ``hetsyn stream`` and ``hetsyn bench``.

Imports nothing of ``service``, so that it can be used where no server is installed.
"""

from hetsyn_client.client import Reply, StreamingClient
from hetsyn_client.errors import HetsynError, InputError, ServiceProblem, ServiceUnreachable

__all__ = ["HetsynError", "InputError", "Reply", "ServiceProblem", "ServiceUnreachable", "StreamingClient"]
