"""One version of a model, ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from service.contract.artifact import Artifact
from service.contract.graph_io import (
    Float32Array,
    encoder_inputs,
    encoder_outputs,
    network_inputs,
    network_outputs,
    spikes_name,
)
from service.contract.initial import InitialState
from service.contract.manifest import EncoderDescription, FormName, Manifest
from service.errors import ArtifactError, NotFound, UnsupportedInput, listing
from service.runtime.device import Device
from service.runtime.onnx import Array, Graph, GraphLoader

Arrays = dict[str, Array]


class Model:
    """A model whose graphs are loaded. Its folder is not needed any more.

    Args:
        artifact: the model's folder.
        load: makes a graph for the CPU.
        device: where networks run; None is the CPU.

    Attributes:
        artifact: see above.
        is_on_cpu: networks run on the CPU; encoders always do.
        takes_values_only: the network itself takes values, so spikes become values too.
        row_values: numbers in a row of values that a client sends; 0 where the model takes none.

    Raises:
        ArtifactError: a graph does not load, or its inputs and outputs are not those of the manifest.
        RuntimeUnavailable: there is no ONNX Runtime.
    """

    def __init__(self, artifact: Artifact, load: GraphLoader, device: Device | None = None) -> None:
        self.artifact = artifact
        self.is_on_cpu = device is None
        self._networks: dict[FormName, Graph] = {}
        self._initial_rows: dict[FormName, Float32Array] = {}
        self._hidden_layers: dict[FormName, Mapping[str, int]] = {}
        manifest = artifact.manifest
        encoder = manifest.encoder
        self._initial = InitialState(artifact)
        self._initial_encoder = self._initial.encoder()
        self._audio = encoder if encoder is not None and encoder.kind == "audio" else None
        values = manifest.input.channels if manifest.input.kind == "values" else 0
        self.takes_values_only = values > 0
        self.row_values = encoder.channels if encoder is not None and encoder.kind == "values" else values
        for form, description in manifest.forms.items():
            self._networks[form] = _loaded(
                artifact,
                description.file,
                load if device is None else device.load,
                inputs=network_inputs(description.words, values),
                outputs=network_outputs(description.words, manifest.outputs, hidden={}),
            )
            self._hidden_layers[form] = _hidden_layers(manifest, self._networks[form])
            row = self._initial_rows[form] = self.initial_state(form)
            row.flags.writeable = False
        self._encoder_graph: Graph | None = None
        if encoder is not None and encoder.file is not None:
            self._encoder_graph = _loaded(
                artifact,
                encoder.file,
                load,
                inputs=encoder_inputs(encoder.state, encoder.channels if encoder.kind == "values" else 0),
                outputs=encoder_outputs(encoder.state),
            )

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
    def encoder(self) -> EncoderDescription:
        """The manifest's description of what becomes of audio.

        Raises:
            UnsupportedInput: the model takes no audio.
        """
        if self._audio is None:
            raise self.takes_no("audio")
        return self._audio

    @property
    def encoder_graph(self) -> Graph | None:
        """The graph from audio or values to spikes (``contract.graph_io``); None where there is none."""
        return self._encoder_graph

    def stop(self) -> None:
        """End the runs of its graphs that are under way, on whichever threads, and refuse every later one."""
        for graph in (*self._networks.values(), *filter(None, [self._encoder_graph])):
            graph.stop()

    def choose_form(self, form: FormName | None) -> FormName:
        """The form that a new session runs on.

        Args:
            form: None takes the model's default form.

        Raises:
            NotFound: the model was not exported in this form.
        """
        chosen = form or self.manifest.default_form
        if chosen not in self.manifest.forms:
            raise NotFound(f"model {self.name!r} has no form {chosen!r}, it has {listing(list(self.manifest.forms))}")
        return chosen

    def network(self, form: FormName) -> Graph:
        """The graph of a form (``contract.graph_io``)."""
        return self._networks[form]

    def hidden_layers(self, form: FormName) -> Mapping[str, int]:
        """Neurons of the hidden layers whose spikes the form's graph gives, by the layer's name."""
        return self._hidden_layers[form]

    def initial_state(self, form: FormName) -> Float32Array:
        """The network's state before the first step, float32 [words]."""
        return self._initial.network(form)

    def initial_row(self, form: FormName) -> Float32Array:
        """``initial_state`` that cannot be written. All streams of the form begin with it."""
        return self._initial_rows[form]

    def initial_encoder_state(self) -> Arrays:
        """The encoder's state before the first step, by name; empty without an encoder."""
        return {name: array.copy() for name, array in self._initial_encoder.items()}

    def takes_no(self, kind: str) -> UnsupportedInput:
        """The error for an input of a kind that the model does not take."""
        kinds = self.manifest.inputs
        names = {"audio": "audio", "values": "values", "events": "spikes"}
        taken = " and ".join(name for key, name in names.items() if key in kinds)
        *most, last = map(repr, kinds)
        return UnsupportedInput(f"model {self.name!r} takes {taken}, not {kind}: send kind {', '.join(most)} or {last}")


def _loaded(artifact: Artifact, file: str, load: GraphLoader, inputs: Iterable[str], outputs: Iterable[str]) -> Graph:
    """Load a graph of an artifact.

    Args:
        artifact: of the graph.
        file: of the graph.
        load: makes a graph.
        inputs: names of the inputs; the graph must have exactly these.
        outputs: names of outputs; the graph may have more (spikes of hidden layers).

    Raises:
        ArtifactError: the graph does not load, or has other inputs or outputs.
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
