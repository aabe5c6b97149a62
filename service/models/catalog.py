"""Which models new sessions may run on.

A catalog offers what its folder held when it was opened, until ``reload`` has it offer something else: one value,
replaced as a whole. A version that is offered no longer is *retired*: sessions that run on it keep it in memory, and
nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from service.contract.artifact import Artifact
from service.contract.manifest import content_hash
from service.errors import ArtifactError, NotFound, listing
from service.models.folder import find_artifacts, folders_default, key, no_models, ordered
from service.models.model import Model
from service.runtime.device import Device
from service.runtime.onnx import GraphLoader, load_graph


@dataclass(frozen=True)
class CatalogSnapshot:
    """What new sessions may run on.

    Attributes:
        models: by name, then by version, from the oldest to the newest.
        default_name: model of requests that name none; None where they have to.
    """

    models: Mapping[str, Mapping[str, Model]]
    default_name: str | None

    @property
    def names(self) -> list[str]:
        return list(self.models)

    @property
    def count(self) -> int:
        """Versions of all models."""
        return sum(map(len, self.models.values()))

    def get(self, name: str | None, version: str | None) -> Model:
        """As ``ModelCatalog.get``."""
        if name is None and self.default_name is None:
            raise NotFound(f"name a model: the server has {listing(self.names)} and no default")
        versions = self.versions(name or self.default_name or "")
        if version is None:
            return versions[list(versions)[-1]]
        if version not in versions:
            raise NotFound(f"model {name!r} has no version {version!r}, it has {listing(list(versions))}")
        return versions[version]

    def versions(self, name: str) -> Mapping[str, Model]:
        """
        Raises:
            NotFound: no such model.
        """
        if name not in self.models:
            raise NotFound(f"no model {name!r}: the server has {listing(self.names)}")
        return self.models[name]


class ModelCatalog:
    """The models of a folder, by name and version; versions in natural order (10 after 9).

    folder: where they are. default_model: that the operator has named.
    """

    def __init__(
        self,
        folder: Path,
        default_model: str | None = None,
        load: GraphLoader = load_graph,
        device: Device | None = None,
    ) -> None:
        """Open every artifact of the folder.

        Args:
            device: where networks run and their states live; None is the CPU.
            default_model: of requests that name none; None is the one that the folder's file ``default`` names,
                else its only model.

        Raises:
            ArtifactError: the folder holds no model, one that is damaged or misplaced, or not the one that its
                file ``default`` names.
            NotFound: there is no model named ``default_model``.
        """
        self.folder = folder
        self.default_model = default_model
        self._load = load
        self._device = device
        models = [self.open(path) for path in find_artifacts(folder)]
        self._retired: WeakValueDictionary[tuple[str, str], Model] = WeakValueDictionary()
        self._content: dict[tuple[str, str], bytes] = {}
        self._snapshot = CatalogSnapshot({}, None)
        by_name = ordered(models)
        if not by_name:
            raise no_models(folder)
        default_name = default_model or folders_default(folder, list(by_name))
        self.publish(CatalogSnapshot(by_name, default_name))
        if default_name is not None:
            self.get(default_name)

    @property
    def snapshot(self) -> CatalogSnapshot:
        """What is offered now; it never changes, another takes its place."""
        return self._snapshot

    @property
    def names(self) -> list[str]:
        return self._snapshot.names

    @property
    def default_name(self) -> str | None:
        return self._snapshot.default_name

    @property
    def retired(self) -> int:
        """Versions that are offered no longer and still in use."""
        return len(self._retired)

    def versions(self, name: str) -> list[str]:
        """From the oldest to the newest.

        Raises:
            NotFound: no such model.
        """
        return list(self._snapshot.versions(name))

    def get(self, name: str | None = None, version: str | None = None) -> Model:
        """A model for a new session; by default the default model, and its newest version.

        Raises:
            NotFound: no such model or version, or several models and no default; says which there are.
        """
        return self._snapshot.get(name, version)

    def find(self, name: str, version: str) -> Model | None:
        """A version for a session that runs on it: one that is offered, or retired and still in use."""
        return self._snapshot.models.get(name, {}).get(version) or self._retired.get((name, version))

    def content_of(self, name: str, version: str) -> bytes | None:
        """The content that was ever offered as this version; None if none was."""
        return self._content.get((name, version))

    def open(self, path: Path) -> Model:
        """The model of a folder NAME/VERSION, its files verified.

        Raises:
            ArtifactError: it is damaged or misplaced.
        """
        model = Model(Artifact.open(path), self._load, self._device)
        if (model.name, model.version) != (path.parent.name, path.name):
            raise ArtifactError(
                f"{path}: holds {model.name!r} version {model.version!r}: "
                f"move it to {self.folder / model.name / model.version}"
            )
        return model

    def publish(self, snapshot: CatalogSnapshot) -> None:
        """CatalogSnapshot these models from now on, and withdraw what is not among them."""
        before = {key(model): model for versions in self._snapshot.models.values() for model in versions.values()}
        after = {key(model): model for versions in snapshot.models.values() for model in versions.values()}
        self._content |= {of: content_hash(model.manifest) for of, model in after.items() if of not in self._content}
        self._snapshot = snapshot
        self._retired.update({of: model for of, model in before.items() if of not in after})
        for of in after:
            self._retired.pop(of, None)
