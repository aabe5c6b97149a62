"""Runs a model in this process, for ``hetsyn run``, by a server's engine, sessions and protocol of ``WS /stream``.

So its frames are those that a server sends, bit for bit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hetsyn_client.results import Outcome as ChunkOutcome
from hetsyn_client.terminal.backend import Answers, Frame
from hetsyn_client.terminal.source import Source
from service.admission.budget import Admission, Budget, Permit
from service.contract.artifact import Artifact
from service.contract.describe import summary
from service.engine.engine import Engine
from service.engine.work import Outcome
from service.engine.work import Work as EngineWork
from service.live.actions import Action, Opening, Send, Work
from service.live.protocol import LiveStream
from service.live.query import StreamQuery, parse_stream_query
from service.models.catalog import CatalogSnapshot, ModelCatalog
from service.models.model import Model
from service.observe.counters import Counters
from service.observe.watch import Watch
from service.runtime.onnx import check_runtime, load_graph
from service.session.advance import Advance
from service.session.session import Answer, more_of
from service.settings import Limits
from service.wire.schema import InferRequest

SESSION = "here"  # id of the only session


class InProcess:
    """A model as a backend of ``hetsyn_client.terminal``.

    Raises:
        ArtifactError: a graph does not load.
        RuntimeUnavailable: there is no ONNX Runtime.
    """

    def __init__(self, artifact: Artifact) -> None:
        check_runtime()
        self._model = Model(artifact, load_graph)
        self._engine = Engine(Limits.max_chunk_steps)
        catalog = ModelCatalog(artifact.folder, is_empty=True)
        catalog.publish(CatalogSnapshot({self._model.name: {self._model.version: self._model}}, self._model.name))
        self._counters = Counters()
        self._advance = Advance(self._engine, self._run, catalog, self._counters)

    def describe(self) -> dict[str, Any]:
        return summary(self._model.manifest)

    @contextmanager
    def open(self, source: Source, *, endpointing: bool) -> Iterator[Answers]:
        query = {
            "session": SESSION, "encoding": source.encoding,
            "endpointing": "on" if endpointing else "off", "sample_rate": source.rate_hz, "channels": source.channels,
        }  # fmt: skip
        text = [(name, str(value)) for name, value in query.items() if value is not None]
        with asyncio.Runner() as runner:
            yield _InProcessAnswers(self._advance, parse_stream_query(text), runner, endpointing=endpointing)

    async def _run(self, model: Model, work: EngineWork, client: str, due_s: float) -> Outcome:  # noqa: ARG002
        """Compute one chunk at once, like ``Batcher.run``."""
        return self._engine.run(model, [work])[0]


class _InProcessAnswers:
    """A session as ``Answers``: each chunk is answered before ``send_bytes`` returns.

    Args:
        runner: of the coroutines of ``advance``, which wait for nothing.
    """

    def __init__(self, advance: Advance, query: StreamQuery, runner: asyncio.Runner, *, endpointing: bool) -> None:
        self._advance = advance
        self._query = query
        self._runner = runner
        self._permit = Permit(Admission(Budget(Limits())), "")
        self._session = advance.begin(query.envelope, 0.0)
        manifest = self._session.model.manifest
        opening = Opening(
            SESSION, manifest.name, manifest.version, manifest.labels, 0, 0,
            manifest.input.step_s, False, None, endpointing,
        )  # fmt: skip
        self._protocol = LiveStream(opening, max_inflight=1)
        (self._begin,) = self._follow(self._protocol.begin())
        self._late: list[Frame] = []  # frames of the end

    @property
    def begin(self) -> Frame:
        return self._begin

    @property
    def waits(self) -> bool:
        return False

    def send_bytes(self, content: bytes) -> list[Frame]:
        return self._follow(self._protocol.chunk(content))

    def receive(self, timeout_s: float) -> list[Frame]:  # noqa: ARG002
        return []

    def wait(self) -> list[Frame]:
        late, self._late = self._late, []
        return late

    def end(self) -> Frame:
        frames = self._follow(self._protocol.text(json.dumps({"type": "CloseStream"})))
        self._late = [frame for frame in frames if frame["type"] != "Termination"]
        return self._late[-1] if self._late else {}

    def _follow(self, actions: Sequence[Action]) -> list[Frame]:
        """Carry out the protocol's actions, and return the frames that it sends."""
        frames: list[Frame] = []
        waiting = list(actions)
        while waiting:
            action = waiting.pop(0)
            if isinstance(action, Send):
                frames.append(dict(action.frame))
            elif isinstance(action, Work):
                waiting += self._protocol.applied(self._applied(action))
        return frames

    def _applied(self, work: Work) -> ChunkOutcome:
        """Apply a chunk or the end."""
        request: InferRequest
        if work.kind == "end":
            request = self._query.end(work.seq)
        else:
            request = self._query.request(work.seq, work.endpointing, *self._query.decoded(work.content))
        planned = self._advance.plan(self._session, work.seq, request)
        applying = self._advance.apply(SESSION, planned, self._permit, lambda: 0.0)
        advanced = self._runner.run(applying)
        self._session = advanced.session
        more = more_of(request.envelope, advanced.spikes)
        return Answer(SESSION, advanced.session, Watch(0.0), more).reply
