"""Mutants of the syntax tree: small mistakes, by pattern, at places that a seed chooses."""

from __future__ import annotations

import ast
import difflib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

TELLING = ("log.", "counters.", "timings.", "warnings.")
"""What has one of these is left alone: nobody's reply depends on it."""

SIMULATED = (
    "service/admission",
    "service/batching",
    "service/carried/sessions.py",
    "service/ingress.py",
    "service/live/machine.py",
    "service/live/many.py",
    "service/registry",
    "service/session",
    "service/store/file.py",
    "service/store/redis",
    "service/store/session_store.py",
    "service/api/streaming",
    "hetsyn_client/many.py",
    "hetsyn_client/protocol",
)
"""What the simulator runs: sessions, stores, scheduler, carried and live protocols."""

PRODUCT = ("service", "hetsyn_client", "export", "hetsyn_model")

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
OTHER_SIDE: dict[type[ast.cmpop], str] = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}
COUNTERPART: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        path: of the file, in the repository.
        pattern: its name in ``PATTERNS``.
        start, end: place of the text in the file, in characters.
        text: what stands there then.
    """

    path: str
    line: int
    pattern: str
    start: int
    end: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line} {self.pattern}"

    def source(self) -> str:
        """Return the file with the mistake."""
        source = (ROOT / self.path).read_text()
        return f"{source[: self.start]}{self.text}{source[self.end :]}"

    def patch(self) -> str:
        """Return the mistake as a patch."""
        before, after = (text.splitlines(keepends=True) for text in ((ROOT / self.path).read_text(), self.source()))
        return f"diff --git a/{self.path} b/{self.path}\n" + "".join(
            difflib.unified_diff(before, after, f"a/{self.path}", f"b/{self.path}")
        )


def _dropped_operand(node: ast.AST) -> Iterator[str]:
    """One part of a condition is forgotten."""
    if isinstance(node, ast.BoolOp):
        for left_out in range(len(node.values)):
            rest = [value for index, value in enumerate(node.values) if index != left_out]
            yield ast.unparse(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))


def _off_by_one(node: ast.AST) -> Iterator[str]:
    """A bound is taken for the other side of it."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OTHER_SIDE:
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        yield f"{left} {OTHER_SIDE[type(node.ops[0])]} {right}"


def _forgotten_one(node: ast.AST) -> Iterator[str]:
    """A sum or a difference forgets its 1."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and _is_one(node.right):
        yield ast.unparse(node.left)


def _is_one(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1 and isinstance(node.value, int)


def _turned_comparison(node: ast.AST) -> Iterator[str]:
    """A comparison asks for the opposite."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COUNTERPART:
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        yield f"{left} {COUNTERPART[type(node.ops[0])]} {right}"


def _swapped_branches(node: ast.AST) -> Iterator[str]:
    """The two values of a condition are swapped."""
    if isinstance(node, ast.IfExp):
        yield f"{ast.unparse(node.orelse)} if {ast.unparse(node.test)} else {ast.unparse(node.body)}"


def _other_branch(node: ast.AST) -> Iterator[str]:
    """A statement with two branches takes the other one."""
    if isinstance(node, ast.If) and node.orelse and not isinstance(node.orelse[0], ast.If):
        yield ast.unparse(ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse))


def _swallowed_exception(node: ast.AST) -> Iterator[str]:
    """An exception is caught, and nothing follows."""
    if isinstance(node, ast.ExceptHandler) and not isinstance(node.body[0], ast.Pass):
        yield ast.unparse(ast.ExceptHandler(node.type, None, [ast.Pass()]))


