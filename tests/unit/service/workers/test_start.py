"""What a user can get wrong with ``--workers``, and what a server says then."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.commands.serve import serve
from service.errors import HetsynError
from service.settings import Limits, Settings
from service.workers import start, supervisor
from service.workers.place import VARIABLE, Place, offer_path, place_of_worker
from service.workers.start import check_workers, supervise


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--workers", "0"), "--workers"),
        (("--workers", "two"), "--workers"),
        (("--workers", "999"), "--workers 999 is above 256"),
        (("--workers", "4", "--max-sessions", "3"), "--max-sessions 3 is less than --workers 4"),
    ],
)
def test_a_wrong_number_is_one_sentence(options: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(serve, [*options], env={"COLUMNS": "500"})
    assert done.exit_code == 2
    assert said in done.output


def test_the_environment_can_say_the_number() -> None:
    done = CliRunner().invoke(serve, [], env={"COLUMNS": "500", "HETSYN_WORKERS": "1000"})
    assert "--workers 1000 is above 256" in done.output


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HetsynError, match=f"cannot listen on 127.0.0.1 port {port} .*: choose another port"):
            supervisor.listeners("127.0.0.1", port)
    with pytest.raises(HetsynError, match=r"cannot listen on no\.such\.host\.invalid port 1"):
        supervisor.listeners("no.such.host.invalid", 1)


def test_a_long_temporary_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(HetsynError, match="set TMPDIR to a shorter path"):
        supervisor.Supervisor(2, "127.0.0.1", 0, 1.0).run()
    assert not list(folder.iterdir())


def test_more_workers_than_cores_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor.Supervisor, "run", lambda _: 0)
    monkeypatch.setattr(start, "dictConfig", lambda _: None)
    caplog.set_level(logging.INFO, "hetsyn")
    monkeypatch.setattr(logging.getLogger("hetsyn"), "propagate", True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    settings = Settings(Path("models"))
    assert supervise(settings, 2, "info", has_terminal=False) == 0
    assert "share" not in caplog.text
    assert supervise(settings, 3, "info", has_terminal=False) == 0
    assert "3 workers share 2 CPU cores" in caplog.text


def test_every_worker_needs_a_share_of_each_limit() -> None:
    assert check_workers(Settings(Path("models")), 256) == ""
    limits = Limits(max_uploads=1)
    assert check_workers(Settings(Path("models"), limits=limits), 2).startswith("--max-uploads 1 is less")


def test_a_worker_learns_its_place_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = Place(1, 2, 3, str(tmp_path), 4, (5, 6))
    monkeypatch.setenv(VARIABLE, place.to_json())
    assert place_of_worker() == place
    assert place.expected() == {}  # the first one
    offer_path(place.folder).write_text('{"a/1": "ff", "": "a"}')
    assert place.expected() == {("a", "1"): b"\xff"}
    assert place_of_worker() is None  # nor do its children
