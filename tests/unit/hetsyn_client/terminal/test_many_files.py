"""Which files of a folder are streamed, and what they are labelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from hetsyn_client.errors import InputError
from hetsyn_client.terminal.many_files import Heard, Input, Summary, file_line, find_inputs, label_table, truth_of
from tests.support.data.hdf5 import write_h5

LABELS = ("zero", "One", "two words")


def test_files_of_folders_in_order(tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/1.FLAC", "a/x.npz", "a/notes.txt", ".git/3.wav", "c.csv", "d.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    other = tmp_path / "a/notes.txt"
    found = [each.path for each in find_inputs([other, tmp_path])]
    assert found[0] == other  # it was named
    assert [str(path.relative_to(tmp_path)) for path in found[1:]] == [
        "a/x.npz",
        "b/1.FLAC",
        "b/2.wav",
        "c.csv",
        "d.mp3",
    ]


def test_a_folder_without_recordings_is_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="has no recording"):
        find_inputs([tmp_path])


@pytest.mark.parametrize(
    ("path", "truth"),
    [
        ("zero/a.wav", "zero"),
        ("ONE/zero.wav", "One"),
        ("any/zero.wav", "zero"),
        ("any/one_anna_0.wav", "One"),
        ("any/one-2.wav", "One"),
        ("any/two words.wav", "two words"),
        ("any/two.wav", None),
        ("zeros/onesie.wav", None),
    ],
)
def test_labels_are_names_of_folders_or_files(path: str, truth: str | None) -> None:
    assert truth_of(Input(Path(path)), LABELS) == truth


def test_each_example_of_an_hdf5_file_has_its_own_label(tmp_path: Path) -> None:
    write_h5(tmp_path / "zero.h5", [[0.0], [0.1]], [[1], [2]], labels=[1, 0], keys=["zero", "one"])
    write_h5(tmp_path / "zero_plain.h5", [[0.0]], [[1]])
    found = find_inputs([tmp_path])
    assert [each.name.removeprefix(f"{tmp_path}/") for each in found] == [
        "zero.h5[0]",
        "zero.h5[1]",
        "zero_plain.h5[0]",
    ]
    assert [truth_of(each, LABELS) for each in found] == ["One", "zero", None]


def test_the_summary_counts() -> None:
    heard = [
        Heard("a", "one", ("one",), 0.9, 1.0),
        Heard("b", "one", ("two",), 0.9, 1.0),
        Heard("c", "one", ("one", "one"), 0.9, 1.0),
        Heard("d", "two", (), None, 1.0),
        Heard("e", None, ("two",), 0.9, 0.5),
        Heard("f", "two", (), None, 0.0, "f: cannot be read"),
    ]
    summary = Summary.of(heard, 2.0)
    assert summary == Summary(files=5, failed=1, labelled=4, right=1, duration_s=4.5, took_s=2.0)
    assert summary.line() == "5 files, 4.5 s of input in 2.0 s, 1 not streamed: 1 of 4 right (25.0%)"
    assert summary.as_json()["accuracy"] == 0.25
    table = label_table(heard)
    assert table is not None
    columns = [list(map(str, column.cells)) for column in table.columns]
    assert columns == [["one", "two"], ["3", "1"], ["1", "0"], ["two, one one", "nothing"]]


def test_nothing_is_the_right_answer_to_what_is_no_word() -> None:
    heard = [
        Heard("unknown/a", "unknown", (), None, 1.0, "", True, 1),
        Heard("unknown/b", "unknown", ("one",), 0.9, 1.0, "", True),
    ]
    assert [each.is_right for each in heard] == [True, False]
    assert heard[0].as_json() == {
        "type": "File", "file": "unknown/a", "truth": "unknown", "labels": [], "probability": None, "duration_s": 1.0,
        "error": None, "right": True, "unnamed": 1,
    }  # fmt: skip
    assert str(file_line(heard[0])) == "unknown/a: no word"
    assert str(file_line(heard[0]._replace(unnamed=0))) == "unknown/a: nothing heard"


def test_without_labels_there_is_no_accuracy() -> None:
    heard = [Heard("e", None, ("two",), 0.9, 0.5)]
    assert Summary.of(heard, 1.0).accuracy is None
    assert "no accuracy" in Summary.of(heard, 1.0).line()
    assert label_table(heard) is None
