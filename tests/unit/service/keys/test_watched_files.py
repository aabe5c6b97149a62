from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import HetsynError
from service.keys.watched_files import CertificateFiles


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    (tmp_path / "chain.pem").write_text("first")
    (tmp_path / "key.pem").write_text("first")
    return CertificateFiles(tmp_path / "chain.pem", tmp_path / "key.pem")


def test_a_change_is_read_once(files: CertificateFiles) -> None:
    assert files.read_again(files.chain.read_text) is None
    files.chain.write_text("a second one")
    assert files.read_again(files.chain.read_text) == "a second one"
    assert files.read_again(files.chain.read_text) is None


def test_files_that_cannot_be_used_are_tried_again_and_logged_once(
    files: CertificateFiles, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable() -> str:
        raise HetsynError("half a file")

    files.chain.write_text("a second one")
    assert [files.read_again(unreadable) for _ in range(3)] == [None] * 3
    assert caplog.text.count("cannot be read again, so nothing changes: half a file") == 1
    assert files.read_again(files.chain.read_text) == "a second one"  # they have not changed since


def test_what_changes_while_they_are_read_is_read_at_the_next_call(files: CertificateFiles) -> None:
    def overtaken() -> str:
        text = files.chain.read_text()
        files.chain.write_text("a third one, longer")
        return text

    files.chain.write_text("a second one")
    assert files.read_again(overtaken) == "a second one"
    assert files.read_again(files.chain.read_text) == "a third one, longer"
