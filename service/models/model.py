"""One version of a model, ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from service.contract.artifact import Artifact
from service.contract.graph_io import (
    AUDIO,
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
)
from service.contract.manifest import Encoder, FormName, Manifest, StateTensor
from service.errors import ArtifactError, NotFound, UnsupportedInput, listing
from service.runtime.device import Device
from service.runtime.device_memory import DeviceMemory
from service.runtime.onnx import Array, Graph, GraphLoader
from service.runtime.state_memory import HostMemory, Row, StateMemory

State = dict[str, Array]


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
        """The graph of a form; contract in ``service.contract``.

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
