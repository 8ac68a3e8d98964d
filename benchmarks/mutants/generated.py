"""Every mutation that a few rules make of the code, and a drawing of some of them that is the same for one seed.

The rules are those of mutation testing (DeMillo, Lipton and Sayward 1978): a comparison or a sum turned into its
neighbour, `and` for `or`, a condition turned round, a number that is one more, a statement that is left out. What is
only said (messages, logs, annotations) is left alone, and so are numbers and switches that are somebody's choice: those
of constants and defaults, of which one more is as good.
"""

import ast
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from .catalogue import ROOT, Mutation

PACKAGES = ("shoes", "tasks", "flows")
_COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt(), ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(), ast.Is: ast.IsNot(), ast.IsNot: ast.Is(), ast.In: ast.NotIn(), ast.NotIn: ast.In(),
}  # fmt: skip
_SUMS: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Mult: ast.Div(), ast.Div: ast.Mult(), ast.FloorDiv: ast.Mult(),
    ast.Mod: ast.FloorDiv(),
}  # fmt: skip
NO_FAULTS = {
    "tasks/timeline.py:71: 0.5 → 1.5": "a pause between two looks",
    "shoes/evaluation/curve.py:42: 32 → 33": "a title one pixel further to the right",
    "shoes/device/memory.py:64: sampler.join() → pass": "the thread ends by itself a moment later",
}
"""Drawn, and left out: what they change is no fault. By name, with the reason."""
_SAID = {"log", "logger", "warnings", "click", "print"}


def draw(count: int, seed: int) -> list[Mutation]:
    """Some of all mutations: as many of each package, as far as that goes, and no two in one file."""
    by_package: dict[str, list[Mutation]] = defaultdict(list)
    for file in files():
        made = list(mutations_of(file))
        made = [one for one in made if one.name not in NO_FAULTS]
        if made:
            by_package[package_of(file)].append(random.Random(f"{seed} {file}").choice(made))
    order = random.Random(seed)
    for found in by_package.values():
        order.shuffle(found)
    drawn: list[Mutation] = []
    while len(drawn) < count and any(by_package.values()):
        for name in sorted(by_package):
            if by_package[name]:
                drawn.append(by_package[name].pop())
    return drawn[:count]


def files() -> list[str]:
    """All modules, by their paths within the project."""
    return sorted(
        path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("[!.]*.py")
    )


def package_of(file: str) -> str:
    """shoes/training, tasks …"""
    parts = Path(file).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def mutations_of(file: str) -> Iterator[Mutation]:
    """Every mutation of a module."""
    text = (ROOT / file).read_text(encoding="utf-8")
    for node, changed in _changes(ast.parse(text)):
        if (found := _as_text(text, node, changed)) is not None:
            yield Mutation(f"{file}:{node.lineno}: {found[2]}", "drawn", file, found[0], found[1])


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Nodes with the source that takes their place."""
    for node in _heard(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            swapped = ast.Compare(node.left, [_COMPARISONS[type(node.ops[0])]], node.comparators)
            yield node, ast.unparse(swapped)
        elif isinstance(node, ast.BoolOp):
            yield node, ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node, ast.unparse(node.operand)
        elif isinstance(node, ast.BinOp) and type(node.op) in _SUMS and not _is_text(node) and not _is_path(node):
            yield node, ast.unparse(ast.BinOp(node.left, _SUMS[type(node.op)], node.right))
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, str(not node.value)
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node, repr(node.value + 1)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, "pass"


def _is_text(node: ast.BinOp) -> bool:
    """Strings and paths are put together by the same signs; `|` of types is no sum here."""
    return any(isinstance(side, ast.JoinedStr | ast.List | ast.Tuple) or _is_string(side) for side in ast.walk(node))


def _is_path(node: ast.BinOp) -> bool:
    """A slash without a number beside it most often makes a path."""
    numbers = [side for side in ast.walk(node) if isinstance(side, ast.Constant)]
    return isinstance(node.op, ast.Div) and not numbers


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _heard(node: ast.AST) -> Iterator[ast.AST]:
    """A tree's nodes, without those that only say something, or are a choice."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "defaults", "kw_defaults"):
            continue
        if name == "body" and isinstance(node, ast.Module | ast.ClassDef):
            value = [line for line in value if not isinstance(line, ast.Assign | ast.AnnAssign)]  # noqa: PLW2901
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_said(child) and not _is_option(node, child):
                yield child
                yield from _heard(child)


def _is_option(parent: ast.AST, node: ast.AST) -> bool:
    """A number that is given by name: most=10."""
    return isinstance(parent, ast.keyword) and isinstance(node, ast.Constant) and not isinstance(node.value, bool)


def _is_said(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    if not isinstance(node, ast.Call):
        return False
    called = node.func.value if isinstance(node.func, ast.Attribute) else node.func
    return isinstance(called, ast.Name) and called.id in _SAID


def _as_text(text: str, node: ast.expr | ast.stmt, changed: str) -> tuple[str, str, str] | None:
    """What is replaced by what, with as many lines before it as make it the only such place; and a word of it."""
    if node.lineno != node.end_lineno or node.end_col_offset is None:
        return None  # what goes over several lines would lose its form
    lines = text.splitlines(keepends=True)
    line = lines[node.lineno - 1].encode()
    former = line[node.col_offset : node.end_col_offset].decode()
    if isinstance(node, ast.expr) and len(changed) > 1 and not former.startswith("(") and _needs_brackets(node):
        changed = f"({changed})"
    new = (line[: node.col_offset] + changed.encode() + line[node.end_col_offset :]).decode()
    for first in range(node.lineno - 1, -1, -1):
        before = "".join(lines[first : node.lineno])
        if text.count(before) == 1:
            return before, "".join(lines[first : node.lineno - 1]) + new, f"{former} → {changed}"
    return None


def _needs_brackets(node: ast.expr) -> bool:
    return isinstance(node, ast.BoolOp | ast.BinOp | ast.Compare)
