"""Models and the folder that they live in.

A catalog offers what its folder held when it was opened, until ``reload`` has it offer something else: one value,
replaced as a whole. A version that is offered no longer is *withdrawn*: sessions that run on it keep it in memory,
and nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from service.artifact import (
    DEFAULT,
    MANIFEST,
    Artifact,
    Encoder,
    FormName,
    Manifest,
    StateTensor,
    content_hash,
    find_artifacts,
    find_versions,
    read_default,
)
from service.device import Device
from service.device_memory import DeviceMemory
from service.errors import ArtifactError, NotFound, UnsupportedInput
from service.runtime import Array, Graph, GraphLoader, load_graph
from service.state_memory import NEXT_STATE, STATE, HostMemory, Row, StateMemory

State = dict[str, Array]

EVENT_ROW, EVENT_UNIT, STEPS, AUDIO = "events.row", "events.unit", "steps", "audio"
STEP, NEXT_STEP = "step", "next.step"
SCORES, PROBABILITIES, READOUT = "scores", "probabilities", "readout"


class Model:
    """One version of a model, ready to run. Its graphs are loaded when they are first needed.

    Args:
        device: where networks run and their states live; None is the CPU.
    """

    def __init__(self, artifact: Artifact, load: GraphLoader, device: Device | None = None) -> None:
        self.artifact = artifact
        self._load = load
        self._device = device
        self._graphs: dict[str, Graph] = {}
        self._states: dict[FormName, StateMemory] = {}
        self._initial: dict[FormName, Row] = {}
        self._loading = Lock()

    @property
    def manifest(self) -> Manifest:
        return self.artifact.manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def encoder(self) -> Encoder:
        """
        Raises:
            UnsupportedInput: the model hears no audio.
        """
        if self.manifest.encoder is None:
            raise UnsupportedInput(f"model {self.name!r} takes spikes, not audio: send kind 'events' or 'dense'")
        return self.manifest.encoder

    def choose_form(self, form: FormName | None) -> FormName:
        """The form, or the model's default for None.

        Raises:
            NotFound: the model was not exported in this form.
        """
        chosen = form or self.manifest.default_form
        if chosen not in self.manifest.forms:
            raise NotFound(f"model {self.name!r} has no form {chosen!r}, it has {listing(list(self.manifest.forms))}")
        return chosen

    def initial_state(self, form: FormName) -> NDArray[np.float32]:
        """The network's state before the first step, float32 [words]."""
        row = self.manifest.forms[form].state[:-1]
        return np.concatenate([np.full(prod(tensor.shape), tensor.initial, np.float32) for tensor in row])

    def states(self, form: FormName) -> StateMemory:
        """Where the states of the form's streams are."""
        memory = self._states.get(form)
        if memory is None:
            with self._loading:
                memory = self._states.setdefault(form, self._new_memory(form))
        return memory

    def initial_row(self, form: FormName) -> Row:
        """The network's state before the first step, in ``states``; all streams begin with this one.

        Raises:
            Overloaded: there is no room for it.
        """
        row = self._initial.get(form)
        if row is None:
            values = self.initial_state(form)
            values.flags.writeable = False
            row = self._initial[form] = self.states(form).from_host(values)
        return row

    def initial_encoder_state(self) -> State:
        """The encoder's, likewise; empty where there is no encoder."""
        return _initial(self.manifest.encoder.state if self.manifest.encoder else ())

    def network(self, form: FormName) -> Graph:
        """The graph of a form; contract in ``service.artifact``.

        Raises:
            ArtifactError: it does not load, or its inputs and outputs are not those that the manifest promises.
        """
        file = self.manifest.forms[form].file
        loaded = self._graphs.get(file)
        if loaded is not None:
            return loaded
        promised = (NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES, READOUT)
        load = self._load if self._device is None else self._device.load
        return self._graph(load, file, (EVENT_ROW, EVENT_UNIT, STEPS, STATE, STEP), promised)

    def encoder_graph(self) -> Graph:
        """The graph from audio to spikes; errors as for ``network`` and ``encoder``."""
        state = [tensor.name for tensor in self.encoder.state]
        inputs = (AUDIO, STEPS, *(f"state.{name}" for name in state))
        outputs = (EVENT_ROW, EVENT_UNIT, *(f"next.{name}" for name in state))
        return self._graph(self._load, self.encoder.file, inputs, outputs)

    def load(self) -> None:
        """Load every graph, so that nothing of the folder is needed any more.

        Raises:
            ArtifactError, RuntimeUnavailable: as loading does.
            Overloaded: the device has no room for a state.
        """
        for form in self.manifest.forms:
            self.network(form)
            self.initial_row(form)
        if self.manifest.encoder is not None:
            self.encoder_graph()

    def _new_memory(self, form: FormName) -> StateMemory:
        if self._device is None:
            return HostMemory(self.name)
        words = sum(prod(tensor.shape) for tensor in self.manifest.forms[form].state[:-1])
        return DeviceMemory(self._device, words, self.manifest.outputs)

    def _graph(self, load: GraphLoader, file: str, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        with self._loading:
            graph = self._graphs.get(file)
            if graph is None:
                where = self.artifact.folder / file
                try:
                    graph = load(self.artifact.read(file))
                except ArtifactError as error:
                    raise ArtifactError(f"{where}: {error}") from error
                _check_names(where, graph, set(inputs), set(outputs))
                self._graphs[file] = graph
            return graph


@dataclass(frozen=True)
class Offer:
    """What new sessions may run on. models: by name, then by version, from the oldest to the newest.

    default_name: of requests that name none; None where they have to.
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
        self._withdrawn: WeakValueDictionary[tuple[str, str], Model] = WeakValueDictionary()
        self._content: dict[tuple[str, str], bytes] = {}
        self._offer = Offer({}, None)
        by_name = ordered(models)
        if not by_name:
            raise no_models(folder)
        default_name = default_model or folders_default(folder, list(by_name))
        self.offer(Offer(by_name, default_name))
        if default_name is not None:
            self.get(default_name)

    @property
    def offered(self) -> Offer:
        """What is offered now; it never changes, another takes its place."""
        return self._offer

    @property
    def names(self) -> list[str]:
        return self._offer.names

    @property
    def default_name(self) -> str | None:
        return self._offer.default_name

    @property
    def withdrawn(self) -> int:
        """Versions that are offered no longer and still in use."""
        return len(self._withdrawn)

    def versions(self, name: str) -> list[str]:
        """From the oldest to the newest.

        Raises:
            NotFound: no such model.
        """
        return list(self._offer.versions(name))

    def get(self, name: str | None = None, version: str | None = None) -> Model:
        """A model for a new session; by default the default model, and its newest version.

        Raises:
            NotFound: no such model or version, or several models and no default; says which there are.
        """
        return self._offer.get(name, version)

    def find(self, name: str, version: str) -> Model | None:
        """A version for a session that runs on it: one that is offered, or withdrawn and still in use."""
        return self._offer.models.get(name, {}).get(version) or self._withdrawn.get((name, version))

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

    def offer(self, offer: Offer) -> None:
        """Offer these models from now on, and withdraw what is not among them."""
        before = {key(model): model for versions in self._offer.models.values() for model in versions.values()}
        after = {key(model): model for versions in offer.models.values() for model in versions.values()}
        self._content |= {of: content_hash(model.manifest) for of, model in after.items() if of not in self._content}
        self._offer = offer
        self._withdrawn.update({of: model for of, model in before.items() if of not in after})
        for of in after:
            self._withdrawn.pop(of, None)

    def load_defaults(self) -> None:
        """Load what requests without a version and a form will run, so that damage shows before they come.

        Raises:
            ArtifactError, RuntimeUnavailable: as loading does.
            Overloaded: the device has no room for a state.
        """
        offer = self._offer  # of one moment: this may run on a thread
        for name in offer.names:
            model = offer.get(name, None)
            model.network(model.manifest.default_form)
            model.initial_row(model.manifest.default_form)
            if model.manifest.encoder is not None:
                model.encoder_graph()

    def load(self) -> None:
        """Load every graph of every version: a folder that is changed later takes nothing from what is offered.

        Raises:
            ArtifactError, RuntimeUnavailable: as loading does.
        """
        for versions in self._offer.models.values():
            for model in versions.values():
                model.load()


def key(model: Model) -> tuple[str, str]:
    """What a model is found by."""
    return model.name, model.version


def ordered(models: Sequence[Model]) -> dict[str, dict[str, Model]]:
    """By name and version, both in their order."""
    by_name: dict[str, dict[str, Model]] = {}
    for model in sorted(models, key=lambda model: (model.name, natural_key(model.version))):
        by_name.setdefault(model.name, {})[model.version] = model
    return by_name


def folders_default(folder: Path, names: Sequence[str]) -> str | None:
    """The model of requests that name none, of these that a folder holds: the one that its file ``default`` names,
    else the only one, else None.

    Raises:
        ArtifactError: the file does not name one of them.
    """
    named = read_default(folder)
    if named is None:
        return names[0] if len(names) == 1 else None
    if named not in names:
        raise ArtifactError(
            f"{folder / DEFAULT}: names {named!r}, but the folder has {listing(names)}: "
            "name one of these in it, or delete it"
        )
    return named


def no_models(folder: Path) -> ArtifactError:
    """The folder holds none, as an error."""
    return ArtifactError(f"{folder}: holds no model (NAME/VERSION/{MANIFEST}): export one into it")


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts '9' before '10' and '1.9' before '1.10'."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def newest_artifact(path: Path) -> Artifact:
    """The artifact in a folder, or the newest one of a folder ``NAME`` of versions.

    Raises:
        ArtifactError: neither.
    """
    if (path / MANIFEST).is_file():
        return Artifact.open(path)
    versions = sorted(find_versions(path), key=lambda found: natural_key(found.name))
    if not versions:
        raise ArtifactError(f"{path}: neither an artifact ({MANIFEST}) nor a folder of its versions")
    return Artifact.open(versions[-1])


def summary(manifest: Manifest) -> dict[str, Any]:
    """What a user wants to know of a model, as JSON can say it; ``*_bytes`` of state are per session."""
    encoder = manifest.encoder
    return {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "labels": list(manifest.labels),
        "input": manifest.input.model_dump(mode="json"),
        "encoder": encoder
        and {
            "sample_rate_hz": encoder.sample_rate_hz,
            "samples_per_step": encoder.samples_per_step,
            "state_bytes": sum(tensor.bytes for tensor in encoder.state),
            "file_bytes": manifest.files[encoder.file].bytes,
        },
        "hidden": list(manifest.hidden),
        "outputs": manifest.outputs,
        "decision": manifest.decision.model_dump(mode="json"),
        "default_form": manifest.default_form,
        "forms": {
            name: {
                "state_bytes": form.state_bytes,
                "file_bytes": manifest.files[form.file].bytes,
                "torchscript_bytes": manifest.files[form.torchscript].bytes,
                "bank_sizes": form.bank_sizes,
                "kernel_error": form.kernel_error,
                "accuracy": form.accuracy,
                "spike_mismatch": form.spike_mismatch,
                "state": [tensor.model_dump(mode="json") for tensor in form.state],
            }
            for name, form in manifest.forms.items()
        },
        "files": {name: entry.model_dump(mode="json") for name, entry in manifest.files.items()},
        "total_bytes": sum(entry.bytes for entry in manifest.files.values()),
        "provenance": manifest.provenance,
    }


def _initial(tensors: Sequence[StateTensor]) -> State:
    return {tensor.name: np.full(tensor.shape, tensor.initial, dtype=tensor.dtype) for tensor in tensors}


def _check_names(where: Path, graph: Graph, inputs: set[str], outputs: set[str]) -> None:
    """The inputs must be these; of the outputs there may be more (the spikes of hidden layers)."""
    found = set(graph.inputs)
    wrong = [f"lacks input {name}" for name in sorted(inputs - found)]
    wrong += [f"has an unknown input {name}" for name in sorted(found - inputs)]
    wrong += [f"lacks output {name}" for name in sorted(outputs - set(graph.outputs))]
    if wrong:
        raise ArtifactError(f"{where}: {', '.join(wrong)}: export the model again with a matching hetsyn")


def listing(names: Sequence[str]) -> str:
    """Names for a sentence."""
    return ", ".join(repr(name) for name in names) or "none"
