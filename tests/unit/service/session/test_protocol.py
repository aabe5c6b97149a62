from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.errors import ConflictingChunk, HetsynError, NotFound, OutOfOrder, SessionEnded, SessionExists
from service.session.protocol import (
    Apply,
    Known,
    Lifetimes,
    Progress,
    Reload,
    Replay,
    admit,
    applied,
    check_delete,
    check_import,
    decide,
    keep_s,
    status,
)

LIFETIMES = Lifetimes(idle_s=60, age_s=300, ended_keep_s=10)


def after(*chunks: bytes, end: bool = False) -> Progress[str]:
    """Progress after chunks of one step; the reply to each is its number."""
    progress: Progress[str] = Progress()
    for seq, digest in enumerate(chunks):
        is_end = end and seq == len(chunks) - 1
        progress = applied(progress, seq=seq, digest=digest, steps=1, end=is_end, reply=str(seq))
    return progress


@pytest.mark.parametrize("end", [False, True])
def test_the_last_number_with_other_content_conflicts(end: bool) -> None:
    with pytest.raises(ConflictingChunk, match="chunk 1 was applied with other content") as caught:
        admit(after(b"a", b"b", end=end), 1, b"x")
    assert caught.value.expected_seq == 2


@pytest.mark.parametrize(("seq", "sentence"), [(0, "long ago"), (3, "leaves a gap"), (99, "leaves a gap")])
def test_other_numbers_are_out_of_order(seq: int, sentence: str) -> None:
    with pytest.raises(OutOfOrder, match=f"{sentence}.*seq 2 next") as caught:
        admit(after(b"a", b"b"), seq, b"a")
    assert caught.value.expected_seq == 2


def test_a_chunk_is_applied_once() -> None:
    progress = after(b"a")
    done = applied(progress, seq=1, digest=b"b", steps=4, end=False, reply="1")
    assert (done.expected_seq, done.total_steps) == (2, 5)
    assert progress == after(b"a")
    with pytest.raises(OutOfOrder):
        applied(done, seq=1, digest=b"b", steps=4, end=False, reply="1")


def known(*chunks: bytes, end: bool = False, created_s: float = 0.0, used_s: float = 0.0) -> Known[str]:
    return Known(after(*chunks, end=end), created_s, used_s)


@pytest.mark.parametrize(
    ("session", "now_s", "expected"),
    [
        (None, 0, "none"),
        (known(b"a"), 0, "open"),
        (known(b"a"), 59, "open"),
        (known(b"a"), 60, "none"),
        (known(b"a", used_s=290), 299, "open"),
        (known(b"a", used_s=290), 300, "none"),  # of age
        (known(b"a", end=True), 9, "ended"),
        (known(b"a", end=True), 10, "none"),
        (known(b"a", used_s=100), 50, "open"),  # another replica's clock is ahead
    ],
)
def test_time_moves_a_session(session: Known[str] | None, now_s: float, expected: str) -> None:
    assert status(session, now_s, LIFETIMES) == expected
    if session is not None:
        over_s = session.used_s + keep_s(session, LIFETIMES)
        assert status(session, over_s, LIFETIMES) == "none"
        if not session.progress.ended:  # the server that had it has time to count and delete it
            assert status(session, over_s - 200, LIFETIMES) == "none"


def outcome(session: Known[str] | None, seq: int | None, digest: bytes, now_s: float = 1.0, **flags: bool) -> object:
    try:
        return decide("s", session, seq, digest, now_s, LIFETIMES, **flags)
    except HetsynError as error:
        return type(error)


OPEN, ENDED = known(b"a", b"b"), known(b"a", b"b", end=True)


