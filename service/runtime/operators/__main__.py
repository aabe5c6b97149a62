"""Say whether the operators are built and usable."""

from __future__ import annotations

import sys

from service.errors import HetsynError
from service.runtime.cuda import problem as cuda_problem
from service.runtime.onnx import operator_status
from service.runtime.operators import cuda_library


def main() -> None:
    print(operator_status().sentence)
    on_gpus = cuda_library()
    if on_gpus is not None:
        problem = cuda_problem()
        print(f"GPU: {on_gpus.name}" if problem is None else f"GPU: {on_gpus.name} cannot be used here: {problem}")


if __name__ == "__main__":
    try:
        main()
    except HetsynError as error:
        sys.exit(f"hetsyn: {error}")
