"""Say whether the operators are built and usable."""

from __future__ import annotations

from service.operators import BUILD, library
from service.runtime import operators_problem


def main() -> None:
    built = library()
    if built is None:
        print(f"operators: not built, plain ONNX takes over, some ten times slower. To build them: {BUILD}")
        return
    problem = operators_problem()
    print(f"operators: {built.name}" if problem is None else f"operators: {built.name} cannot be used: {problem}")


if __name__ == "__main__":
    main()
