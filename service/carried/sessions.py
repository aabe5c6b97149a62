"""Sessions that their clients carry as tokens. The server stores nothing of them.

Two chunks with the same token continue one session in two ways, and both get a reply. So there is no lock and no entry.
"""

from __future__ import annotations

import secrets
import time

from service.admission.budget import Permit
from service.carried.carry_keys import HOW_TO
from service.carried.token import Tokens
from service.clock import Clock
from service.errors import CarryUnavailable, StateMismatch
from service.keys.ids import client_id, inner_id
from service.observe.context import SESSION
from service.observe.counters import Counters
from service.observe.watch import Watch
from service.session.advance import Advance
from service.session.protocol import NO_EXPIRY, Replay, decide, unknown
from service.session.session import Answer, more_of
from service.wire.schema import InferRequest


class CarriedSessions:
    """Applies chunks to sessions that come with them. Used from one event loop."""

    def __init__(
        self,
        tokens: Tokens | None,
        advance: Advance,
        counters: Counters,
        wall: Clock = time.time,
    ) -> None:
        self._tokens = tokens
        self._advance = advance
        self._counters = counters
        self._wall = wall

    async def infer(self, request: InferRequest, permit: Permit) -> Answer:
        """Apply a chunk to the session that came with it, and return the session with the reply.

        The caller holds the permit. After an error the client's token stays valid.
        """
        if self._tokens is None:
            raise CarryUnavailable(f"the server has no keys for carried sessions: {HOW_TO}")
        return await self._infer(self._tokens, request, permit)

    async def _infer(self, tokens: Tokens, request: InferRequest, permit: Permit) -> Answer:
        envelope, now_s = request.envelope, self._wall()
        if request.token is None:
            session_id = request.session or inner_id(request.owner, secrets.token_urlsafe(16))
            if envelope.seq:
                raise unknown(session_id)
            session, seq = self._advance.begin(envelope, now_s), 0
        else:
            session_id, session = tokens.open(request.token, request.owner)
            if request.session is not None and request.session != session_id:
                raise StateMismatch(
                    f"the token belongs to session {client_id(session_id)!r}, not {envelope.session!r}: "
                    "name that one, or leave it out"
                )
            session.check_model(envelope)
            # opening the token has checked its lifetime
            decision = decide(session_id, session.known, envelope.seq, request.digest, now_s, NO_EXPIRY)
            if isinstance(decision, Replay):
                self._counters.chunks_replayed += 1
                token = tokens.seal(session_id, session)
                return Answer(client_id(session_id), session, Watch(permit.came_s), more_of(envelope), True, token)
            seq = decision.seq
        SESSION.set(session_id)
        step = self._advance.plan(session, seq, request)
        after, spikes, ran = await self._advance.apply(session_id, step, permit, self._wall)
        self._advance.count([session], [after])
        begun_s = time.perf_counter()
        sealed = tokens.seal(session_id, after) if after.stream else None
        watch = Watch(permit.came_s, ran, time.perf_counter() - begun_s)  # it is stored at the client
        timings, model = self._counters.timings, session.model.name
        ended_s = timings.applied(permit.transport, model, [watch])
        if timings.tracer is not None:
            timings.tracer.applied(permit.transport, model, watch, ended_s)
        return Answer(client_id(session_id), after, watch, more_of(envelope, spikes, watch), True, sealed)
