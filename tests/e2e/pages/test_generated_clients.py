"""Clients that usual generators make of ``/openapi.json``: they answer a recording, and know the form of a problem."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.paths import RECORDINGS
from tests.support.tools import GENERATORS, NO_OPENAPI_PYTHON_CLIENT, NO_OPENAPI_TYPESCRIPT

pytestmark = pytest.mark.process

MODULES, PYTHON = GENERATORS / "node_modules", GENERATORS / "python/bin/python"
TYPESCRIPT = """
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [url, recording] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url });
const input = { kind: "audio", encoding: "wav", data: readFileSync(recording!).toString("base64") } as const;
const { data, error } = await client.POST("/infer", { body: { end: true, input } });
if (data === undefined) throw new Error(error.detail);
console.log(data.label);
const wrong = await client.POST("/infer", { body: { session: "none", seq: 3, input } });
console.log(wrong.error?.status, wrong.error?.detail);
"""
PYTHON_CLIENT = """
import base64, pathlib, sys
from made import Client, models
from made.api.streaming import infer_infer_post as infer

client = Client(base_url=sys.argv[1])
sound = base64.b64encode(pathlib.Path(sys.argv[2]).read_bytes()).decode()
Body, Audio = models.InferInferPostJsonInferBody, models.InferInferPostJsonInferBodyAudioInput
kind = models.InferInferPostJsonInferBodyAudioInputEncoding.WAV
input_ = Audio(kind="audio", encoding=kind, data=sound)
print(infer.sync(client=client, body=Body(end=True, input_=input_)).label)
wrong = infer.sync(client=client, body=Body(session="none", seq=3, input_=input_))
print(wrong.status, wrong.detail)
"""


def run(folder: Path, *command: str | Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def described(url: str, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_bytes(httpx.get(f"{url}/openapi.json").content)
    return path


@pytest.mark.skipif(not (MODULES / "openapi-typescript").exists(), reason=NO_OPENAPI_TYPESCRIPT)
def test_openapi_typescript(url: str, described: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "client.ts").write_text(TYPESCRIPT)
    run(tmp_path, MODULES / ".bin/openapi-typescript", described, "-o", "schema.d.ts")
    options = ("--module", "nodenext", "--target", "es2022", "--types", "node", "--skipLibCheck")
    run(tmp_path, MODULES / ".bin/tsc", "--strict", *options, "client.ts")
    label, refused = run(tmp_path, "node", "client.js", url, RECORDINGS / "seven.wav")
    assert (label, refused[:4]) == ("seven", "404 ")
    assert "no session 'none'" in refused


@pytest.mark.skipif(not PYTHON.exists(), reason=NO_OPENAPI_PYTHON_CLIENT)
def test_openapi_python_client(url: str, described: Path, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(PYTHON_CLIENT)
    (tmp_path / "config.yml").write_text("post_hooks: []")  # it would format what it has made
    options = ("--config", "config.yml", "--meta", "none", "--output-path", "made")
    run(tmp_path, PYTHON, "-m", "openapi_python_client", "generate", "--path", described, *options)
    label, refused = run(tmp_path, PYTHON, "client.py", url, RECORDINGS / "seven.wav")
    assert (label, refused[:4]) == ("seven", "404 ")
    assert "no session 'none'" in refused
