"""The folder of a run says which values differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from hetsyn_model.run_folder import RunError, record_configuration


def test_a_folder_of_another_configuration_names_the_values(tmp_path: Path) -> None:
    record_configuration(tmp_path, {"seed": 0, "train": {"epochs": 1, "bank_size": 4}})
    record_configuration(tmp_path, {"seed": 0, "train": {"epochs": 1, "bank_size": 4}})
    with pytest.raises(
        RunError, match=r"differs in train\.epochs \(1 there, 2 now\): .*choose another --out, or delete"
    ):
        record_configuration(tmp_path, {"seed": 0, "train": {"epochs": 2, "bank_size": 4}})
    with pytest.raises(RunError, match=r"differs in teacher \(None there, a now\), seed \(0 there, None now\)"):
        record_configuration(tmp_path, {"teacher": "a", "train": {"epochs": 1, "bank_size": 4}})


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_file_in_the_way_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="a file is in the way: name another folder for the run"):
        record_configuration(tmp_path / name, {})


@pytest.mark.parametrize("content", [b'{"seed": ', b"[1]", b"\xff"])
def test_a_damaged_configuration_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run.json: not the configuration of a run \(.*\): choose another --out, or"):
        record_configuration(tmp_path, {"seed": 0})
