"""The stream protocol, in any interleaving of what a client sends and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.results import Heard, Outcome, Spikes, UtteranceEnd
from service.contract.endpointing import EndpointingChange
from service.errors import OutOfOrder
from service.live.actions import Action, Close, Opening, Send, Work
from service.live.protocol import LiveStream
from service.problem import Problem

OPENING = Opening("s", "digits", "1", ("one", "two"), 4, 40, 0.01, True, 99.0)
NEW = OPENING._replace(next_seq=0, total_steps=0, resumed=False)
OUT = Problem.of(OutOfOrder("another one", 5))


def stream(opening: Opening = OPENING, **options: Any) -> LiveStream:
    return LiveStream(opening, **options)


def frames(actions: Sequence[Action]) -> list[Any]:
    return [action.frame for action in actions if isinstance(action, Send)]


def applied(total_steps: int, steps: int = 10, **more: Any) -> Outcome:
    outcome: Any = {"steps": steps, "total_steps": total_steps, "label": "one", "probabilities": [0.75, 0.25], **more}
    return cast(Outcome, outcome)


def test_the_first_frame_says_where_to_go_on() -> None:
    assert frames(stream().begin()) == [
        {
            "type": "Begin", "session": "s", "model": "digits", "version": "1",
            "labels": ["one", "two"], "next_seq": 4, "step_ms": 10.0, "max_inflight": 16, "resumed": True,
            "expires_at": 99.0,
        }
    ]  # fmt: skip


def test_a_chunk_is_answered_by_its_result() -> None:
    live = stream()
    assert live.chunk(b"ab") == [Work("chunk", 4, b"ab")]
    assert live.chunk(b"c") == []
    results = live.applied(applied(50))
    assert frames(results) == [
        {
            "type": "Result", "seq": 4, "utterance": 0, "is_final": False, "speech_final": False, "start": 0.4,
            "duration": 0.1, "label": "one", "probabilities": [0.75, 0.25], "total_steps": 50,
        }
    ]  # fmt: skip
    assert results[1:] == [Work("chunk", 5, b"c")]


def test_what_a_client_asks_for_goes_along_and_with_the_end() -> None:
    live = stream()
    live.chunk(b"ab")
    spikes: Spikes = {"first_step": 40, "steps": 1, "layers": []}
    frame = frames(live.applied(applied(41, 1, spikes=spikes, timing=None)))[0]
    assert (frame["spikes"], frame["timing"]) == (spikes, None)
    live.text('{"type": "CloseStream"}')
    end, _ = frames(live.applied(applied(41, 1, spikes=spikes)))
    assert end["spikes"] == spikes
    assert "timing" not in end


def test_the_end_of_the_last_utterance_has_the_spikes_of_the_end() -> None:
    live, heard = stream(), (STARTED, ENDED)
    live.chunk(b"ab")
    live.applied(applied(41, 1))
    live.text('{"type": "CloseStream"}')
    spikes: Spikes = {"first_step": 40, "steps": 1, "layers": []}
    done = applied(41, 1, utterance=3, events=heard, spikes=spikes)
    assert frames(live.applied(done))[:2] == [STARTED, ENDED | {"spikes": spikes}]
    assert "spikes" not in ENDED


def test_acknowledgements_cover_several_chunks() -> None:
    live = stream(interim=False, max_inflight=6)
    for _ in range(5):
        live.chunk(b"a")
    acks = [frames(live.applied(applied(50 + n))) for n in range(5)]
    assert acks == [[], [], [{"type": "Ack", "seq": 6}], [], [{"type": "Ack", "seq": 8}]]


def test_the_end_has_a_final_result_and_a_termination() -> None:
    live = stream()
    live.chunk(b"a")
    assert live.text('{"type": "CloseStream", "last_seq": 4}') == []
    assert not live.reads
    assert live.applied(applied(50))[1:] == [Work("end", 5)]
    actions = live.applied(applied(53, 3))
    assert frames(actions) == [
        {
            "type": "UtteranceEnd", "utterance": 0, "start": 0.0, "end": 0.53, "label": "one",
            "probabilities": [0.75, 0.25], "trigger": "end",
        },
        {"type": "Termination", "chunks": 5, "audio_s": 0.53, "utterances": 1},
    ]  # fmt: skip
    assert actions[-1] == Close(1000, "")
    assert live.chunk(b"a") == live.text("{}") == live.refuse(OUT) == live.applied(applied(1)) == []


@pytest.mark.parametrize("last", [3, 5, -1])
def test_another_last_chunk_than_the_clients_ends_the_stream_and_not_the_session(last: int) -> None:
    live = stream()
    live.chunk(b"a")
    (send, close) = live.text(json.dumps({"type": "CloseStream", "last_seq": last}))
    assert isinstance(send, Send)
    assert send.frame["type"] == "Error"
    assert (send.frame["problem"], send.frame["expected_seq"]) == ("out-of-order", 5)
    assert close == Close(4409, "out-of-order")


STARTED: Heard = {"type": "SpeechStarted", "utterance": 2, "at": 0.4}
ENDED: UtteranceEnd = {
    "type": "UtteranceEnd", "utterance": 2, "start": 0.3, "end": 0.9, "label": "one", "probabilities": [0.5, 0.5],
    "trigger": "silence",
}  # fmt: skip
HEARING = OPENING._replace(has_endpointing=True)


def test_what_was_heard_goes_before_the_acknowledgement() -> None:
    for interim, kind in ((True, "Result"), (False, "Ack")):
        live = stream(HEARING, interim=interim)
        live.chunk(b"a")
        actions = live.applied(applied(50, utterance=3, events=[STARTED, ENDED]))
        assert frames(actions)[:2] == [STARTED, ENDED]
        assert (frames(actions)[2]["type"], frames(actions)[2].get("utterance", 3)) == (kind, 3)


def test_a_client_that_comes_back_hears_the_latest_ends_again() -> None:
    assert [frame["type"] for frame in frames(stream(HEARING._replace(ends=[ENDED])).begin())] == [
        "Begin",
        "UtteranceEnd",
    ]


def test_finalize_is_done_in_its_turn() -> None:
    live = stream(HEARING)
    live.chunk(b"a")
    assert live.text('{"type": "Finalize"}') == []
    assert live.applied(applied(50))[1:] == [Work("finalize", 5)]
    live.chunk(b"b")
    forced: Any = {**ENDED, "trigger": "forced"}
    assert live.finalized([STARTED, ENDED, forced]) == [Send(forced), Work("chunk", 5, b"b")]


def test_settings_go_with_the_next_chunk() -> None:
    live = stream(HEARING)
    assert live.text('{"type": "Configure", "endpointing": {"silence_s": 1, "max_s": 5}}') == []
    assert live.text('{"type": "Configure", "endpointing": {"silence_s": 0.3}}') == []
    assert live.chunk(b"a") == [Work("chunk", 4, b"a", EndpointingChange(silence_s=0.3, max_s=5))]
    live.chunk(b"b")
    assert live.applied(applied(50))[1:] == [Work("chunk", 5, b"b")]


@pytest.mark.parametrize(
    ("settings", "detail"),
    [
        ("null", "endpointing: send one JSON object"),
        ("3", "endpointing: send one JSON object"),
        ("[]", "endpointing: send one JSON object"),
        ('{"silence_s": "1"}', "endpointing.silence_s: send a number"),
        ('{"silence_s": 0.001}', "endpointing.silence_s: send a number of at least 0.05"),
        ('{"silence_s": NaN}', "endpointing.silence_s: send a number"),
        ('{"wait_s": 1}', "endpointing.wait_s is not a setting: send some of threshold, release, onset_s, preroll_s, "
                          "silence_s, no_speech_s, max_s"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings: str, detail: str) -> None:
    live = stream(HEARING)
    (frame,) = frames(live.text('{"type": "Configure", "endpointing": ' + settings + "}"))
    assert (frame["type"], frame["problem"], frame["detail"]) == ("Error", "bad-input", detail)
    assert live.chunk(b"a") == [Work("chunk", 4, b"a")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"type": "Configure", "endpointing": {"silence_s": 1}}', "bad-input"),
        ('{"type": "Configure"}', "bad-input"),
        ('{"type": "Hello"}', "bad-input"),
        ('{"type": "' + "x" * 3000 + '"}', "bad-input"),
        ('{"type": 3}', "bad-input"),
        ('{"type": "CloseStream", "last_seq": "4"}', "bad-input"),
        ('{"type": "CloseStream", "last_seq": true}', "bad-input"),
        ("[]", "bad-input"),
        ("[" * 4000, "bad-input"),
        ("Done", "bad-input"),
        ("", "bad-input"),
    ],
)
def test_a_text_that_means_nothing_leaves_the_stream_open(text: str, problem: str) -> None:
    live = stream()
    (frame,) = frames(live.text(text))
    assert (frame["type"], frame["problem"]) == ("Error", problem)
    assert len(frame["detail"]) < 300
    assert live.reads
    assert live.text('{"type": "KeepAlive"}') == []


def test_a_server_that_ends_finishes_what_has_come() -> None:
    live = stream()
    live.chunk(b"a")
    live.chunk(b"b")
    assert live.drain() == []
    assert not live.reads
    assert live.applied(applied(50))[1:] == [Work("chunk", 5, b"b")]
    actions = live.applied(applied(60))
    assert [frame["type"] for frame in frames(actions)] == ["Result", "Error"]
    assert frames(actions)[1]["retryable"]
    assert actions[-1] == Close(1012, "shutting-down")


def test_bytes_are_bounded_too() -> None:
    live = stream(max_bytes=10)
    live.chunk(b"123456789")
    assert live.reads
    live.chunk(b"0")
    assert not live.reads
    live.applied(applied(50))
    assert live.reads


EVENTS = st.sampled_from(["chunk", "done", "done", "bad", "keep", "end", "drain", "refuse"])


@given(st.lists(EVENTS, max_size=60), st.booleans(), st.integers(1, 5))
def test_any_interleaving_applies_every_chunk_once_and_in_order(
    events: list[str], interim: bool, max_inflight: int
) -> None:
    live = stream(NEW, interim=interim, max_inflight=max_inflight)
    sent: list[bytes] = []
    done: list[bytes] = []
    acknowledged = -1
    current: Work | None = None
    is_closed = False

    def follow(actions: Sequence[Action]) -> None:
        nonlocal current, is_closed, acknowledged
        for action in actions:
            assert not is_closed
            if isinstance(action, Work):
                assert current is None
                current = action
            elif isinstance(action, Close):
                is_closed = True
                current = None
            elif not isinstance(action, Send):
                pytest.fail("this protocol has no binary frames for the client")
            elif action.frame["type"] in ("Result", "Ack"):
                frame: Any = action.frame
                assert acknowledged < frame["seq"] < len(done)
                assert not interim or frame["seq"] == acknowledged + 1
                acknowledged = frame["seq"]

    for number, event in enumerate(events):
        if event in ("chunk", "bad", "keep", "end"):
            if not live.reads:
                continue  # as the shell: nothing is read
            if event == "chunk":
                sent.append(b"%d" % number)
                follow(live.chunk(sent[-1]))
            elif event == "end":
                follow(live.text(json.dumps({"type": "CloseStream", "last_seq": len(sent) - 1})))
            else:
                follow(live.text('{"type": "KeepAlive"}' if event == "keep" else "{}"))
        elif event == "done" and current is not None:
            work, current = current, None
            if work.kind == "chunk":
                assert work.seq == len(done)
                done.append(work.content)
            follow(live.applied(applied(len(done))))
        elif event == "drain":
            follow(live.drain())
        elif event == "refuse":
            follow(live.refuse(OUT))
        assert live.is_closed == is_closed
        assert live.is_busy == (current is not None)
    assert sent[: len(done)] == done
    if current is None and not is_closed:
        assert done == sent
        assert acknowledged == len(done) - 1
