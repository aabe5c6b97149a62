"""Messages of gRPC that cost more than their length says, and calls that send none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tests.long.hostile.case import Case, Figure, Skipped, at_most, exactly
from tests.long.hostile.stage import AttackedServer, Stage
from tests.long.hostile.wire import HOST, Prober
from tests.support.servers.server_process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "/inference.GRPCInferenceService"
MISSING = "no tritonclient: pip install -e '.[cpu,grpc]' in the checkout of hetsyn"
LONGEST = 1_040_000  # bytes, below the limit of a message
# empty fields of ``ModelInferRequest``, which go into a message as often as it has room
PARTS: Mapping[str, bytes] = {"inputs": b"\x2a\x00", "outputs": b"\x32\x00", "raw": b"\x3a\x00"}
SILENT_CALLS = 300  # more than there are at a time
TYPED_STALL_MS = 60


class GrpcStage:
    """A server with a gRPC port, and connections to it.

    Raises:
        Skipped: this environment has no gRPC.
    """

    def __init__(self, stage: Stage) -> None:
        if find_spec("tritonclient") is None or find_spec("grpc") is None:
            raise Skipped(MISSING)
        self._port = free_port()
        self.server: AttackedServer = stage.server("--grpc-port", str(self._port))

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A connection of its own."""
        import grpc

        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"{HOST}:{self._port}", options) as channel:
            yield channel

    def outcome(self, method: str, content: bytes) -> str:
        """The code of a call."""
        import grpc

        with self.channel() as channel:
            try:
                channel.unary_unary(f"{SERVICE}/{method}")(content, timeout=60.0)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"


def typed(length: int) -> bytes:
    """A message whose typed contents are so many spikes."""
    from tritonclient.grpc import service_pb2 as pb

    contents = pb.InferTensorContents(bool_contents=[False] * length)
    tensor = pb.ModelInferRequest.InferInputTensor(name="spikes", datatype="BOOL", shape=[length, 1], contents=contents)
    message: bytes = pb.ModelInferRequest(model_name="speech-digits", inputs=[tensor]).SerializeToString()
    return message


def attack_parts(stage: Stage) -> Mapping[str, Figure]:
    attacked = GrpcStage(stage)
    server = attacked.server
    figures: dict[str, Figure] = {"peak_mib": 0.0, "cpu_s": 0.0}
    codes = []
    for part in PARTS.values():
        server.reset_peak()
        base_mib, base_s = server.rss_mib(), server.cpu_s()
        codes.append(attacked.outcome("ModelInfer", part * (LONGEST // len(part))))
        figures["peak_mib"] = max(float(figures["peak_mib"]), server.peak_mib() - base_mib)
        figures["cpu_s"] = max(float(figures["cpu_s"]), server.cpu_s() - base_s)
    return {**figures, "codes": ",".join(sorted(set(codes)))}


def attack_typed(stage: Stage) -> Mapping[str, Figure]:
    attacked = GrpcStage(stage)
    content, stalls = typed(LONGEST - 1_000), []
    for _ in range(3):  # the quietest counts: other programs only ever make a server slower
        with Prober(attacked.server.port, attacked.server.process.pid) as prober:
            code = attacked.outcome("ModelInfer", content)
        stalls.append(prober.longest_ms)
    return {"stall_ms": min(stalls), "code": code}


def attack_silence(stage: Stage) -> Mapping[str, Figure]:
    """One connection opens calls that need no key, and sends nothing. Another address is a client of its own."""
    import threading

    attacked = GrpcStage(stage)
    released = threading.Event()

    def nothing() -> Iterator[bytes]:
        released.wait()
        yield from ()

    with ExitStack() as stack:
        channel = stack.enter_context(attacked.channel())
        stack.callback(released.set)
        calls = [channel.stream_unary(f"{SERVICE}/ServerLive").future(nothing()) for _ in range(SILENT_CALLS)]
        began_s = time.monotonic()
        codes = [error.code().name for call in calls if (error := call.exception(timeout=60.0)) is not None]
        silent_s = time.monotonic() - began_s
        return {
            "silent_s": silent_s, "refused": codes.count("UNAVAILABLE"),
            "late": codes.count("DEADLINE_EXCEEDED"), "afterwards": attacked.outcome("ServerLive", b""),
        }  # fmt: skip


CASES = (
    Case(
        "grpc-many-parts",
        "A message of 1 MB has half a million empty tensors, and each becomes a value on the event loop.",
        attack_parts,
        {"peak_mib": at_most(256), "cpu_s": at_most(1), "codes": exactly("INVALID_ARGUMENT")},
    ),
    Case(
        "grpc-typed-contents",
        "A million typed spikes are decoded on the event loop.",
        attack_typed,
        {"stall_ms": at_most(TYPED_STALL_MS)},
    ),
    Case(
        "grpc-silent-calls",
        "Calls that need no key and send nothing take all places for half a minute.",
        attack_silence,
        {"silent_s": at_most(10), "afterwards": exactly("OK")},
    ),
)
