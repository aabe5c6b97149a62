from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hetsyn_client.errors import InputError, ServiceUnreachable
from hetsyn_client.loadtest.commands import bench

URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        *(
            (options, "--streams, --closed and --find-streams cannot be used together: choose one")
            for options in (
                ["--streams", "3", "--closed", "3"],
                ["--find-streams", "100", "--streams", "3"],
                ["--find-streams", "100", "--closed", "3"],
            )
        ),
        (["--find-streams", "0"], "--find-streams"),
        (["--transport", "grpc"], "'grpc' is not one of 'infer', 'stream', 'streams', 'open-inference'"),
        (["--json", "no/such/folder/x.json"], "make it first"),
        (["--html", "no/such/folder/x.html"], "make it first"),
        (["--streams", "0"], "--streams"),
        (["--recordings", "no/such/file"], "--recordings"),
    ],
)
def test_options_that_make_no_sense_are_explained(arguments: list[str], advice: str) -> None:
    result = CliRunner().invoke(bench, ["--url", URL, *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert advice in " ".join(result.output.replace("│", "").split())


@pytest.mark.parametrize(("words", "environment"), [(["--url", URL], "http://127.0.0.1:2"), ([], URL)])
def test_an_option_or_the_environment_names_the_server(words: list[str], environment: str) -> None:
    result = CliRunner().invoke(bench, words, env={"HETSYN_URL": environment})
    assert isinstance(result.exception, ServiceUnreachable)
    assert str(result.exception).startswith(f"{URL}: ")


def test_an_address_without_a_scheme_is_explained() -> None:
    result = CliRunner().invoke(bench, ["--url", "localhost:8000"])
    assert isinstance(result.exception, InputError)


def test_no_report_is_left_when_there_is_no_server(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, ["--url", URL, "--json", str(tmp_path / "x.json")])
    assert result.exit_code == 1
    assert isinstance(result.exception, ServiceUnreachable)
    assert list(tmp_path.iterdir()) == []
