"""The protocol of many sessions on one connection, in any order of what a client sends and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.columns import pack_chunks, pack_sessions
from service.errors import Overloaded
from service.live.actions import Close, Send, SendBinary
from service.live.many import Action, ManyStreams, Offer, RowsWork
from service.problem import Problem

OFFER = Offer("digits", "1", ("one", "two"), 0.01, 7)
OPEN = pack_sessions([1, 2], ["a", "b"])
CHUNKS = pack_chunks([1, 2], 0, 1, bytes(4))
SHUT = Problem.of(Overloaded("later"))


def many(**options: Any) -> ManyStreams:
    return ManyStreams(OFFER, 2, **options)


def kinds(actions: Sequence[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def said(machine: ManyStreams, kind: str) -> Sequence[Action]:
    return machine.text(json.dumps({"type": kind}))


def left(machine: ManyStreams) -> Sequence[Action]:
    machine.leave()
    return []


def test_the_first_frame_says_what_all_sessions_have() -> None:
    (begin,) = many(max_inflight=9).begin()
    assert isinstance(begin, Send)
    assert begin.frame == {
        "type": "Begin", "model": "digits", "version": "1", "labels": ["one", "two"], "step_ms": 10.0,
        "max_inflight": 9, "max_rows": 4096, "max_sessions": 7,
    }  # fmt: skip


def test_frames_are_done_one_after_the_other() -> None:
    machine = many()
    assert kinds(machine.binary(OPEN)) == ["RowsWork"]
    assert machine.binary(CHUNKS) == []
    first, second = machine.done(b"opened", 0)
    assert first == SendBinary(b"opened")
    assert isinstance(second, RowsWork)
    assert machine.done(b"results", 2) == [SendBinary(b"results")]
    actions = said(machine, "CloseStream")
    assert isinstance(actions[0], Send)
    assert actions[0].frame == {"type": "Termination", "chunks": 2}
    assert actions[1] == Close(1000, "")


def test_it_is_not_read_beyond_its_bounds() -> None:
    machine = many(max_inflight=4)
    machine.binary(CHUNKS)
    assert machine.reads
    machine.binary(CHUNKS)
    assert not machine.reads
    machine.done(b"", 2)
    assert machine.reads
    machine = many(max_bytes=len(CHUNKS))
    machine.binary(CHUNKS)
    assert not machine.reads
    assert machine.held_bytes == len(CHUNKS)


@pytest.mark.parametrize("frame", [b"", b"HSR1" + CHUNKS[4:], CHUNKS[:-1], OPEN + b"x"])
def test_bytes_that_are_no_frame_end_it(frame: bytes) -> None:
    machine = many()
    actions = machine.binary(frame)
    assert kinds(actions) == ["Send", "Close"]
    assert actions[1] == Close(4422, "bad-input")
    assert machine.is_closed
    assert machine.binary(CHUNKS) == machine.done(b"", 0) == said(machine, "CloseStream") == machine.drain() == []


@pytest.mark.parametrize("text", ["Done", "{}", "[]", '{"type": 7}', '{"type": "Finalize"}', "[" * 4000])
def test_a_text_that_means_nothing_leaves_it_open(text: str) -> None:
    machine = many()
    assert kinds(machine.text(text)) == ["Send"]
    assert said(machine, "KeepAlive") == []
    assert machine.reads


def test_a_server_that_ends_answers_what_has_come() -> None:
    machine = many()
    machine.binary(CHUNKS)
    machine.binary(CHUNKS)
    assert machine.drain() == []
    assert not machine.reads
    assert kinds(machine.done(b"1", 2)) == ["SendBinary", "RowsWork"]
    actions = machine.done(b"2", 2)
    assert kinds(actions) == ["SendBinary", "Send", "Close"]
    assert actions[2] == Close(1012, "shutting-down")


@given(st.lists(st.sampled_from(["open", "chunks", "done", "bad", "text", "close", "drain", "refuse", "leave"])))
def test_in_any_order_each_frame_gets_one_answer_and_nothing_follows_a_close(events: list[str]) -> None:
    machine, works, answers, closed = many(), 0, 0, False
    for event in events:
        was_busy = machine.is_busy
        acts: dict[str, Callable[[], Sequence[Action]]] = {
            "open": lambda: machine.binary(OPEN),
            "chunks": lambda: machine.binary(CHUNKS),
            "done": lambda: machine.done(b"", 0),
            "bad": lambda: machine.binary(b"x"),
            "text": lambda: machine.text("x"),
            "close": lambda: said(machine, "CloseStream"),
            "drain": machine.drain,
            "refuse": lambda: machine.refuse(SHUT),
            "leave": lambda: left(machine),
        }
        actions = acts[event]()
        assert not (closed and actions)
        works += sum(isinstance(action, RowsWork) for action in actions)
        answers += sum(isinstance(action, SendBinary) for action in actions)
        closed = closed or event == "leave" or any(isinstance(action, Close) for action in actions)
        assert machine.is_closed == closed
        assert works - answers in (0, 1) or closed
        assert not (was_busy and event in ("open", "chunks") and any(isinstance(one, RowsWork) for one in actions))
    assert not (closed and machine.reads)
