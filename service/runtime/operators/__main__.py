"""Say whether the operators are built and usable."""

from __future__ import annotations

from service.runtime.cuda import problem as cuda_problem
from service.runtime.onnx import operators_problem
from service.runtime.operators import BUILD, cuda_library, library


def main() -> None:
    built = library()
    if built is None:
        print(f"operators: not built, so plain ONNX runs instead, about ten times slower. To build them: {BUILD}")
    else:
        problem = operators_problem()
        print(f"operators: {built.name}" if problem is None else f"operators: {built.name} cannot be used: {problem}")
    on_gpus = cuda_library()
    if on_gpus is not None:
        problem = cuda_problem()
        print(f"GPU: {on_gpus.name}" if problem is None else f"GPU: {on_gpus.name} cannot be used here: {problem}")


if __name__ == "__main__":
    main()
