"""``python -m build_support OUTPUT``: build one of the libraries by hand, for measurements and sanitizers."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

from build_support.compiling import OPERATORS, ROLLOUT, choose_compiler, compile_library, zig


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m build_support", description=__doc__)
    parser.add_argument("output", type=Path, help="the shared library")
    parser.add_argument("--library", choices=["operators", "rollout"], default="operators")
    parser.add_argument("--zig", action="store_true", help="build with zig though there is a g++")
    parser.add_argument("--machine", default=platform.machine(), help="with --zig: x86_64 or aarch64")
    arguments = parser.parse_args()
    compiler = zig(arguments.machine) if arguments.zig else choose_compiler()
    library = OPERATORS if arguments.library == "operators" else ROLLOUT
    compile_library(library, compiler, arguments.output)


if __name__ == "__main__":
    main()
