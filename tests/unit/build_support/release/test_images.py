"""Which images are built, and how: a script takes the place of docker and writes down what it was told."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_support.release import images
from build_support.release.errors import ReleaseError

pytestmark = pytest.mark.long

ENGINE = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$1" in
    version) exit "$ENGINE_CODE" ;;
    image) echo 1234 ;;
    run) cat > "$STDIN"; echo "works" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the calls of docker."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(ENGINE)
    program.chmod(0o755)
    for name, text in {"CALLS": tmp_path / "calls", "STDIN": tmp_path / "stdin", "ENGINE_CODE": 0}.items():
        monkeypatch.setenv(name, str(text))
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path / "calls"


@pytest.mark.usefixtures("docker")
def test_where_an_engine_answers_both_are_built() -> None:
    assert images.choose("auto") == (["cpu", "gpu"], "")
    assert images.choose("gpu") == (["gpu"], "")
    assert images.choose("none")[0] == []


@pytest.mark.parametrize("is_installed", [False, True])
@pytest.mark.usefixtures("docker")
def test_without_an_engine_none_is_built_and_none_may_be_named(
    is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_CODE", "1") if is_installed else monkeypatch.setenv("PATH", "")
    names, reason = images.choose("auto")
    assert names == []
    assert "start one" in reason
    with pytest.raises(ReleaseError, match="no Docker engine answers: start one"):
        images.choose("cpu")


def test_an_unknown_image_says_which_there_are() -> None:
    with pytest.raises(ReleaseError, match="IMAGES=tpu: cpu, gpu"):
        images.choose("tpu")


def test_an_image_says_what_it_was_built_from(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(images.OPTIONS, "--network=host --pull=false")
    assert images.build("gpu", Path("/checkout"), "1.2.0", "abc123") == "hetsyn:1.2.0-gpu"
    (call,) = docker.read_text().splitlines()
    assert call.startswith("build --file /checkout/docker/Dockerfile --build-arg HETSYN_RUNTIME=gpu")
    assert "org.opencontainers.image.version=1.2.0" in call
    assert "org.opencontainers.image.revision=abc123" in call
    assert call.endswith("--network=host --pull=false --tag hetsyn:1.2.0-gpu /checkout")
    assert images.size_bytes("hetsyn:1.2.0-gpu") == 1234


def test_a_container_is_tried_without_a_network(docker: Path, tmp_path: Path) -> None:
    assert images.try_image("hetsyn:1.2.0-cpu", "1.2.0") == "works\n"
    call = docker.read_text()
    assert "--network=none --read-only" in call
    assert call.endswith("hetsyn:1.2.0-cpu python -I - 1.2.0 /models\n")
    assert "golden" in (tmp_path / "stdin").read_text()


@pytest.mark.usefixtures("docker")
def test_a_server_for_gpus_has_to_say_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="does not say that it found no GPU"):
        images.try_image("hetsyn:1.2.0-gpu", "1.2.0")
    (tmp_path / "bin/docker").write_text(
        f"#!/bin/sh\ncat > /dev/null; echo 'hetsyn.device: {images.NO_GPU}: a reason'\n"
    )
    assert images.NO_GPU in images.try_image("hetsyn:1.2.0-gpu", "1.2.0")


@pytest.mark.usefixtures("docker")
def test_a_build_that_fails_shows_the_end_of_its_output(tmp_path: Path) -> None:
    (tmp_path / "bin/docker").write_text("#!/bin/sh\nseq 100; echo 'no space left' >&2; exit 1\n")
    with pytest.raises(ReleaseError) as raised:
        images.build("cpu", Path("/checkout"), "1.2.0", "abc123")
    first, *rest = str(raised.value).splitlines()
    assert first == "the image hetsyn:1.2.0-cpu cannot be built"
    assert rest[-2:] == ["100", "no space left"]
    assert len(rest) == 15
