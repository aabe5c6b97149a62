"""Cells of anybody's through ``export_step``: served, restarted and moved, they answer as the cell itself does."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from hetsyn_client import StreamingClient
from service.contract.artifact import Artifact
from service.runtime.onnx import Array
from tests.support.paths import ROOT
from tests.support.servers.socket_server import serving_from_file
from tests.support.tools import needs_onnxscript

torch = pytest.importorskip("torch", reason="cells are torch modules: pip install torch")

from examples.training import rollout  # noqa: E402
from export import export_step  # noqa: E402
from tests.support.networks.cells import CELLS, LABELS, example_input  # noqa: E402

pytestmark = [pytest.mark.process, needs_onnxscript]

STEPS = 40
# each example's cell, and what its training has to reach in some updates
EXAMPLES = {
    "elm_neuron": ("ElmNeuron", 30, 90),
    "autaptic_gate": ("AutapticGate", 30, 90),
    "temporal_filter": ("TemporalFilter", 30, 90),
    "latent_decoder": ("LatentDecoder", 30, 65),
    "snntorch_network": ("SnnTorchNetwork", 60, 85),
    "kernels.f_lif": ("Served", 30, 85),
    "kernels.dynap_se": ("Served", 30, 85),
}
AT_NIGHT = {"gru", "images", "autaptic_gate", "temporal_filter", "kernels.dynap_se"}  # made as others, or for long
NAMES = [pytest.param(name, marks=pytest.mark.long) if name in AT_NIGHT else name for name in (*CELLS, *EXAMPLES)]


class Made(NamedTuple):
    """An artifact, and the cell that it was made of."""

    name: str
    models: Path
    cell: Any
    initial: Any
    shape: tuple[int, ...]
    is_spikes: bool


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    name, models = request.param, tmp_path_factory.mktemp("models")
    torch.set_num_threads(1)
    torch.manual_seed(4)
    if name in CELLS:
        cell = CELLS[name]()
        x = example_input(name)
        export_step(
            cell, out=models / name / "1", example_input=x, initial_state=cell.initial(), labels=LABELS, decision="last"
        )
        return Made(name, models, cell, cell.initial(), tuple(x.shape[1:]), is_spikes=False)
    if name == "snntorch_network":
        pytest.importorskip("snntorch", reason="this example needs snntorch: pip install --no-deps snntorch")
    module = importlib.import_module(f"examples.{name}")
    kind, updates, share = EXAMPLES[name]
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:

        def exported(cell: Any, **rest: Any) -> Any:
            found.append(cell)  # the trained one
            return export_step(cell, **rest)

        patch.setattr(module, "export_step", exported)
        printed: list[str] = []
        patch.setattr(module, "print", printed.append, raising=False)
        module.main(str(models / name.rpartition(".")[2] / "1"), updates=updates)
    (figure,) = re.findall(r"(-?\d+)%", printed[0])
    assert int(figure) >= share, printed
    assert type(found[0]).__name__ == kind
    channels = module.NEURONS if name == "latent_decoder" else module.CHANNELS
    return Made(name, models, found[0], found[0].initial_state(), (channels,), is_spikes=True)


def rows(made: Made, seed: int = 0) -> Array:
    """[STEPS, *shape], as floats or as spikes."""
    rng = np.random.default_rng(seed)
    if made.is_spikes:
        return (rng.random((STEPS, *made.shape)) < 0.2).astype(np.float32)
    return rng.normal(size=(STEPS, *made.shape)).astype(np.float32)


def expected(made: Made, values: Array) -> Array:
    """The cell's own output at each step, [STEPS, outputs]."""
    if made.is_spikes:
        with torch.no_grad():
            return np.asarray(rollout(made.cell, torch.from_numpy(values)[None])[0])
    state, outputs = made.initial, []
    for row in torch.from_numpy(values):
        with torch.no_grad():
            state, output = made.cell.step(state, row[None])
        outputs.append(output[0].numpy())
    return np.stack(outputs)


def send(made: Made, client: StreamingClient, values: Array, **chunk: Any) -> dict[str, Any]:
    if made.is_spikes:
        times, units = values.nonzero()
        return dict(client.infer_events(len(values), times, units, **chunk))
    return dict(client.infer_values(values.reshape(len(values), -1), **chunk))


def compare(made: Made, answer: dict[str, Any], outputs: Array, steps: int) -> None:
    """An answer after the first ``steps`` steps is what the cell says."""
    if made.name == "latent_decoder":
        np.testing.assert_allclose(answer["readout"], outputs[steps - answer["steps"] : steps], atol=1e-4)
        return
    if made.name == "snntorch_network":
        counts = outputs[16:steps].sum(0)
        powers = np.exp(counts - counts.max())
    else:
        powers = np.exp(outputs[steps - 1] - outputs[steps - 1].max())
    np.testing.assert_allclose(answer["probabilities"], powers / powers.sum(), atol=1e-4)


def class_on_page(name: str) -> str | None:
    """Find the class of exactness of an example in the table of related systems; None where it has no row."""
    file = f"`examples/{name.replace('.', '/')}.py`"
    for line in (ROOT / "docs/explanation/related-systems.md").read_text().splitlines():
        if line.startswith("|") and file in line:
            _, _, _, files, classes, *_ = line.split("|")
            return classes.strip().split("; ")[files.strip().split("; ").index(file)]
    return None


@pytest.mark.parametrize("made", NAMES, indirect=True)
def test_the_page_has_the_class_of_exactness_of_the_manifest(made: Made) -> None:
    folder = made.models / made.name.rpartition(".")[2] / "1"
    assert class_on_page(made.name) in (None, Artifact.open(folder).manifest.network.exactness)


@pytest.mark.parametrize("made", NAMES, indirect=True)
def test_a_session_survives_a_restart_and_moves_between_servers(made: Made, tmp_path: Path) -> None:
    values = rows(made)
    outputs = expected(made, values)
    with serving_from_file(made.models, tmp_path / "sessions.db") as url, StreamingClient(url) as client:
        compare(made, send(made, client, values[:7], session="kept", seq=0), outputs, 7)
    with serving_from_file(made.models, tmp_path / "sessions.db") as url, StreamingClient(url) as client:
        compare(made, send(made, client, values[7:26], session="kept", seq=1), outputs, 26)
        record = httpx.get(f"{url}/sessions/kept/state").content
        ended = send(made, client, values[26:], session="kept", seq=2, end=True)
        compare(made, ended, outputs, STEPS)
    with serving_from_file(made.models, tmp_path / "other.db") as url, StreamingClient(url) as client:
        headers = {"Content-Type": "application/vnd.hetsyn.session"}
        assert httpx.put(f"{url}/sessions/kept/state", content=record, headers=headers).status_code == 201
        moved = send(made, client, values[26:], session="kept", seq=2, end=True)
    assert moved == ended


@pytest.mark.parametrize("made", ["lstm"], indirect=True)
def test_spikes_are_ones_for_a_network_of_values(made: Made, tmp_path: Path) -> None:
    ones = (rows(made) > 0.8).astype(np.float32)
    times, units = ones.nonzero()
    with serving_from_file(made.models, tmp_path / "sessions.db") as url, StreamingClient(url) as client:
        compare(made, dict(client.infer_events(STEPS, times, units, end=True)), expected(made, ones), STEPS)
