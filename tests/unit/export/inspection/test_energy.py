"""Operations of a model in ``hetsyn inspect``: what it shows, and where it cannot know."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.evaluation import Evaluation
from export.inspection.commands import inspect
from export.inspection.energy import Energy, cells, energy_of
from export.inspection.operations import count
from export.own_network import CHECKPOINT, Source
from export.own_network import write_artifact as write
from export.parity import Streams
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract.artifact import GOLDEN, Artifact
from service.contract.folder import newest_artifact
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import npz, rewrite
from tests.support.artifacts.leaky_values import write_leaky
from tests.support.paths import DOCS, MODELS

NAMES = [path.name for path in sorted(MODELS.glob("*/")) if path.is_dir()]
BANK_ALONE = ("speech-commands", "speech-digits")  # the page has no figures of their exact networks


def shipped(name: str) -> tuple[Artifact, Energy]:
    artifact = newest_artifact(MODELS / name)
    energy = energy_of(artifact)
    assert energy is not None
    return artifact, energy


@cache
def exact_of(name: str) -> Energy:
    """The trained network of a shipped model, exported in the exact form."""
    shipped = newest_artifact(MODELS / name)
    saved, golden = Checkpoint.load(shipped.folder / CHECKPOINT), np.load(shipped.folder / GOLDEN)
    streams = Streams(torch.from_numpy(golden["spikes"]).float(), torch.from_numpy(golden["steps"]))
    source = Source(saved.network, name, "1", "", shipped.manifest.labels, "")
    with TemporaryDirectory() as folder:
        out = Path(folder) / name / "1"
        write(source, Evaluation(streams), out, form="exact", with_torchscript=False)
        energy = energy_of(Artifact.open(out))
    assert energy is not None
    return energy


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model(name: str) -> None:
    artifact, energy = shipped(name)
    manifest = artifact.manifest
    layers = dict(zip([*(f"hidden{n + 1}" for n in range(len(manifest.hidden))), "readout"],
                      [*manifest.hidden, manifest.outputs], strict=True))  # fmt: skip
    bank, sizes = energy.rows["bank"], manifest.network.bank_sizes
    assert bank.synaptic_decays == sum(sizes[name] * neurons for name, neurons in layers.items())
    decision = sum(tensor.bytes for tensor in manifest.network.state if tensor.name.startswith("decision."))
    assert bank.state_bytes_read == bank.state_bytes_written == manifest.network.state_bytes - decision
    golden = np.load(io.BytesIO(artifact.read(GOLDEN)))
    inside = np.arange(golden["spikes"].shape[1]) < golden["steps"][:, None]
    assert energy.sources["input"][0] == manifest.input.channels
    assert energy.sources["input"][1] == pytest.approx(golden["spikes"][inside].sum(1).mean())
    assert (energy.streams, energy.steps, energy.problem) == (len(inside), inside.sum(), None)
    assert [name for name in energy.sources if name != "input"] == list(layers)[:-1]
    for row in energy.rows.values():
        assert row.effective_acs + row.effective_macs <= row.dense


@pytest.mark.process
def test_the_exact_network_and_the_claim_of_the_bank() -> None:
    """119,552 multiplications a step by the decays of synapses, 848 by those of the bank, whatever the spikes."""
    (_, of_bank), of_exact = shipped("shd-words"), exact_of("shd-words")
    for rate in (0.0, 0.05, 1.0):
        decays = [
            count(energy.works[form], dict.fromkeys(energy.sources, rate)).synaptic_decays
            for form, energy in (("exact", of_exact), ("bank", of_bank))
        ]
        assert decays == [119_552, 848]
    exact = of_exact.rows["exact"]
    assert exact.synaptic_decays == exact.dense
    assert exact.neuron_decays == of_bank.rows["bank"].neuron_decays == 128 + 64
    lstm = [[int(n) for n in row.split()[1].split("-")] for row in of_exact.rows if row.startswith("LSTM")]
    assert lstm[0] == [128, 64]
    assert sum(lstm[1]) < sum(lstm[0])
    assert of_exact.rows[f"LSTM {'-'.join(map(str, lstm[1]))}"].dense < 2 * exact.dense


def test_the_formula_gives_any_rate() -> None:
    _, energy = shipped("delayed-match")
    formula = energy.to_dict()["formula"]
    units = {name: number for name, (number, _) in energy.sources.items()}
    for name, work in energy.works.items():
        counted = count(work, {"input": 0.3, "hidden1": 0.07}).to_dict()
        parts = formula[name]
        for quantity, value in counted.items():
            spikes = {"input": 0.3 * units["input"], "hidden1": 0.07 * units["hidden1"]}
            of_spikes = sum(spikes[source] * each.get(quantity, 0.0) for source, each in parts["spike"].items())
            assert parts["step"][quantity] + of_spikes == pytest.approx(value), (name, quantity)


def test_inspect_shows_it() -> None:
    done = CliRunner().invoke(inspect, [str(MODELS / "shd-words")], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    table = done.output.partition("operations of a step")[2]
    assert re.search(r"bank +478,208 +0 +[\d,]+ +1,040 ", table)
    assert "…" not in table
    assert "input 5.83 of 700" in table
    done = CliRunner().invoke(inspect, [str(MODELS / "shd-words"), "--json"])
    operations = json.loads(done.output)["operations"]
    assert operations["step"]["bank"]["multiplications"] == 848 + 192
    assert operations["sources"]["hidden1"]["units"] == 128


def test_without_a_runtime_the_step_has_no_spikes() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'fastapi', 'uvicorn'))\n"
        "from export.inspection.commands import inspect\n"
        f"inspect([{str(MODELS / 'delayed-match')!r}, '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    described = json.loads(done.stdout)
    assert described["name"] == "delayed-match"
    operations = described["operations"]
    assert "its spikes were not measured: " in operations["problem"]
    assert "'.[cpu]'" in operations["problem"]
    assert operations["sources"]["input"] == {"units": 30, "spikes": None}
    assert operations["step"]["bank"]["effective_acs"] == 0
    assert operations["step"]["LIF"]["dense"] == 30 * 100 + 100 * 100 + 100 * 2


def test_of_layers_that_are_not_ours_nothing_is_said(tmp_path: Path) -> None:
    write_leaky(tmp_path / "models", "sensor", channels=3)
    for model in (tmp_path / "models/sensor", write_artifact(tmp_path / "fakes")):
        done = CliRunner().invoke(inspect, [str(model), "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["operations"] is None
        done = CliRunner().invoke(inspect, [str(model)])
        assert "operations of a step" not in done.output


def with_golden(tmp_path: Path, content: bytes) -> Energy:
    """``delayed-match`` with other golden streams."""
    folder = tmp_path / "delayed-match/1"
    shutil.copytree(MODELS / "delayed-match/1", folder)
    rewrite(folder, GOLDEN, content)
    energy = energy_of(Artifact.open(folder))
    assert energy is not None
    return energy


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"none", "no streams"),
        (b"PK\x03\x04none", "no streams"),
        (npz(steps=np.array([3])), "no streams"),
        (npz(spikes=np.ones((1, 3, 31), np.uint8), steps=np.array([3])), "no streams"),
        (npz(spikes=np.ones((1, 3), np.uint8), steps=np.array([3])), "no streams"),
        (npz(spikes=np.ones((0, 3, 30), np.uint8), steps=np.zeros(0, np.int64)), "no streams"),
        (npz(spikes=np.ones((1, 3, 30), np.uint8), steps=np.array([9])), "no streams"),
        (npz(spikes=np.zeros((9, 8_000, 30), np.uint8), steps=np.full(9, 8_000)), "more than 65,536 steps"),
    ],
    ids=["no-zip", "half-a-zip", "no-spikes", "other-channels", "flat", "empty", "too-short", "too-long"],
)
def test_golden_streams_that_do_not_run(tmp_path: Path, content: bytes, problem: str) -> None:
    energy = with_golden(tmp_path, content)
    assert problem in str(energy.problem)
    assert energy.rows["bank"].effective_acs == 0
    assert energy.conditions.startswith("A step in which nothing spikes: ")


def test_spikes_are_those_within_the_streams(tmp_path: Path) -> None:
    spikes = np.zeros((2, 5, 30), np.uint8)
    spikes[0, :, 0] = 1
    spikes[1, :, 3:6] = 1
    energy = with_golden(tmp_path, npz(spikes=spikes, steps=np.array([5, 2])))
    assert energy.sources["input"][0] == 30
    assert energy.sources["input"][1] == pytest.approx((5 * 1 + 2 * 3) / 7)
    assert (energy.streams, energy.steps) == (2, 7)


def rows_of(page: str, columns: int) -> dict[str, list[str]]:
    """The tables of a page that have so many columns, by their first."""
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in rows if len(rest) == columns - 1}


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "explanation/performance.md").read_text()


@pytest.mark.process
def test_the_page_has_the_figures_of_the_words(page: str) -> None:
    (_, of_bank), of_exact = shipped("shd-words"), exact_of("shd-words")
    tables = rows_of(page, 8)
    for name, row in (of_exact.rows | of_bank.rows).items():
        assert tables[name] == cells(row), name
    exact, bank = of_exact.rows["exact"], of_bank.rows["bank"]
    traffic = [row.weight_bytes_read + row.state_bytes_read + row.state_bytes_written for row in (exact, bank)]
    assert f"1/{traffic[0] / traffic[1]:.0f} of the bytes" in page
    works = {"exact": of_exact.works["exact"], "bank": of_bank.works["bank"]}
    silent = {name: count(work, dict.fromkeys(of_bank.sources, 0.0)) for name, work in works.items()}
    assert f"and {silent['exact'].additions / exact.additions:.0%} of its additions" in page
    assert f"and {silent['bank'].additions / bank.additions:.0%} of its additions" in page
    dense = {name: count(work, dict.fromkeys(of_bank.sources, 1.0)) for name, work in works.items()}
    assert dense["bank"].arithmetic_nj < dense["exact"].arithmetic_nj  # even if every unit spikes


@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_the_figures_of_every_model(name: str, page: str) -> None:
    _, energy = shipped(name)
    of_exact = None if name in BANK_ALONE else exact_of(name)
    forms = [None if of_exact is None else of_exact.rows["exact"], energy.rows["bank"]]
    figures = [
        "" if row is None else f"{getattr(row, kind):,.0f}"
        for kind in ("multiplications", "effective_acs")
        for row in forms
    ]
    lif = energy.rows["LIF"]
    figures += ["" if row is None else f"{row.arithmetic_nj:.1f}" for row in (*forms, lif)]
    assert rows_of(page, 8)[name] == figures
