"""``python -m build_support OUTPUT``: build one of the libraries by hand, for measurements and sanitizers.

``--plan`` says what an installation is going to do.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

from build_support.compiling import (
    MODE,
    OPERATORS,
    ROLLOUT,
    BuildError,
    choose_compiler,
    compile_library,
    mode,
    requirements,
    zig,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m build_support", description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", help="the shared library")
    parser.add_argument("--plan", action="store_true", help="build nothing: say how an installation builds")
    parser.add_argument("--library", choices=["operators", "rollout"], default="operators")
    parser.add_argument("--zig", action="store_true", help="build with zig though there is a g++")
    parser.add_argument("--machine", default=platform.machine(), help="with --zig: x86_64 or aarch64")
    arguments = parser.parse_args()
    if arguments.plan:
        print(f"C++ libraries: {plan()}")
        return
    if arguments.output is None:
        parser.error("name the output")
    compiler = zig(arguments.machine) if arguments.zig else choose_compiler()
    library = OPERATORS if arguments.library == "operators" else ROLLOUT
    compile_library(library, compiler, arguments.output)


def plan() -> str:
    try:
        if mode() == "off":
            return f"none, as {MODE}=off says"
        compiler = choose_compiler()
    except BuildError as error:
        return f"none: {error}"
    if requirements():
        return (
            "there is no g++, so pip downloads the compiler zig (100 MB) and builds with it: one to five minutes "
            f"(without access to PyPI: {MODE}=off)"
        )
    return f"built with {compiler.command[0]}"


if __name__ == "__main__":
    main()
