"""Operations of a model in ``hetsyn inspect``: what it shows, and where it cannot know."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from export.inspection.commands import inspect
from export.inspection.energy import Energy, cells, energy_of
from export.inspection.operations import count
from service.contract.artifact import GOLDEN, Artifact
from service.contract.folder import newest_artifact
from tests.support.artifact import write_artifact
from tests.support.leaky_values import write_leaky
from tests.support.paths import DOCS, MODELS

NAMES = [path.name for path in sorted(MODELS.glob("*/")) if path.is_dir()]
BANK_ALONE = [name for name in NAMES if not list(MODELS.glob(f"{name}/*/exact.onnx"))]


def shipped(name: str) -> tuple[Artifact, Energy]:
    artifact = newest_artifact(MODELS / name)
    energy = energy_of(artifact)
    assert energy is not None
    return artifact, energy


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BANK_ALONE])
def test_a_shipped_model(name: str) -> None:
    artifact, energy = shipped(name)
    manifest = artifact.manifest
    layers = dict(zip([*(f"hidden{n + 1}" for n in range(len(manifest.hidden))), "readout"],
                      [*manifest.hidden, manifest.outputs], strict=True))  # fmt: skip
    inputs = [manifest.input.channels, *manifest.hidden]
    synapses = sum(n * i for n, i in zip(layers.values(), inputs, strict=True)) + sum(n * n for n in manifest.hidden)
    exact, bank = energy.rows["exact"], energy.rows["bank"]
    sizes = manifest.forms["bank"].bank_sizes
    assert exact.synaptic_decays == exact.dense == synapses
    assert bank.synaptic_decays == sum(sizes[name] * neurons for name, neurons in layers.items())
    assert exact.neuron_decays == bank.neuron_decays == sum(manifest.hidden)
    for form, described in manifest.forms.items():
        decision = sum(tensor.bytes for tensor in described.state if tensor.name.startswith("decision."))
        row = energy.rows[form]
        assert row.state_bytes_read == row.state_bytes_written == described.state_bytes - decision
    golden = np.load(io.BytesIO(artifact.read(GOLDEN)))
    inside = np.arange(golden["spikes"].shape[1]) < golden["steps"][:, None]
    assert energy.sources["input"][0] == inputs[0]
    assert energy.sources["input"][1] == pytest.approx(golden["spikes"][inside].sum(1).mean())
    assert (energy.streams, energy.steps, energy.problem) == (len(inside), inside.sum(), None)
    assert [name for name in energy.sources if name != "input"] == list(layers)[:-1]
    lstm = [[int(n) for n in row.split()[1].split("-")] for row in energy.rows if row.startswith("LSTM")]
    assert lstm[0] == list(manifest.hidden)
    assert sum(lstm[1]) < sum(lstm[0])
    assert energy.rows[f"LSTM {'-'.join(map(str, lstm[1]))}"].dense < 2 * synapses
    for row in energy.rows.values():
        assert row.effective_acs + row.effective_macs <= row.dense


def test_the_claim_of_the_bank() -> None:
    """119,552 multiplications a step by the decays of synapses, 848 by those of the bank, whatever the spikes."""
    _, energy = shipped("shd-words")
    for rate in (0.0, 0.05, 1.0):
        decays = {
            form: count(energy.works[form], dict.fromkeys(energy.sources, rate)).synaptic_decays
            for form in ("exact", "bank")
        }
        assert decays == {"exact": 119_552, "bank": 848}


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


def test_inspect_shows_it(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = CliRunner().invoke(inspect, [str(MODELS / "shd-words"), "--html", str(page)], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    table = done.output.partition("operations of a step")[2]
    assert re.search(r"exact +119,552 +0 +[\d,]+ +119,744 ", table)
    assert re.search(r"bank +478,208 +0 +[\d,]+ +1,040 ", table)
    assert "…" not in table
    assert "input 5.83 of 700" in table
    text = page.read_text()
    assert "<h2>Operations of a step</h2>" in text
    assert "<td>bank</td><td>478,208</td><td>0</td>" in text
    done = CliRunner().invoke(inspect, [str(MODELS / "shd-words"), "--json"])
    operations = json.loads(done.output)["operations"]
    assert operations["step"]["bank"]["multiplications"] == 848 + 192
    assert operations["sources"]["hidden1"]["units"] == 128


def test_without_a_runtime_the_step_has_no_spikes() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'onnx', 'onnxruntime'))\n"
        "from export.inspection.commands import inspect\n"
        f"inspect([{str(MODELS / 'delayed-match')!r}, '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    operations = json.loads(done.stdout)["operations"]
    assert "its spikes were not measured: " in operations["problem"]
    assert "'.[cpu]'" in operations["problem"]
    assert operations["sources"]["input"] == {"units": 30, "spikes": None}
    assert operations["step"]["exact"]["effective_acs"] == 0
    assert operations["step"]["exact"]["synaptic_decays"] == 30 * 100 + 100 * 100 + 100 * 2


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
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / GOLDEN).write_bytes(content)
    manifest["files"][GOLDEN] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    energy = energy_of(Artifact.open(folder))
    assert energy is not None
    return energy


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


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


def test_the_page_has_the_figures_of_the_words(page: str) -> None:
    _, energy = shipped("shd-words")
    tables = rows_of(page, 8)
    for name, row in energy.rows.items():
        assert tables[name] == cells(row), name
    exact, bank = energy.rows["exact"], energy.rows["bank"]
    traffic = [row.weight_bytes_read + row.state_bytes_read + row.state_bytes_written for row in (exact, bank)]
    assert f"1/{traffic[0] / traffic[1]:.0f} of the bytes" in page
    silent = {name: count(energy.works[name], dict.fromkeys(energy.sources, 0.0)) for name in ("exact", "bank")}
    assert f"and {silent['exact'].additions / exact.additions:.0%} of its additions" in page
    assert f"and {silent['bank'].additions / bank.additions:.0%} of its additions" in page
    dense = {name: count(energy.works[name], dict.fromkeys(energy.sources, 1.0)) for name in silent}
    assert dense["bank"].arithmetic_nj < dense["exact"].arithmetic_nj  # even if every unit spikes


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_the_figures_of_every_model(name: str, page: str) -> None:
    _, energy = shipped(name)
    forms = [energy.rows.get(row) for row in ("exact", "bank")]
    figures = [
        "" if row is None else f"{getattr(row, kind):,.0f}"
        for kind in ("multiplications", "effective_acs")
        for row in forms
    ]
    figures += ["" if row is None else f"{row.arithmetic_nj:.1f}" for row in (*forms, energy.rows["LIF"])]
    assert rows_of(page, 8)[name] == figures


@pytest.mark.parametrize("name", BANK_ALONE)
def test_a_model_without_an_exact_form(name: str) -> None:
    artifact, energy = shipped(name)
    manifest, bank = artifact.manifest, energy.rows["bank"]
    assert "exact" not in energy.rows
    sizes, neurons = manifest.forms["bank"].bank_sizes, (*manifest.hidden, manifest.outputs)
    assert bank.synaptic_decays == sum(size * n for size, n in zip(sizes.values(), neurons, strict=True))