def _forgotten_call(node: ast.AST) -> Iterator[str]:
    """Something is not released, woken, told or counted."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
        yield "pass"


def _forgotten_state(node: ast.AST) -> Iterator[str]:
    """A field or an item keeps its value."""
    places = [node.target] if isinstance(node, ast.AugAssign) else node.targets if isinstance(node, ast.Assign) else []
    if places and all(isinstance(place, ast.Attribute | ast.Subscript) for place in places):
        yield "pass"


def _goes_on(node: ast.AST) -> Iterator[str]:
    """An error is not raised, or a function or a loop goes on where it should leave."""
    if isinstance(node, ast.Raise | ast.Continue | ast.Break) or (isinstance(node, ast.Return) and node.value is None):
        yield "pass"


def _returns_early(node: ast.AST) -> Iterator[str]:
    """A function without a result returns before its last statement."""
    if isinstance(node, ast.Expr | ast.Assign | ast.AugAssign | ast.For | ast.If):
        yield "return"


PATTERNS: dict[str, Callable[[ast.AST], Iterator[str]]] = {
    "dropped operand": _dropped_operand,
    "off by one": _off_by_one,
    "forgotten one": _forgotten_one,
    "turned comparison": _turned_comparison,
    "swapped branches": _swapped_branches,
    "other branch": _other_branch,
    "swallowed exception": _swallowed_exception,
    "forgotten call": _forgotten_call,
    "forgotten state": _forgotten_state,
    "goes on": _goes_on,
    "returns early": _returns_early,
}


def chosen(paths: Sequence[str], seed: int, count: int) -> list[Mutant]:
    """Choose mutants of some files and folders: a pattern first, so that rare ones come as often as the others."""
    draw = random.Random(seed)
    by_pattern: dict[str, list[Mutant]] = {name: [] for name in PATTERNS}
    for path in paths:
        found = [ROOT / path] if path.endswith(".py") else sorted((ROOT / path).rglob("*.py"))
        for file in found:
            for mutant in mutants(file):
                by_pattern[mutant.pattern].append(mutant)
    kinds = [name for name, found in by_pattern.items() if found]
    result: dict[Mutant, None] = {}
    while len(result) < count:
        result[draw.choice(by_pattern[draw.choice(kinds)])] = None
    return list(result)


def spread(paths: Sequence[str], seed: int, count: int) -> list[Mutant]:
    """Choose mutants of some files and folders, as many of each."""
    parts = [count // len(paths) + (index < count % len(paths)) for index in range(len(paths))]
    return [mutant for path, part in zip(paths, parts, strict=True) for mutant in chosen([path], seed, part)]


def mutants(file: Path) -> Iterator[Mutant]:
    """Yield all mutants of a file."""
    source = file.read_text()
    lines = [0]
    for line in source.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    encoded = source.encode()

    def place(line: int, column: int) -> int:
        return len(encoded[: lines[line - 1] + column].decode())

    name = str(file.relative_to(ROOT))
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, FUNCTIONS) or function.name == "__init__":
            continue  # an object without its fields fails at once
        has_result = function.returns is None or ast.unparse(function.returns) != "None"
        lasts = function.body[-1:] if len(function.body) > 1 and not has_result else []
        for node in _own(function):
            text = ast.unparse(node)
            if any(each in text for each in TELLING) or not isinstance(node, ast.stmt | ast.expr | ast.ExceptHandler):
                continue
            for pattern, changed in PATTERNS.items():
                if pattern == "returns early" and node not in lasts:
                    continue
                for after in changed(node):
                    start = place(node.lineno, node.col_offset)
                    end = place(node.end_lineno or 0, node.end_col_offset or 0)
                    text = f"({after})" if isinstance(node, ast.expr) else _indented(after, node.col_offset)
                    yield Mutant(name, node.lineno, pattern, start, end, text)


def _indented(statement: str, columns: int) -> str:
    first, *rest = statement.split("\n")
    return "\n".join([first, *(f"{' ' * columns}{line}" for line in rest)])


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, but not those of functions within it."""
    for part in getattr(node, "body", ()) if isinstance(node, FUNCTIONS) else ast.iter_child_nodes(node):
        if not isinstance(part, FUNCTIONS):
            yield part
            yield from _own(part)
