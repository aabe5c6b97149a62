"""What ``hetsyn stream`` and ``hetsyn run`` refuse before anything is asked of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hetsyn_client.commands import stream
from hetsyn_client.errors import InputError
from service.commands.run import run


@pytest.mark.parametrize(("command", "before"), [(stream, []), (run, ["digits"])])
def test_standard_input_keeps_its_own_time(command: Any, before: list[str]) -> None:
    done = CliRunner().invoke(command, [*before, "-", "--realtime"])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == "--realtime: standard input keeps its own time: leave the option out, or name a file"


def test_standard_input_needs_no_option_for_it(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    for options in ([], ["--no-realtime"]):
        done = CliRunner().invoke(stream, ["-", "--url", nobody, *options])
        assert "realtime" not in str(done.exception)
        assert nobody in str(done.exception)
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(stream, [str(tmp_path / "empty"), "--url", nobody])
    assert nobody in str(done.exception)


def test_a_server_among_the_files_has_an_option_of_its_own() -> None:
    done = CliRunner().invoke(stream, ["a.wav", "http://127.0.0.1:9"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "http:/127.0.0.1:9 is a server: name it with --url" in done.output
