"""What ``hetsyn stream`` says first."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from hetsyn_client.terminal.commands import stream


def test_without_a_server_it_says_so_before_it_reads(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    (tmp_path / "empty").mkdir()
    for named in ("-", str(tmp_path / "empty")):
        assert nobody in str(CliRunner().invoke(stream, [named, "--url", nobody]).exception)


def test_a_server_among_the_files_has_an_option_of_its_own() -> None:
    done = CliRunner().invoke(stream, ["a.wav", "http://127.0.0.1:9"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "http:/127.0.0.1:9 is a server: name it with --url" in done.output
