"""One version of a model, ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from service.contract.artifact import Artifact
from service.contract.graph_io import (
    encoder_inputs,
    encoder_outputs,
    network_inputs,
    network_outputs,
    next_name,
    spikes_name,
    state_name,
)
from service.contract.initial import InitialState
from service.contract.manifest import EncoderDescription, Manifest
from service.errors import ArtifactError, UnsupportedInput
from service.runtime.device import Device
from service.runtime.onnx import Array, Graph, GraphLoader

Arrays = dict[str, Array]


class Model:
    """A model with its graphs in memory. Its folder is not needed any more.

    Args:
        device: runs the networks; None is the CPU.

    Attributes:
        group: name and version.
        is_on_cpu: networks run on the CPU; encoders always do.
        takes_values_only: the network itself takes values, so spikes become values too.
        row_values: numbers in a row of values that a client sends; 0 where the model takes none.
        network: the network's graph (``contract.graph_io``).
        encoder_graph: from audio or values to spikes (``contract.graph_io``); None where there is none.
        encoder_state: the names of the encoder's state tensors, each with those of the graph's input and output.
        hidden_layers: neurons of each hidden layer with spikes among the graph's outputs, by the layer's name.
        initial_row: the network's state before the first step, float32 [words], read-only and shared by all streams.
        initial_encoder: the encoder's state before the first step, by name, likewise; empty without an encoder.

    Raises:
        ArtifactError: a graph does not load, or its inputs and outputs are not those of the manifest.
        RuntimeUnavailable: there is no ONNX Runtime.
    """

    def __init__(self, artifact: Artifact, load: GraphLoader, device: Device | None = None) -> None:
        self.artifact = artifact
        self.is_on_cpu = device is None
        self.manifest = manifest = artifact.manifest
        self.name, self.version = self.group = manifest.name, manifest.version
        encoder = manifest.encoder
        initial = InitialState(artifact)
        self.initial_encoder = initial.encoder()
        for array in self.initial_encoder.values():
            array.flags.writeable = False
        self._audio = encoder if encoder is not None and encoder.kind == "audio" else None
        values = manifest.input.channels if manifest.input.kind == "values" else 0
        self.takes_values_only = values > 0
        self.row_values = encoder.channels if encoder is not None and encoder.kind == "values" else values
        words = manifest.network.words
        self.network = _loaded(
            artifact,
            manifest.network.file,
            load if device is None else device.load,
            inputs=network_inputs(words, values),
            outputs=network_outputs(words, manifest.outputs, hidden={}),
        )
        self.hidden_layers = _hidden_layers(manifest, self.network)
        self.initial_row = initial.network()
        self.initial_row.flags.writeable = False
        self.encoder_graph: Graph | None = None
        self.encoder_state = [(name, state_name(name), next_name(name)) for name in self.initial_encoder]
        if encoder is not None and encoder.file is not None:
            self.encoder_graph = _loaded(
                artifact,
                encoder.file,
                load,
                inputs=encoder_inputs(encoder.state, encoder.channels if encoder.kind == "values" else 0),
                outputs=encoder_outputs(encoder.state),
            )

    @cached_property
    def encoder(self) -> EncoderDescription:
        """Return the manifest's description of the audio encoder.

        Raises:
            UnsupportedInput: the model takes no audio.
        """
        if self._audio is None:
            raise self.takes_no("audio")
        return self._audio

    def stop(self) -> None:
        """End all runs of the graphs, on any thread, and refuse later ones."""
        for graph in filter(None, [self.network, self.encoder_graph]):
            graph.stop()

    def takes_no(self, kind: str) -> UnsupportedInput:
        """Make the error for a kind of input that the model does not take."""
        kinds = self.manifest.inputs
        names = {"audio": "audio", "values": "values", "events": "spikes"}
        taken = " and ".join(name for key, name in names.items() if key in kinds)
        *most, last = map(repr, kinds)
        return UnsupportedInput(f"model {self.name!r} takes {taken}, not {kind}: send kind {', '.join(most)} or {last}")


def _loaded(artifact: Artifact, file: str, load: GraphLoader, inputs: Iterable[str], outputs: Iterable[str]) -> Graph:
    """Load a graph of an artifact.

    Args:
        inputs: names of the inputs; the graph must have exactly these.
        outputs: names of outputs; the graph may have more (spikes of hidden layers).
    """
    path = artifact.folder / file
    try:
        graph = load(artifact.read(file))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    _check_names(path, graph, set(inputs), set(outputs))
    return graph


def _hidden_layers(manifest: Manifest, graph: Graph) -> Mapping[str, int]:
    layers = {f"hidden{number}": neurons for number, neurons in enumerate(manifest.hidden, 1)}
    return {name: neurons for name, neurons in layers.items() if spikes_name(name) in graph.outputs}


def _check_names(path: Path, graph: Graph, inputs: set[str], outputs: set[str]) -> None:
    actual = set(graph.inputs)
    problems = [f"lacks input {name}" for name in sorted(inputs - actual)]
    problems += [f"has an unknown input {name}" for name in sorted(actual - inputs)]
    problems += [f"lacks output {name}" for name in sorted(outputs - set(graph.outputs))]
    if problems:
        raise ArtifactError(f"{path}: {', '.join(problems)}: export the model again with a matching hetsyn")