@pytest.mark.parametrize(
    ("session", "seq", "digest", "now_s", "expected"),
    [
        (None, None, b"x", 1, NotFound),
        (None, 0, b"x", 1, Apply(0)),
        (None, 1, b"x", 1, NotFound),
        (OPEN, None, b"x", 1, Apply(2)),
        (OPEN, 2, b"x", 1, Apply(2)),
        (OPEN, 1, b"b", 1, Replay("1")),
        (OPEN, 1, b"x", 1, ConflictingChunk),
        (OPEN, 0, b"a", 1, OutOfOrder),
        (OPEN, 3, b"x", 1, OutOfOrder),
        (ENDED, 1, b"b", 1, Replay("1")),
        (ENDED, 1, b"x", 1, ConflictingChunk),
        (ENDED, 2, b"x", 1, SessionEnded),
        (ENDED, None, b"x", 1, SessionEnded),
        (ENDED, 0, b"x", 10, Apply(0)),  # forgotten: the id is free
        (OPEN, 2, b"x", 60, NotFound),
        (OPEN, None, b"x", 60, NotFound),
        (OPEN, 0, b"a", 60, Apply(0)),
    ],
)
def test_the_table(session: Known[str] | None, seq: int | None, digest: bytes, now_s: float, expected: object) -> None:
    assert outcome(session, seq, digest, now_s) == expected
    # what a replica only remembers decides nothing but what a commit will confirm
    remembered = expected if isinstance(expected, Apply) else Reload()
    assert outcome(session, seq, digest, now_s, authoritative=False) == remembered


@pytest.mark.parametrize(
    ("session", "now_s", "on_import", "on_delete"),
    [
        (None, 1, None, NotFound),
        (OPEN, 1, SessionExists, None),
        (ENDED, 1, SessionExists, None),
        (ENDED, 10, None, NotFound),
        (OPEN, 60, None, NotFound),
    ],
)
def test_import_and_delete(
    session: Known[str] | None,
    now_s: float,
    on_import: type[HetsynError] | None,
    on_delete: type[HetsynError] | None,
) -> None:
    check_import("s", session, now_s, LIFETIMES, replace=True)
    if on_import is None:
        check_import("s", session, now_s, LIFETIMES, replace=False)
    else:
        with pytest.raises(on_import):
            check_import("s", session, now_s, LIFETIMES, replace=False)
    if on_delete is None:
        check_delete("s", session, now_s, LIFETIMES)
    else:
        with pytest.raises(on_delete):
            check_delete("s", session, now_s, LIFETIMES)


class AtMostOnce(RuleBasedStateMachine):
    """Clients that number, repeat, skip and forget, against a list of what was applied."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: Progress[tuple[int, bytes]] = Progress()
        self.log: list[tuple[bytes, bool]] = []

    @rule(
        seq=st.none() | st.integers(0, 6), content=st.sampled_from([b"a", b"b"]), end=st.booleans(), fails=st.booleans()
    )
    def send(self, seq: int | None, content: bytes, end: bool, fails: bool) -> None:
        digest = content + bytes([end])
        last = len(self.log) - 1
        ended = bool(self.log) and self.log[-1][1]
        before = self.progress
        try:
            decision = admit(self.progress, seq, digest)
        except ConflictingChunk:
            assert seq == last
            assert self.log[last] != (content, end)
        except SessionEnded:
            assert ended
            assert seq != last
        except OutOfOrder:
            assert not ended
            assert seq not in (None, last, len(self.log))
        else:
            if isinstance(decision, Replay):
                assert seq == last
                assert decision.reply == (last, content)
                assert self.log[last] == (content, end)
            else:
                assert not ended
                assert decision.seq == len(self.log)
                assert seq in (None, len(self.log))
                if not fails:
                    reply = (decision.seq, content)
                    self.progress = applied(
                        self.progress, seq=decision.seq, digest=digest, steps=2, end=end, reply=reply
                    )
                    self.log.append((content, end))
                    return
        assert self.progress is before

    @invariant()
    def progress_is_what_was_applied(self) -> None:
        assert self.progress.expected_seq == len(self.log)
        assert self.progress.total_steps == 2 * len(self.log)


TestAtMostOnce = AtMostOnce.TestCase
