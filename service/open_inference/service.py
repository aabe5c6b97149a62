"""The Open Inference Protocol on the sessions of a server, for HTTP and gRPC alike. Answers are JSON values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from typing import Any, NamedTuple

from service.contract.manifest import Manifest
from service.errors import HetsynError, InputError, ModelControlOff, NotFound
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.open_inference.statistics import Statistics
from service.session.session import Answer
from service.settings import Limits, Retention
from service.wire.open_inference import (
    SEQ,
    ModelRequest,
    OutputTensor,
    infer_request,
    input_of,
    output_tensors,
    outputs_of,
    sequence_id,
)
from service.wire.schema import InferRequest

NAME = PLATFORM = "hetsyn"
EXTENSIONS = (
    "sequence", "sequence(string_id)", "statistics", "binary_tensor_data", "model_configuration", "model_repository",
    "parameters",
)  # fmt: skip


class ModelReply(NamedTuple):
    """The answer to a ``ModelRequest``. ``parameters`` has the chunk's number if it belongs to a sequence."""

    model: str
    version: str
    id: str
    parameters: Mapping[str, Any]
    outputs: list[OutputTensor]


class ModelCall:
    """A request to a model, from its bytes to its answer.

    Args:
        version: None or empty takes the newest.

    Attributes:
        request: the decoded request, without its inputs.
    """

    request: ModelRequest

    def __init__(self, service: OpenInference, name: str, version: str | None) -> None:
        self._service = service
        self.name = name
        self.version = version
        self._began_s = time.perf_counter()

    def decoded(self, request: ModelRequest) -> InferRequest:
        """Convert the request to one of ``/infer``.

        Raises:
            HetsynError: it cannot be used.
        """
        self._service.manifest(request.model, request.version)
        decoded = infer_request(request)
        self.request = request._replace(inputs=())  # their data would stay in memory beside the chunk
        return decoded

    def reply(self, answer: Answer) -> ModelReply:
        """Make the answer to the request."""
        reply, request = answer.reply, self.request
        self._service.counts(reply["model"], reply["version"]).answered(answer.watch)
        parameters: dict[str, Any] = {}
        if sequence_id(request.parameters) is not None:
            name = request.parameters["sequence_id"]
            parameters = {"sequence_id": name, "sequence_end": reply["end"], SEQ: reply["seq"]}
        outputs = output_tensors(reply, request.outputs)
        return ModelReply(reply["model"], reply["version"], request.id, parameters, outputs)

    def failed(self) -> None:
        """Count the request as refused."""
        with suppress(HetsynError):  # there is no such model to count for
            version = self._service.manifest(self.name, self.version).version
            self._service.counts(self.name, version).failed(time.perf_counter() - self._began_s)


class OpenInference:
    """Answers the protocol's calls. Used from one event loop. A call about an unknown model raises ``NotFound``."""

    def __init__(self, catalog: ModelCatalog, limits: Limits, retention: Retention) -> None:
        self._catalog = catalog
        self._limits = limits
        self._retention = retention
        self._statistics: dict[tuple[str, str], Statistics] = {}

    def manifest(self, name: str, version: str | None) -> Manifest:
        """Find the manifest of a model that is offered, or that sessions still run on."""
        try:
            return self._offered(name, version).manifest
        except NotFound:
            for model in reversed(self._catalog.models()):
                if model.name == name and version in (None, "", model.version):
                    return model.manifest
            raise

    def server(self) -> dict[str, Any]:
        """Return the server's metadata."""
        try:
            version = metadata.version(NAME)
        except metadata.PackageNotFoundError:
            version = "unknown"
        return {"name": NAME, "version": version, "extensions": list(EXTENSIONS)}

    def model(self, name: str, version: str | None) -> dict[str, Any]:
        """Return a model's metadata."""
        manifest = self._offered(name, version).manifest
        return {
            "name": name,
            "versions": self._catalog.versions(name),
            "platform": PLATFORM,
            "inputs": [dict(zip(("name", "datatype", "shape"), input_of(manifest), strict=True))],
            "outputs": [dict(zip(("name", "datatype", "shape"), one, strict=True)) for one in outputs_of(manifest)],
        }

    def check_model(self, name: str, version: str | None) -> None:
        """Check that a sequence can begin on a model; raise ``NotFound`` if not."""
        self._offered(name, version)

    def config(self, name: str, version: str | None) -> dict[str, Any]:
        """Return a model's configuration. ``sequence_batching`` tells clients that it has state."""
        manifest = self._offered(name, version).manifest
        return {
            "name": name,
            "platform": PLATFORM,
            "backend": PLATFORM,
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": 0,  # tensors have no batch dimension: the server makes its own batches
            "input": [_configured(input_of(manifest))],
            "output": [_configured(output) for output in outputs_of(manifest)],
            "sequence_batching": {
                "max_sequence_idle_microseconds": int(self._retention.session_idle_s * 1e6),
                "oldest": {"max_candidate_sequences": self._limits.max_sessions},
            },
            "model_transaction_policy": {"decoupled": False},
        }

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Return the counts and times of this protocol since the process started, for one model or for all."""
        if name is None:
            keys = [(model.name, model.version) for model in self._catalog.models()]
        else:
            versions = [version] if version else self._catalog.versions(name)
            keys = [(name, self._catalog.get(name, one).version) for one in versions]
        return {"model_stats": [{"name": key[0], "version": key[1], **self.counts(*key).as_json()} for key in keys]}

    def index(self, ready: bool) -> list[dict[str, str]]:
        """List the models of the repository. ``ready`` leaves out those that no new sequence can begin on."""
        offered = self._catalog.snapshot.by_key()
        entries = [_entry(name, version, "READY", "") for name, version in offered]
        if ready:
            return entries
        for model in self._catalog.models():
            if (model.name, model.version) not in offered:
                entries.append(_entry(model.name, model.version, "UNAVAILABLE", "its sequences go on"))
        return entries

    def change_models(self) -> None:
        """Refuse to load or unload a model: raise ``ModelControlOff``."""
        raise ModelControlOff(
            "clients do not load or unload models: change the folder of models, which the server reads again"
        )

    def _offered(self, name: str, version: str | None) -> Model:
        """Find a model that sequences can begin on.

        Raises:
            InputError: the name is empty. The catalog would take the default model, unknown to the client.
        """
        if not name:
            raise InputError("the model's name is empty: name a model of the repository index")
        return self._catalog.get(name, version or None)

    def counts(self, name: str, version: str) -> Statistics:
        """Return the statistics of a model's version."""
        found = self._statistics.get((name, version))
        if found is None:
            found = self._statistics[name, version] = Statistics()
        return found


def _configured(tensor: tuple[str, str, list[int]]) -> dict[str, Any]:
    name, datatype, dims = tensor
    return {"name": name, "data_type": f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}", "dims": dims}


def _entry(name: str, version: str, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}
