"""Check what tests import: ``python -m build_support.boundary [FOLDER...]``.

Tests speak at boundaries, so that the inside may change without them. The modules of ``PUBLIC`` are the boundaries.
Every other import of the product has a comment on its line, ``# inside: REASON``, and their number is limited.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("hetsyn", "hetsyn_client", "hetsyn_model", "export", "service")

PUBLIC = (
    "hetsyn",
    # the client, its formats and its pure protocols
    "hetsyn_client",
    "hetsyn_client.access",
    "hetsyn_client.carried_frame",
    "hetsyn_client.columns",
    "hetsyn_client.errors",
    "hetsyn_client.events",
    "hetsyn_client.protocol.*",
    "hetsyn_client.results",
    "hetsyn_client.values",
    # the model, and the numerical reference
    "hetsyn_model",
    "hetsyn_model.encoders.encoder",
    "hetsyn_model.spec",
    "hetsyn_model.state",
    "hetsyn_model.training",
    "hetsyn_model.training.checkpoint",
    "hetsyn_model.training.config",
    "hetsyn_model.training.datasets.data",
    # the artifact folder
    "export",
    "export.evaluation",
    "export.parity",
    "service.contract.*",
    # the server as a whole
    "service.app",
    "service.errors",
    "service.settings",
    "service.simulated",
    # the store contract, and the pure protocols of the server
    "service.live.*",
    "service.session.protocol",
    "service.store.base",
    "service.store.url",
)
INNER = ("service.ingress", "service.registry", "service.session", "service.batching", "service.store")
"""What the next redesigns take apart."""

MOST = 250
MOST_INNER = 40
MOST_FILES = 2  # that import one package of INNER
MOST_PATCHES = 10  # of ``monkeypatch.setattr``


@dataclass(frozen=True)
class Import:
    path: Path
    line: int
    module: str
    is_explained: bool

    @property
    def package(self) -> str | None:
        """Return the package of ``INNER`` that it belongs to."""
        return next((name for name in INNER if f"{self.module}.".startswith(f"{name}.")), None)


def main() -> int:
    if sys.argv[1:] == ["--public"]:
        print("\n".join(PUBLIC))
        return 0
    folders = [Path(name).resolve() for name in sys.argv[1:]] or [ROOT / "tests"]
    files = sorted(file for folder in folders for file in ([folder] if folder.is_file() else folder.rglob("*.py")))
    deep = [one for file in files for one in imports(file) if not is_public(one.module)]
    patches = sum(file.read_text().count("monkeypatch.setattr(") for file in files)
    inner: dict[str, set[Path]] = {name: set() for name in INNER}
    for one in deep:
        if one.package is not None:
            inner[one.package].add(one.path)
    complaints = [f"{one.path}:{one.line}: {one.module} is inside" for one in deep if not one.is_explained]
    in_all = sum(one.package is not None for one in deep)
    for what, count, most in (
        ("imports of inner modules", len(deep), MOST),
        (f"imports of {', '.join(INNER)}", in_all, MOST_INNER),
        ("calls of monkeypatch.setattr", patches, MOST_PATCHES),
        *((f"files that import {name}", len(paths), MOST_FILES) for name, paths in inner.items()),
    ):
        print(f"{what}: {count}, and at most {most}")
        if count > most:
            complaints.append(f"too many {what}")
    print("\n".join(complaints), file=sys.stderr)
    return int(bool(complaints))


def imports(file: Path) -> Iterator[Import]:
    """Yield the imports of the product in a file."""
    source = file.read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        else:
            continue
        is_explained = "# inside: " in "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for module in modules:
            if module.partition(".")[0] in PRODUCT:
                yield Import(file.relative_to(ROOT), node.lineno, module, is_explained)


def is_public(module: str) -> bool:
    return any(f"{module}.".startswith(name[:-1]) if name.endswith(".*") else module == name for name in PUBLIC)


if __name__ == "__main__":
    sys.exit(main())
