"""The page of ``hetsyn inspect --html``."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from export import export_network
from export.inspection.commands import inspect
from export.inspection.layers import LONGEST_KERNEL_STEPS, Kernel, _BankSynapses, read_layers
from hetsyn_client.errors import InputError
from service.contract.artifact import Artifact
from service.contract.folder import newest_artifact
from tests.support.artifact import write_artifact
from tests.support.artifact_file import rewrite
from tests.support.leaky_values import write_leaky
from tests.support.networks import small_network
from tests.support.paths import MODELS

OF_BANK_ALONE = ("speech-digits", "2")
NAMES = [path.name for path in sorted(MODELS.glob("*/")) if path.is_dir()]


def packed(counts: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    arrays: dict[str, Any] = {"bank.confusion": counts, "exact.confusion": counts}
    np.savez(file, **arrays)
    return file.getvalue()


class Page(HTMLParser):
    """What a page has: its tags that are open at the end, and what it would load or run."""

    VOID = ("meta", "link", "img", "br", "path", "rect", "circle", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe") or any(name in ("src", "href") for name, _ in attributes):
            self.foreign.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page_of(model: Path, out: Path) -> str:
    done = CliRunner().invoke(inspect, [str(model), "--html", str(out)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, (done.output, done.exception)
    text = out.read_text()
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.foreign == []
    assert not re.search(r"@import|url\(|nan|\binf\b", text)
    return text


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model(name: str, tmp_path: Path) -> None:
    text = page_of(MODELS / name, tmp_path / "page.html")
    manifest = newest_artifact(MODELS / name).manifest
    layers = len(manifest.hidden) + 1
    assert text.count("<figcaption>hidden1</figcaption>") == 2
    assert text.count("<svg") == 2 * layers
    assert text.count('aria-label="mean lags of') == text.count('aria-label="kernels of') == layers
    assert "<rect class=" in text[text.index("Time constants") : text.index("Kernels")]
    assert "out of the bank" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert f"{manifest.network.state_bytes:,} bytes" in text


@pytest.mark.parametrize("kind", ["hetsyn", "lif"])
def test_an_exact_network_shows_its_time_constants(kind: str, tmp_path: Path) -> None:
    made = small_network(kind, "last")
    export_network(made, out=tmp_path / "tiny/1", labels=list("abcde"), form="exact", torchscript=False)
    text = page_of(tmp_path / "tiny/1", tmp_path / "page.html")
    assert text.count('aria-label="time constants of') == 3
    assert 'aria-label="kernels of' not in text
    for layer in read_layers(Artifact.open(tmp_path / "tiny/1")):
        assert bool(layer.decays) == (kind == "hetsyn")
        for path, decays in layer.decays.items():
            weights = made.layer(layer.name).get_parameter("r_in" if path == "input" else "r_rec")
            np.testing.assert_allclose(decays, weights.detach().numpy(), rtol=1e-6)


def test_kernels_of_pairs_are_those_of_the_bank() -> None:
    """By sums over steps in place of the closed forms."""
    steps = np.arange(float(LONGEST_KERNEL_STEPS))
    for layer in read_layers(Artifact.open(MODELS.joinpath(*OF_BANK_ALONE))):
        assert 2 <= len(layer.kernels) <= 5
        lags = [kernel.lag_steps for kernel in layer.kernels]
        assert lags == sorted(lags)
        for kernel in layer.kernels:
            current = kernel.at(steps, layer.bank)
            assert np.abs(current).max() == pytest.approx(1.0)
            assert current[np.abs(current).argmax()] > 0
            assert kernel.lag_steps == pytest.approx((steps * current**2).sum() / (current**2).sum(), rel=1e-6)
        every = layer.lag_steps["input"]
        synapses = layer.inputs * layer.neurons
        assert 0.99 * synapses < len(every) <= synapses  # a few have no current
        assert every.min() <= lags[0] <= lags[-1] <= every.max()
        assert list(layer.lag_steps) == ["input", "recurrent"][: 1 + layer.is_recurrent]


def kernels(basis: NDArray[np.float64], decays: NDArray[np.float64]) -> list[Kernel]:
    return _BankSynapses.of(basis, decays).kernels(decays)


def test_a_network_of_somebody_else_shows_what_is_known(tmp_path: Path) -> None:
    write_leaky(tmp_path / "models", "sensor", channels=3)
    text = page_of(tmp_path / "models/sensor", tmp_path / "page.html")
    assert "<h2>Network</h2>" in text
    assert "3 values" in text
    assert "<h2>Time constants</h2>" not in text
    assert "<svg" not in text


def test_names_are_text(tmp_path: Path) -> None:
    write_leaky(tmp_path / "models", "sensor", channels=3)
    manifest = tmp_path / "models/sensor/1/manifest.json"
    manifest.write_text(manifest.read_text().replace('"description": "', '"description": "<script>alert(1)</script>'))
    assert "&lt;script&gt;" in page_of(tmp_path / "models/sensor", tmp_path / "page.html")


def test_confusions_that_are_no_counts_are_left_out(tmp_path: Path) -> None:
    write_leaky(tmp_path / "models", "sensor", channels=3)
    folder = tmp_path / "models/sensor/1"
    labels = len(json.loads((folder / "manifest.json").read_text())["labels"])
    rewrite(folder, "golden.npz", packed(np.ones((labels, labels), int)))
    assert "<h2>Confusion" in page_of(folder, tmp_path / "page.html")
    damaged = [packed(np.full((labels, labels), cell)) for cell in ("<b>", np.nan, 1j)]
    for content in (*damaged, b"PK\x03\x04 damaged"):
        rewrite(folder, "golden.npz", content)
        assert "<h2>Confusion" not in page_of(folder, tmp_path / "page.html")


def test_it_needs_neither_torch_nor_the_runtime(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'matplotlib', 'fastapi'))\n"
        f"sys.argv = ['hetsyn', 'inspect', {str(MODELS / 'delayed-match')!r}, '--html', {str(tmp_path / 'a.html')!r}]\n"
        "import hetsyn\n"
        "hetsyn.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.html").exists()


def test_a_page_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    write_artifact(tmp_path)
    done = CliRunner().invoke(
        inspect, [str(tmp_path / "digits"), "--html", str(tmp_path / "no/page.html")], env={"COLUMNS": "300"}
    )
    assert isinstance(done.exception, InputError)
    assert "make it first" in str(done.exception)
