"""The doors at which one chunk gets one answer: ``/infer``, and carried sessions. ``triton`` has two more.

``read`` makes every answer one of ``/infer``, so that the tally compares all doors with the same undisturbed server.
"""

from __future__ import annotations

from urllib.parse import urlencode

from hetsyn_client.carried_frame import MEDIA_TYPE, pack_frame, unpack_frame
from hetsyn_client.loadtest.connections import Response
from tests.long.faults.lines import HttpLine, Line
from tests.long.faults.tally import ClientSession
from tests.support.servers.target import HetsynTarget, post


class Door:
    """``POST /infer`` of a replica.

    Args:
        target: makes the requests.
    """

    target_type = HetsynTarget
    carries = False  # the client has the whole session, and may repeat any chunk
    needs_grpc = False

    def __init__(self, target: HetsynTarget) -> None:
        self._target = target
        self.address = target.address

    def line(self) -> Line:
        return HttpLine(self.address)

    def request(self, stream: ClientSession, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool) -> bytes:
        return self._target.request(stream.session, seq, chunk, is_last=is_last, is_numbered=is_numbered)

    def read(self, stream: ClientSession, response: Response) -> bytes:  # noqa: ARG002
        """The body of an answer, as ``/infer`` has it."""
        return response.body

    @staticmethod
    def reference(reply: bytes) -> bytes:
        """What ``read`` makes of an answer, from the undisturbed server's."""
        return reply


class CarriedDoor(Door):
    """The same, with sessions that their clients carry.

    An answer is lost or repeated without harm: the same token with the same chunk gets the same answer. After the end
    there is no token, so only the last chunk can be sent again, with the token before it.
    """

    carries = True

    def request(self, stream: ClientSession, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool) -> bytes:
        target = self._target
        fields = {"session": stream.session, "end": "true" if is_last else "false"}
        fields |= {"seq": str(seq)} if is_numbered else {}
        if not stream.token:
            fields |= {"carry": "true", "model": target.model, "version": target.version}
        frame = pack_frame(stream.token, target.content_type, chunk)
        return post(target.address, f"/infer?{urlencode(fields)}", MEDIA_TYPE, frame)

    def read(self, stream: ClientSession, response: Response) -> bytes:
        if response.status != 200:
            return response.body
        frame = unpack_frame(response.body)
        stream.token = frame.token or stream.token
        return frame.body
