"""The models that new sessions may run on.

A catalog offers the models that its folder had when it was opened, until ``reload`` replaces them all at once. A
version that is not offered any more is *retired*: it stays in memory while sessions run on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from service.contract.artifact import Artifact
from service.contract.folder import default_of_folder, find_artifacts, natural_key, no_models_error
from service.contract.manifest import content_hash
from service.errors import ArtifactError, ModelAbsent, NotFound, listing
from service.models.model import Model
from service.runtime.device import Device
from service.runtime.onnx import GraphLoader, load_graph
from service.settings import Settings


def model_key(model: Model) -> tuple[str, str]:
    """Return the name and version of a model."""
    return model.name, model.version


def group_by_name(models: Sequence[Model]) -> dict[str, dict[str, Model]]:
    """Group models by name, then by version, both in natural order."""
    by_name: dict[str, dict[str, Model]] = {}
    for model in sorted(models, key=lambda model: (model.name, natural_key(model.version))):
        by_name.setdefault(model.name, {})[model.version] = model
    return by_name


@dataclass(frozen=True)
class CatalogSnapshot:
    """The models that new sessions may run on, at one moment.

    Attributes:
        models: by name, then by version, from the oldest to the newest.
        default_name: the model for requests that name none; None: requests must name one.
    """

    models: Mapping[str, Mapping[str, Model]]
    default_name: str | None

    @property
    def names(self) -> list[str]:
        return list(self.models)

    @property
    def count(self) -> int:
        """Count the versions of all models."""
        return sum(map(len, self.models.values()))

    def by_key(self) -> dict[tuple[str, str], Model]:
        return {model_key(model): model for versions in self.models.values() for model in versions.values()}

    def get(self, name: str | None, version: str | None) -> Model:
        """Find the model of a new session, as ``ModelCatalog.get``."""
        if name is None and self.default_name is None:
            raise NotFound(f"name a model: the server has {listing(self.names)} and no default")
        name = name or self.default_name or ""
        versions = self.versions(name)
        if version is None:
            return versions[list(versions)[-1]]
        if version not in versions:
            raise NotFound(f"model {name!r} has no version {version!r}, it has {listing(list(versions))}")
        return versions[version]

    def versions(self, name: str) -> Mapping[str, Model]:
        """Return the versions of a model, as ``ModelCatalog.versions``."""
        if name not in self.models:
            raise NotFound(f"no model {name!r}: the server has {listing(self.names)}")
        return self.models[name]


class ModelCatalog:
    """The models of a folder, by name and version.

    Versions are in natural order: 10 comes after 9.

    Args:
        folder: of artifacts; each one is opened.
        device: runs the networks; None is the CPU.
        is_empty: offer nothing until ``service.reload`` has read the folder and left out what cannot be used.
        max_model_bytes: limit for a version's files and one stream's state together.

    Raises:
        ArtifactError: the folder has no model, a model is damaged or misplaced, or the file ``default`` names a model
            that the folder lacks.
    """

    def __init__(
        self,
        folder: Path,
        load: GraphLoader = load_graph,
        device: Device | None = None,
        *,
        is_empty: bool = False,
        max_model_bytes: int = Settings.max_model_bytes,
    ) -> None:
        self.folder = folder
        self._load = load
        self.device = device
        self._max_model_bytes = max_model_bytes
        self._retired: WeakValueDictionary[tuple[str, str], Model] = WeakValueDictionary()
        self._content: dict[tuple[str, str], bytes] = {}
        self._snapshot = CatalogSnapshot({}, None)
        if is_empty:
            return
        by_name = group_by_name([self.open(path) for path in find_artifacts(folder)])
        if not by_name:
            raise no_models_error(folder)
        self.publish(CatalogSnapshot(by_name, default_of_folder(folder, list(by_name))))

    @property
    def snapshot(self) -> CatalogSnapshot:
        """Return the models that are offered now. A reload replaces the snapshot and never changes it."""
        return self._snapshot

    @property
    def names(self) -> list[str]:
        return self._snapshot.names

    @property
    def default_name(self) -> str | None:
        return self._snapshot.default_name

    @property
    def retired(self) -> int:
        """Count the versions that sessions use and that are not offered any more."""
        return len(self._retired)

    def models(self) -> list[Model]:
        """Return the models of new and of existing sessions."""
        return [*self._snapshot.by_key().values(), *self._retired.values()]

    def versions(self, name: str) -> list[str]:
        """Return the offered versions of a model, from the oldest to the newest.

        Raises:
            NotFound: there is no such model.
        """
        return list(self._snapshot.versions(name))

    def get(self, name: str | None = None, version: str | None = None) -> Model:
        """Find the model of a new session.

        Args:
            name: None takes the default model.
            version: None takes the newest.

        Raises:
            NotFound: there is no such model or version, or there are several models and no default. The message lists
                the choices.
        """
        return self._snapshot.get(name, version)

    def find(self, name: str, version: str) -> Model | None:
        """Find the model of an existing session, offered or retired; None if it is not in memory."""
        return self._snapshot.models.get(name, {}).get(version) or self._retired.get((name, version))

    def of_session(self, name: str, version: str) -> Model:
        """Find the model that a session record names.

        Raises:
            ModelAbsent: it is not in memory.
        """
        model = self.find(name, version)
        if model is None:
            raise ModelAbsent(
                f"the session runs on model {name!r} version {version!r}, which this server does not have: "
                "send the chunk again to a server that has it, serve that version too, or begin another session, "
                "under a new id"
            )
        return model

    def content_of(self, name: str, version: str) -> bytes | None:
        """Return the hash of the content that was first offered as this version; None if it was never offered."""
        return self._content.get((name, version))

    def open(self, path: Path) -> Model:
        """Open the model of a folder NAME/VERSION, and verify its files.

        Raises:
            ArtifactError: the model is damaged, misplaced or too large.
        """
        artifact = Artifact.describe(path)
        name, version, total_bytes = artifact.manifest.name, artifact.manifest.version, artifact.manifest.total_bytes
        if (name, version) != (path.parent.name, path.name):
            raise ArtifactError(
                f"{path}: contains {name!r} version {version!r}: move it to {self.folder / name / version}"
            )
        if total_bytes > self._max_model_bytes:
            raise ArtifactError(
                f"{path}: the files and states have {total_bytes:,} bytes, this server loads at most "
                f"{self._max_model_bytes:,}: export a smaller model"
            )
        artifact.verify()
        return Model(artifact, self._load, self.device)

    def publish(self, snapshot: CatalogSnapshot) -> None:
        """Offer these models from now on, and retire the offered ones that are not among them."""
        before, after = self._snapshot.by_key(), snapshot.by_key()
        for key, model in after.items():
            if key not in self._content:
                self._content[key] = content_hash(model.manifest)
        self._snapshot = snapshot
        self._retired.update({key: model for key, model in before.items() if key not in after})
        for key in after:
            self._retired.pop(key, None)
