"""What the network says of an input is described in one place: a member that is added there is everywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.tools import NO_TRITONCLIENT

NAME = "certainty"
BEFORE, AFTER = "    probabilities: Annotated[\n", '{"label": label, '


@pytest.mark.process
@pytest.mark.skipif(find_spec("tritonclient") is None, reason=NO_TRITONCLIENT)
@pytest.mark.parametrize("name", [NAME, "probabilities"])
def test_a_member_that_is_added_in_one_place_is_everywhere(tmp_path: Path, name: str) -> None:
    shutil.copytree(ROOT / "hetsyn_client", tmp_path / "hetsyn_client")
    file = tmp_path / "hetsyn_client/results.py"
    text = file.read_text()
    member = f'    {NAME}: Annotated[float | None, Says("always 0")]\n'
    value = f'"{NAME}": 0.0 if probabilities else None, '  # 0 is a value: no way may leave it out
    for place, new in ((BEFORE, member + BEFORE), (AFTER, AFTER + value)):
        assert text.count(place) == 1
        text = text.replace(place, new)
    if name == NAME:
        file.write_text(text)
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    command = [sys.executable, "-m", "tests.support.repository.new_member", name]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert len(seen) >= 18
    if name == NAME:
        assert [where for where, has_it in seen.items() if not has_it] == []
    else:  # which ``/streams`` has in a column, and a test that always finds its member would find here
        assert [where for where, has_it in seen.items() if not has_it] == [
            "/streams",
            "/streams, plain",
            "/streams, end",
        ]
