"""The doors for a chunk of a session: each sends it, and returns the members of the reply that the oracle judges."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2 as pb

from hetsyn_client.access import access_of
from hetsyn_client.errors import ServiceProblem, ServiceUnreachable
from hetsyn_client.protocol.calls import Calls, checked
from hetsyn_client.protocol.live_steps import LiveOptions, LiveSteps
from hetsyn_client.protocol.steps import Request
from hetsyn_client.sources.bodies import events_body
from service.simulated import CHANNELS, MODEL, OUTPUTS
from tests.simulation.clients.base import TIMEOUT_S, URL, packed
from tests.simulation.oracle import Content
from tests.simulation.transport import SimulatedTransport

if TYPE_CHECKING:
    from tests.simulation.clients.wild import Wild

Door = Callable[[SimulatedTransport, Content, int | None, bool], Any]
"""Sends a chunk with its number, or with none; and whether the session begins with it."""


class Doors:
    """The doors to the session that a client has now.

    Attributes:
        all: those that the client uses.
    """

    def __init__(self, client: Wild) -> None:
        self._client = client
        self._streams: list[LiveSteps] = []  # all of one session: a new one takes it from the others
        doors: list[Door] = [self.infer, self.v2, self.grpc, self.stream]
        self.all = client.draw.sample(doors, client.draw.choice((1, 1, 2, 4)))

    async def close(self) -> None:
        for stream in self._streams:
            await self._client.transport.run(stream.close())

    async def infer(self, transport: SimulatedTransport, content: Content, seq: int | None, begin: bool) -> Any:
        options: Any = {
            "session": self._client.session,
            "seq": seq,
            "end": content.end,
            "begin": begin,
            "version": self._client.version,
        }
        return dict(await transport.run(Calls(URL, 0).infer(events_body(*packed(content)), options)))

    async def v2(self, transport: SimulatedTransport, content: Content, seq: int | None, begin: bool) -> Any:
        spikes = content.spikes
        data = [unit in units for units in spikes for unit in range(CHANNELS)]
        tensor = {"name": "spikes", "datatype": "BOOL", "shape": [len(spikes), CHANNELS], "data": data}
        numbered = {} if seq is None else {"seq": seq}
        parameters = {
            "sequence_id": self._client.session,
            "sequence_start": begin,
            "sequence_end": content.end,
            **numbered,
        }
        body = json.dumps({"parameters": parameters, "inputs": [tensor]}).encode()
        version = "" if self._client.version is None else f"/versions/{self._client.version}"
        path = f"/v2/models/{MODEL}{version}/infer"
        response = checked(await transport.exchange(Request("POST", path, body, "application/json")))
        reply = json.loads(response.content)
        outputs = {output["name"]: output["data"] for output in reply["outputs"]}
        return {
            "seq": reply["parameters"]["seq"],
            "total_steps": outputs["total_steps"][0],
            "probabilities": outputs["probabilities"],
        }

    async def stream(self, transport: SimulatedTransport, content: Content, seq: int | None, begin: bool) -> Any:
        """Send a chunk over an open stream, or over a new one beside those."""
        if seq is None or content.end:
            return await self.infer(transport, content, seq, begin)
        run, began_s = self._client.transport.run, self._client.process.time()
        ready = [stream for stream in self._streams if (stream.id, stream.seq) == (self._client.session, seq)]
        if ready and self._client.draw.random() < 0.7:
            stream = self._client.draw.choice(ready)
            self._streams.remove(stream)
        else:
            options = LiveOptions(session=self._client.session, timeout_s=TIMEOUT_S, repeats=2, patience_s=TIMEOUT_S)
            stream = LiveSteps(access_of(URL, {}), options)
        try:
            await run(stream.begin_once())
            if stream.seq != seq:
                raise ServiceProblem(409, "as /infer would say", stream.seq, None, "out-of-order")
            frames = await run(stream.send(stream.events(*packed(content)))) + await run(stream.wait())
            results = [frame for frame in frames if frame["type"] == "Result"]
        except BaseException as error:
            await run(stream.close())
            if isinstance(error, ServiceProblem) and error.problem is None:  # chunks were sent elsewhere
                raise ServiceProblem(409, "as /infer would say", error.expected_seq, None, "out-of-order") from error
            if isinstance(error, ServiceUnreachable) and self._client.simulation.may_refuse(
                began_s, None, is_patient=False
            ):
                return None  # it was refused again and again
            raise
        self._streams.append(stream)
        for old in self._streams[:-3]:
            await run(old.close())
        del self._streams[:-3]
        return results[-1] if results else None  # it may be acknowledged as the stream is opened again

    async def grpc(self, transport: SimulatedTransport, content: Content, seq: int | None, begin: bool) -> Any:
        message = pb.ModelInferRequest(model_name=MODEL)
        message.parameters["sequence_id"].string_param = self._client.session
        if seq is not None:
            message.parameters["seq"].int64_param = seq
        message.parameters["sequence_start"].bool_param = begin
        message.parameters["sequence_end"].bool_param = content.end
        message.inputs.add(name="spikes", datatype="BOOL", shape=[len(content.spikes), CHANNELS])
        message.raw_input_contents.append(bytes(unit in units for units in content.spikes for unit in range(CHANNELS)))
        reply = await self._client.simulation.call(self._client, transport.host(), "ModelInfer", message, TIMEOUT_S)
        outputs = {
            output.name: content for output, content in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
        probabilities = memoryview(outputs["probabilities"]).cast("f").tolist()
        assert len(probabilities) == OUTPUTS
        return {
            "seq": reply.parameters["seq"].uint64_param or reply.parameters["seq"].int64_param,
            "total_steps": int.from_bytes(outputs["total_steps"], "little"),
            "probabilities": probabilities,
        }
