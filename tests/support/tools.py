"""Reasons for which tests are skipped on a machine that lacks a tool or a data set: what is missing, and the remedy."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.util import find_spec

import pytest

from build_support.compiling import ZIG
from hetsyn_client.extras import install_command
from service.runtime.operators import BUILD
from tests.support.paths import ROOT
from tests.support.stores.valkey import BINARY, MISSING

RESEARCH = "pip install ./research in the checkout of hetsyn"
NO_VALKEY = MISSING
NO_VALKEY_CLI = "no valkey-cli: apt-get install valkey-tools"
NO_HAPROXY = "no haproxy: apt-get install haproxy"
NO_COMPILER = f"no C++ compiler: apt-get install g++ (or pip install '{ZIG}')"
NO_HEADER = "no header of ONNX Runtime: apt-get install libonnxruntime-dev"
NO_ZIG = f"no zig: pip install '{ZIG}'"
NO_RELEASE_TOOLS = (
    f"no auditwheel, check-wheel-contents or uv, which check and make packages: {install_command('test')}"
)
NO_TERMINALS = "no pseudo-terminals: mount -t devpts devpts /dev/pts"
NO_OPERATOR = f"the operator is not built: {BUILD}"
NO_ROLLOUT = f"the compiled rollout is not built: {BUILD}"
NO_MNIST1D = f"no mnist1d, which makes MNIST-1D: {RESEARCH}"
NO_WATCH = f"no seglearn, which has the recordings of a watch: {RESEARCH}"
NO_NIR = f"no nir, which reads and writes NIR files: {install_command('nir')}"
NO_ONNXSCRIPT = f"no onnxscript, with which torch exports ONNX: {install_command('train')}"
NO_TRITONCLIENT = f"no tritonclient: {install_command('test')}"
NO_KUBERNETES_VALIDATE = f"no kubernetes-validate, which has the schemas: {install_command('test')}"
NO_OTEL = f"no OpenTelemetry SDK: {install_command('otel')}"
NO_PERF_ANALYZER = f"no perf_analyzer, which needs glibc 2.38 (Debian 13): {install_command('test')}"
NO_FASHION_MNIST = "no Fashion-MNIST: apt-get install dataset-fashion-mnist"
NO_RECORDINGS = "no Free Spoken Digit Dataset: put its recordings into ../shared/data/fsdd/recordings"
NO_COMMANDS = "no Google Speech Commands: put a folder for each word into ../shared/data/gsc"
NO_ESPEAK = "no espeak-ng: apt-get install espeak-ng"
ASYNCAPI_SCHEMA = ROOT / ".venv/asyncapi/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"
NO_ASYNCAPI_SCHEMA = "no schema of AsyncAPI: npm install --prefix .venv/asyncapi @asyncapi/specs@6"
CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NO_CHROMIUM = "no Chromium with its driver: apt-get install chromium chromium-driver"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
NO_PROMETHEUS = "no Prometheus: apt-get install prometheus"
AXE = ROOT / ".venv/axe/node_modules/axe-core/axe.min.js"
NO_AXE = "no axe-core: npm install --prefix .venv/axe axe-core@4"
GENERATORS = ROOT / ".venv/openapi"
NO_OPENAPI_TYPESCRIPT = (
    "no openapi-typescript: npm install --prefix .venv/openapi openapi-typescript@7 openapi-fetch@0.17 typescript@5 "
    "@types/node@20"
)
NO_OPENAPI_PYTHON_CLIENT = (
    "no openapi-python-client, which needs another typer than we: python -m venv .venv/openapi/python && "
    ".venv/openapi/python/bin/pip install 'openapi-python-client==0.29.*'"
)
# CI has these, and there their tests may not be skipped
LACKING = (
    NO_VALKEY,
    NO_HAPROXY,
    NO_COMPILER,
    NO_HEADER,
    NO_ZIG,
    NO_RELEASE_TOOLS,
    NO_TERMINALS,
    NO_OPERATOR,
    NO_ROLLOUT,
    NO_NIR,
    NO_PERF_ANALYZER,
    NO_TRITONCLIENT,
    NO_KUBERNETES_VALIDATE,
    NO_OTEL,
    NO_ASYNCAPI_SCHEMA,
    NO_CHROMIUM,
    NO_AXE,
    NO_PROMETHEUS,
    NO_OPENAPI_TYPESCRIPT,
    NO_OPENAPI_PYTHON_CLIENT,
)


# not ``importorskip``, which imports it when tests are collected: that takes a second
needs_onnxscript = pytest.mark.skipif(find_spec("onnxscript") is None, reason=NO_ONNXSCRIPT)


def require_valkey() -> None:
    """Skip the test where there is no Valkey."""
    if BINARY is None:
        pytest.skip(NO_VALKEY)


def cpp_compiler() -> list[str] | None:
    """The command of a C++20 compiler: ``$CXX``, the machine's, else the one of the wheel ziglang; None without any."""
    for command in (shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"]):
        if command and shutil.which(command[0]):
            return command
    return [sys.executable, "-m", "ziglang", "c++"] if find_spec("ziglang") else None
