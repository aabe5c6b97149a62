from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.errors import ConflictingChunk, NotFound, OutOfOrder, SessionEnded
from service.protocol import Apply, Progress, Replay, admit, applied, opening


def after(*chunks: bytes, end: bool = False) -> Progress[str]:
    """Progress after chunks of one step; the reply to each is its number."""
    progress: Progress[str] = Progress()
    for seq, digest in enumerate(chunks):
        is_end = end and seq == len(chunks) - 1
        progress = applied(progress, seq=seq, digest=digest, steps=1, end=is_end, reply=str(seq))
    return progress


@pytest.mark.parametrize("seq", [None, 0])
def test_a_session_opens_with_its_first_chunk(seq: int | None) -> None:
    progress: Progress[str] = opening("s", seq)
    assert admit(progress, seq, b"a") == Apply(0)


def test_a_later_chunk_opens_nothing() -> None:
    with pytest.raises(NotFound, match="begin it with seq 0"):
        opening("s", 3)


@pytest.mark.parametrize("seq", [None, 2])
def test_the_next_chunk_is_applied(seq: int | None) -> None:
    assert admit(after(b"a", b"b"), seq, b"c") == Apply(2)


@pytest.mark.parametrize("end", [False, True])
def test_the_last_chunk_again_is_replayed(end: bool) -> None:
    assert admit(after(b"a", b"b", end=end), 1, b"b") == Replay("1")


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


@pytest.mark.parametrize("seq", [None, 0, 2, 3])
def test_nothing_comes_after_the_end(seq: int | None) -> None:
    with pytest.raises(SessionEnded):
        admit(after(b"a", b"b", end=True), seq, b"a")


def test_the_same_content_may_come_again_as_the_next_chunk() -> None:
    assert admit(after(b"a"), 1, b"a") == Apply(1)
    assert admit(after(b"a"), None, b"a") == Apply(1)


def test_a_chunk_is_applied_once() -> None:
    progress = after(b"a")
    done = applied(progress, seq=1, digest=b"b", steps=4, end=False, reply="1")
    assert (done.expected_seq, done.total_steps) == (2, 5)
    assert progress == after(b"a")
    with pytest.raises(OutOfOrder):
        applied(done, seq=1, digest=b"b", steps=4, end=False, reply="1")


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
