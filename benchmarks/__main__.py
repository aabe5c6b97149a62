"""``python -m benchmarks NAME [--quick] [--json PATH]``: run one benchmark, print its table, keep its JSON."""

from __future__ import annotations

import argparse
import ast
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.support.results import write_results
from tests.support.servers.termination import nothing_stays

NAMES = (
    "compare",
    "engine",
    "gpu",
    "in_process",
    "peers",
    "request_path",
    "service",
    "training",
)


def main() -> None:
    """Run the benchmark that the command line names. No other is imported: with all of them comes torch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name in NAMES:
        command = commands.add_parser(name, help=_question(name).replace("%", "%%"))
        command.add_argument("--quick", action="store_true", help="smaller and shorter")
        command.add_argument("--smoke", action="store_true", help="one round of the smallest size: does it run?")
        command.add_argument("--json", type=Path, help="where the results go")
        if name in sys.argv[1:2]:
            import_module(f"benchmarks.{name}").add_arguments(command)
    arguments = parser.parse_args()
    arguments.quick |= arguments.smoke
    results = import_module(f"benchmarks.{arguments.name}").run(arguments)
    if arguments.smoke:
        results.pop("passed", None)  # so little says nothing of a figure
    if arguments.json is not None:
        write_results(results, arguments.json)
    if results.get("passed") is False:
        sys.exit(1)


def _question(name: str) -> str:
    """Read the first line of a benchmark's docstring, without running its module."""
    found = find_spec(f"benchmarks.{name}")
    assert found is not None
    assert found.origin is not None
    return (ast.get_docstring(ast.parse(Path(found.origin).read_text())) or "").partition("\n")[0]


if __name__ == "__main__":
    with nothing_stays():
        main()
