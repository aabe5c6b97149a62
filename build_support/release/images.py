"""The images, where a Docker engine answers: built from the released files, and tried without a network."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from build_support.compiling import MODE
from build_support.release.errors import ReleaseError, run

RUNTIMES = ("cpu", "gpu")
OPTIONS = "DOCKER_BUILD_OPTIONS"  # of docker build, as --network=host or --pull=false
NO_GPU = "no GPU can be used, networks run on the CPU"  # the server's sentence
_NO_DOCKER = "no Docker engine answers: start one, or name it in DOCKER_HOST"
_SMOKE = Path(__file__).with_name("smoke.py")


def choose(wanted: str) -> tuple[list[str], str]:
    """Choose the images to build; if there are none, also say why.

    Args:
        wanted: ``auto`` for all where a Docker engine answers, ``none``, or names with commas.

    Raises:
        ReleaseError: an unknown name, or no engine for those that were named.
    """
    if wanted == "none":
        return [], "as IMAGES=none says"
    names = list(RUNTIMES) if wanted == "auto" else wanted.split(",")
    if not set(names) <= set(RUNTIMES):
        raise ReleaseError(f"IMAGES={wanted}: cpu, gpu, cpu,gpu, none, or leave it out")
    if not _engine_answers():
        if wanted == "auto":
            return [], _NO_DOCKER
        raise ReleaseError(_NO_DOCKER)
    return names, ""


def build(runtime: str, checkout: Path, version: str, commit: str) -> str:
    """Build an image from a copy of the checkout. Returns its name.

    Raises:
        ReleaseError: the build fails.
    """
    name = f"hetsyn:{version}-{runtime}"
    labels = {"version": version, "revision": commit, "licenses": "Apache-2.0"}
    run(
        ["docker", "build", "--file", checkout / "docker/Dockerfile", "--build-arg", f"HETSYN_RUNTIME={runtime}"]
        + [word for key, text in labels.items() for word in ("--label", f"org.opencontainers.image.{key}={text}")]
        + [*shlex.split(os.environ.get(OPTIONS, "")), "--tag", name, checkout],
        f"the image {name} cannot be built",
        variables=os.environ,
    )
    return name


def try_image(name: str, version: str) -> str:
    """Start a server in a container, restricted as docker-compose.yml does, and try it. Returns what it says.

    A container of the GPU image gets no GPU: its server has to say so, and to run on the CPU.

    Raises:
        ReleaseError: it does not work.
    """
    options = ["--rm", "--interactive", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    options += ["--security-opt=no-new-privileges:true", "--env", f"{MODE}=require"]
    said = run(
        ["docker", "run", *options, name, "python", "-I", "-", version, "/models"],
        f"the server of the image {name} does not work",
        variables=os.environ,
        stdin=_SMOKE.read_bytes(),
    )
    if name.endswith("-gpu") and NO_GPU not in said:
        raise ReleaseError(
            f"the server of {name} does not say that it found no GPU, and no container here has one: {said}"
        )
    return said


def size_bytes(name: str) -> int:
    """Measure what an image takes on the disk."""
    shown = run(["docker", "image", "inspect", "--format", "{{.Size}}", name], f"{name} is gone", variables=os.environ)
    return int(shown)


def _engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        run(["docker", "version"], "", variables=os.environ)
    except ReleaseError:
        return False
    return True
