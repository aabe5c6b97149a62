"""Triton's sequence batcher on the CPU, with one model: ``exact`` (the step graph) or ``bank`` (our bank graph).

The binary and the Python backend come from the wheel nvidia-pytriton, which has no ONNX Runtime backend. The model runs
in the Python backend, one instance a core, under the ``oldest`` strategy: a sequence is bound to an instance, and the
waiting requests of an instance make a batch. Two other settings were slower: ``direct`` also runs its empty slots; and
with more candidates than ``--sequences`` divided by the instances, one instance gets every sequence and the others are
idle (183 instead of 294 chunks a second on two cores).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from math import ceil
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = """
backend: "python"
max_batch_size: {candidates}
input [{{ {input}, allow_ragged_batch: true }}]
output [{{ name: "probabilities", data_type: TYPE_FP32, dims: [-1] }}]
instance_group [{{ kind: KIND_CPU, count: {instances} }}]
parameters [
  {{ key: "form", value: {{ string_value: "{form}" }} }},
  {{ key: "graph", value: {{ string_value: "{graph}" }} }}
]
sequence_batching {{
  max_sequence_idle_microseconds: 60000000
  oldest {{ max_candidate_sequences: {candidates}, max_queue_delay_microseconds: 0 }}
  control_input [
    {{ name: "START", control [{{ kind: CONTROL_SEQUENCE_START, int32_false_true: [0, 1] }}] }},
    {{ name: "END", control [{{ kind: CONTROL_SEQUENCE_END, int32_false_true: [0, 1] }}] }},
    {{ name: "CORRID", control [{{ kind: CONTROL_SEQUENCE_CORRID, data_type: TYPE_UINT64 }}] }}
  ]
}}
"""


INPUTS = {
    "chunk": 'name: "chunk", data_type: TYPE_UINT8, dims: [-1]',
    "spikes": 'name: "spikes", data_type: TYPE_BOOL, dims: [-1, -1]',
}
"""Packed events as bytes, or a tensor [steps, channels]."""


def write_repository(folder: Path, name: str, form: str, graph: Path, sequences: int, tensor: str) -> None:
    """Write a model repository with one model."""
    version = folder / name / "1"
    version.mkdir(parents=True)
    instances = os.cpu_count() or 1
    candidates = ceil(sequences / instances)
    config = CONFIG.format(
        form=form, graph=graph.resolve(), instances=instances, candidates=candidates, input=INPUTS[tensor]
    )
    (folder / name / "config.pbtxt").write_text(f'name: "{name}"{config}')
    shutil.copy(Path(__file__).with_name("triton_model.py"), version / "model.py")


def write_backends(folder: Path, package: Path) -> None:
    """Copy the wheel's backends, and put the stub of this Python where the backend looks for it."""
    shutil.copytree(package / "tritonserver/backends", folder)
    stub = package / f"tritonserver/python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(stub / "triton_python_backend_stub", folder / "python")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--form", choices=("exact", "bank"), required=True)
    parser.add_argument("--graph", type=Path, required=True, help="graph of this form: exact step or bank")
    parser.add_argument("--name", help="name of the model (default: its form)")
    parser.add_argument("--input", choices=INPUTS, default="chunk", help="packed events, or a tensor of spikes")
    parser.add_argument("--grpc-port", type=int, help="port of gRPC (default: none)")
    parser.add_argument("--sequences", type=int, default=16, help="sequences that are open at a time")
    parser.add_argument("--folder", type=Path, required=True, help="where the model repository is written")
    arguments = parser.parse_args()

    # not imported, because the package's own code starts processes
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nvidia-pytriton is not installed")
    package = Path(spec.submodule_search_locations[0])
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    name = arguments.name or arguments.form
    write_repository(folder / "models", name, arguments.form, arguments.graph, arguments.sequences, arguments.input)
    write_backends(folder / "backends", package)
    libraries = [sysconfig.get_config_var("LIBDIR"), str(package.parent / "nvidia_pytriton.libs")]
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(libraries),
        # the backend's stub starts an isolated Python, which ignores PYTHONPATH and takes the environment of the first
        # python3 on PATH. It needs the numpy of this environment: with numpy 2 its tensors are wrong
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
    command = [
        str(package / "tritonserver/bin/tritonserver"),
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={arguments.port}",
        *(
            ("--allow-grpc=false",)
            if arguments.grpc_port is None
            else ("--grpc-address=127.0.0.1", f"--grpc-port={arguments.grpc_port}")
        ),
        "--allow-metrics=false",
        "--log-info=false",
        "--exit-timeout-secs=0",
    ]
    os.chdir(ROOT)  # the stub imports our modules from the working directory
    os.execve(command[0], command, environment)  # this process becomes the server: one pid to watch and to end


if __name__ == "__main__":
    main()
