"""Options of the faults that do not go together."""

from __future__ import annotations

import pytest

from tests.long.faults.__main__ import main


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--store memory --replicas 1", "store memory has no replicas: leave --replicas out"),
        ("--store file --replicas 0", "store file has no replicas"),
        ("--replicas 1", "store valkey has no replicas: leave --replicas out, or take --store valkey-cluster"),
        ("--transport carried --replicas 1", "store memory has no replicas"),
        ("--transport carried --store file", "carried sessions have no store: leave --store out"),
    ],
)
def test_options_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: str, sentence: str
) -> None:
    monkeypatch.setattr("sys.argv", ["faults", *options.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
