"""The notebook runs from its first cell to its last, and the server that it starts agrees with torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hetsyn_client.extras import install_command
from tests.support.paths import ROOT

LIBRARIES = ("nbclient", "ipykernel", "matplotlib", "onnxscript")
LACKING = [library for library in LIBRARIES if find_spec(library) is None]
INSTALL = f"the notebook needs {', '.join(LACKING)}: {install_command('train,test')}"
pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(LACKING), reason=INSTALL)]

NOTEBOOK = ROOT / "examples/hetsyn.ipynb"
RUN = "from nbclient.cli import main; main()"  # what `jupyter execute` runs
SECONDS = 600  # for a cell; the whole takes one minute where nothing else runs


def printed(notebook: Path) -> str:
    """What the cells of a notebook have printed."""
    cells = json.loads(notebook.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def accuracy(text: str, after: str) -> float:
    found = re.search(rf"{after}\s*([\d.]+)%", text)
    assert found is not None, text
    return float(found.group(1))


def test_the_notebook_runs(tmp_path: Path) -> None:
    copy = Path(shutil.copy(NOTEBOOK, tmp_path))
    # nothing may be left in the checkout or in a user's own folders
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, f"--timeout={SECONDS}", "--inplace", str(copy)],
        env=environment | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    text = printed(copy)
    assert accuracy(text, "test:") > 90
    assert accuracy(text, "without the longest tenth:") < accuracy(text, "without the random tenth:") - 10
    assert accuracy(text, "bank of 8 +accuracy") == pytest.approx(accuracy(text, "exact +accuracy"), abs=2)
    multiplications = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) multiplications", text)]
    assert multiplications[0] > 5 * multiplications[1]
    decided = re.search(r"server: (\w+); torch: (\w+); truth: \w+", text)
    assert decided is not None
    assert decided.group(1) == decided.group(2)
    assert "1050 ms" in text


def test_the_kept_outputs_are_those_of_all_cells() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert "server: " in printed(NOTEBOOK)
    assert NOTEBOOK.stat().st_size < 200_000


def test_the_notebook_uses_public_names_alone() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
    ours = [line for line in lines if re.match(r"\s*(from|import) (hetsyn|research|export|service|recipes)", line)]
    assert ours == ["from hetsyn import ("]
