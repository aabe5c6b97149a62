"""Lines of log as JSON and as text."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from logging.config import dictConfig
from typing import Any

import pytest

from service.keys.credential import Token
from service.keys.ids import inner_id
from service.observe.context import SESSION, RequestContext
from service.observe.drops import Drop, DropLog
from service.observe.logs import LOGGERS, LogFormat, log_config

log = logging.getLogger("hetsyn.test")


Output = pytest.CaptureFixture[str]


@pytest.fixture
def output(capsys: Output) -> Iterator[Output]:
    """What a server writes; the loggers are put back afterwards."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(one.handlers[:], one.level, one.propagate, one.disabled) for one in loggers]
    yield capsys
    for one, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
        one.handlers, one.propagate, one.disabled = handlers, propagate, disabled
        one.setLevel(level)


def lines(output: Output) -> list[dict[str, Any]]:
    return [json.loads(line) for text in output.readouterr() for line in text.splitlines()]


def test_a_line_names_the_request_the_session_and_its_key(output: Output) -> None:
    dictConfig(log_config("info", "json"))

    def work() -> None:
        SESSION.set(inner_id("mobile", "a"))
        log.warning("%d chunks\nof a session", 2, extra={"model": "digits"})

    RequestContext([("x-request-id", "7")]).context().run(work)
    (line,) = lines(output)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning", "logger": "hetsyn.test", "message": "2 chunks\nof a session",
        "key": "mobile", "request_id": "7", "session": "a", "model": "digits",
    }  # fmt: skip


def test_an_error_is_one_line(output: Output) -> None:
    dictConfig(log_config("info", "json"))
    try:
        raise ValueError("why")
    except ValueError as error:
        log.error("it failed", exc_info=error)
    (line,) = lines(output)
    assert "ValueError: why" in line["exception"]
    assert "request_id" not in line


def test_lines_of_uvicorn_are_lines_too(output: Output) -> None:
    dictConfig(log_config("debug", "json"))
    access = logging.getLogger("uvicorn.access")
    access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "POST", "/infer", "1.1", 200)
    logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "in colour"})
    first, second = lines(output)  # standard output, then standard error
    assert first["message"] == '127.0.0.1:1 - "POST /infer HTTP/1.1" 200'
    assert (second["message"], second.get("color_message")) == ("Started", None)


def test_text_that_belongs_to_nothing_says_so_much(output: Output) -> None:
    dictConfig(log_config("info"))
    log.info("hello")
    assert output.readouterr().err == "INFO:     hello\n"


@pytest.mark.parametrize(
    ("request_id", "session", "expected"),
    [
        ("7", inner_id("mobile", "a"), "[request 7, session a, key mobile]"),
        ("7", "a", "[request 7, session a]"),
        ("7", "", "[request 7]"),
        ("7, key b] \x1b[2m", "\N{CYRILLIC SMALL LETTER A}", r"[request '7, key b] \x1b[2m', session '\u0430']"),
    ],
)
def test_text_names_the_request_and_the_session(output: Output, request_id: str, session: str, expected: str) -> None:
    dictConfig(log_config("debug"))

    def work() -> None:
        SESSION.set(session)
        log.warning("hello")
        logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "", "GET", "/models", "1.1", 404)
        try:
            raise ValueError("why")
        except ValueError as error:
            log.error("it failed", exc_info=error)

    RequestContext([("x-request-id", request_id)]).context().run(work)
    access, others = output.readouterr()
    assert access.splitlines() == [f'INFO:      - "GET /models HTTP/1.1" 404 Not Found {expected}']
    written = others.splitlines()
    assert written[:3] == [
        f"WARNING:  hello {expected}", f"ERROR:    it failed {expected}", "Traceback (most recent call last):"
    ]  # fmt: skip
    assert written[-1] == "ValueError: why"


def test_a_dropped_session_is_named_once(output: Output) -> None:
    dictConfig(log_config("info"))
    RequestContext([("x-request-id", "7")]).context().run(DropLog(), Drop(inner_id("mobile", "a"), "memory"))
    assert output.readouterr().err == "WARNING:  session 'a' was dropped: memory [request 7, key mobile]\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_part_of_a_line_has_a_secret(output: Output, form: LogFormat) -> None:
    dictConfig(log_config("debug", form))
    token = Token.new()

    def work() -> None:
        SESSION.set(inner_id("mobile", token.text))
        log.info(f"message {token.text}")
        log.info("text %s %r", token.text, token.text)
        log.info("error %s", ValueError(f'of "{token.text}"'))
        log.info("by name %(key)s", {"key": token.text})
        log.info("beside", extra={"path": f"/{token.text}"})
        logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "", "GET", f"/{token.text}", "1.1", 404)
        try:
            raise ValueError(token.text)
        except ValueError as error:
            log.error("it failed", exc_info=error)

    RequestContext([("x-request-id", token.text)]).context().run(work)
    written = "".join(output.readouterr())
    assert written.count(token.id) >= 7
    assert token.text[21:] not in written
    if form == "json":
        assert all(json.loads(line) for line in written.splitlines())
