"""The artifact: a folder that describes a model completely, and the reader that trusts nothing in it.

models/NAME/VERSION/
    manifest.json     ``contract.manifest``; names every other file with its size and SHA-256
    exact.onnx        network, one current a synapse
    bank.onnx         network, K shared decays a layer
    encoder.onnx      audio to spikes, if the model takes audio
    exact.pt bank.pt  TorchScript of one step
    golden.npz        inputs, and the outputs that each form gives for them
    network.pt        the torch checkpoint that the other files were made from; the server does not read it
models/default        optional: a text file with the NAME for requests that name no model
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from service.contract.manifest import MANIFEST, Manifest, parse_manifest
from service.errors import ArtifactError

GOLDEN = "golden.npz"


class Artifact:
    """An artifact folder whose manifest was read. A file is verified when it is read.

    Args:
        folder: of the artifact.
        manifest: of the folder.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @staticmethod
    def describe(folder: Path) -> Artifact:
        """Read the manifest alone.

        Raises:
            ArtifactError: the folder is no artifact.
        """
        path = folder / MANIFEST
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{folder}: {MANIFEST} cannot be read ({error.strerror})") from error
        return Artifact(folder, parse_manifest(text, path))

    @staticmethod
    def open(folder: Path) -> Artifact:
        """Read the manifest and check every file's size and hash.

        Raises:
            ArtifactError: the folder is no artifact, or a file is missing, extra-long or altered.
        """
        artifact = Artifact.describe(folder)
        artifact.verify()
        return artifact

    def verify(self) -> None:
        """Check every file's size and hash.

        Raises:
            ArtifactError: a file is missing, extra-long or altered.
        """
        for name in self.manifest.files:
            self.read(name)

    def read(self, name: str) -> bytes:
        """A file's verified content.

        Raises:
            ArtifactError: the manifest does not list it, or its content is not the listed one.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise ArtifactError(f"{self.folder}: the manifest lists no file {name!r}")
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise ArtifactError(f"{self.folder / name}: cannot be read ({error.strerror})") from error
        if len(content) != entry.bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise ArtifactError(f"{self.folder / name}: differs from its hash in the manifest: copy the artifact again")
        return content
