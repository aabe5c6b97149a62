"""Reads artifacts: folders that describe a model completely. It trusts nothing in them.

models/NAME/VERSION/
    manifest.json     ``contract.manifest``; names every other file with its size and SHA-256
    bank.onnx         network, K shared decays a layer; or exact.onnx, one current a synapse
    encoder.onnx      audio to spikes, if the model takes audio
    initial.npz       a stream's first state, if a tensor begins with more than one value (``contract.initial``)
    bank.pt           optional: TorchScript of one step; or exact.pt
    golden.npz        inputs, and the outputs that the network gives for them
    network.pt        the torch checkpoint that the other files were made from; the server does not read it
models/default        optional: a text file with the NAME for requests that name no model

A file is read only if it is a regular one, has the size that the manifest lists, and lies in the artifact's own folder.
It may be a symbolic link within that folder, as in the volumes of Kubernetes; the folder may be a link to anywhere.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from service.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from service.errors import ArtifactError

GOLDEN = "golden.npz"
# Windows has only O_BINARY
_OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))


class Artifact:
    """An artifact folder with its manifest, which was read. A file is verified when it is read."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @staticmethod
    def describe(folder: Path) -> Artifact:
        """Read the manifest alone. Raises ArtifactError if the folder is no artifact."""
        path = folder / MANIFEST
        return Artifact(folder, parse_manifest(read_file(path, MAX_MANIFEST_BYTES), path))

    @staticmethod
    def open(folder: Path) -> Artifact:
        """Read the manifest, and check all files; errors as ``describe`` and ``verify``."""
        artifact = Artifact.describe(folder)
        artifact.verify()
        return artifact

    def verify(self) -> None:
        """Check every file's size and hash. Raises ArtifactError if a file is missing, extra-long or altered."""
        for name in self.manifest.files:
            self.read(name)

    def read(self, name: str) -> bytes:
        """Read a file. Raises ArtifactError if its content is not the one that the manifest lists."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise ArtifactError(f"{self.folder}: the manifest lists no file {name!r}")
        content = read_file(self.folder / name, entry.bytes, is_exact=True)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise ArtifactError(f"{self.folder / name}: differs from its hash in the manifest: copy the artifact again")
        return content


def read_file(path: Path, max_bytes: int, *, is_exact: bool = False) -> bytes:
    """Read a regular file of at most ``max_bytes``, or of exactly as many. Opens nothing else.

    Raises:
        ArtifactError: there is no such file, it is another kind of file, outside its folder, or has another length.
    """
    try:
        real, folder = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
        if not real.is_relative_to(folder):
            raise ArtifactError(f"{path}: is a link to {real}, outside its folder: copy the file into the folder")
        _check_regular(path, real.stat())  # opening a device or a FIFO may act or block
        # between these two lines, another kind of file may take its place
        number = os.open(real, os.O_RDONLY | _OPEN_FLAGS)
        with os.fdopen(number, "rb") as file:
            status = os.fstat(number)
            _check_regular(path, status)
            if is_exact and status.st_size != max_bytes:
                raise ArtifactError(f"{path}: differs from its size in the manifest: copy the artifact again")
            if status.st_size > max_bytes:
                raise ArtifactError(f"{path}: is longer than {max_bytes:,} bytes: export the model again")
            content = file.read(status.st_size)
    except (OSError, ValueError) as error:  # ValueError: no file can have this name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path}: cannot be read ({reason}): copy the artifact again") from error
    return content


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{path}: is not a regular file: copy the artifact again")
