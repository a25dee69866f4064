"""The floors hold: who imports whom, no cycles, and a namesake test for every module.

Every import counts, also one inside a function or under `if TYPE_CHECKING`: a type that the floor
below would need lives too high.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each package, and the packages below it.
FLOORS: Mapping[str, frozenset[str]] = {
    "tuner": frozenset({"trainables", "search_spaces", "ensemble"}),
    "trainables": frozenset({"search_spaces", "ensemble"}),
    "search_spaces": frozenset(),
    "ensemble": frozenset(),
}
# Blending works where none of these is installed; a space is read without a GPU's software.
FORBIDDEN: Mapping[str, frozenset[str]] = {
    "ensemble": frozenset({"torch", "torchvision", "timm", "ray", "optuna", "hydra", "omegaconf"}),
    "search_spaces": frozenset({"torch", "torchvision", "timm", "ray"}),
}
RAY_EDGE = "trainables.fold_trainable"
# Modules without a test of their own name, each with the reason.
NO_NAMESAKE_TEST: Mapping[str, str] = {}


@dataclass(frozen=True)
class Module:
    """One source file: dotted name, path, syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    @property
    def parent(self) -> str:
        """The package that a relative import of one dot starts from."""
        return self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]


@cache
def modules() -> Mapping[str, Module]:
    found = {}
    for package in FLOORS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
            found[name] = Module(name, path, tree)
    return found


def every_import(module: Module) -> Iterator[tuple[str, int]]:
    """Dotted names with their lines, wherever they stand; names in strings where Python imports
    by string."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((name, node.lineno) for name in names_in(node, module))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.lineno


def names_in(node: ast.AST, module: Module) -> list[str]:
    """What an import statement loads. `from a import b` is `a.b` where that is one of our modules
    and `a` otherwise: the name of a submodule is not a use of its package."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    start = node.module or ""
    if node.level:
        base = module.parent.split(".")
        kept = base[: len(base) - node.level + 1]
        start = ".".join([*kept, start] if start else kept)
    full = [f"{start}.{alias.name}" for alias in node.names]
    return [name if name in modules() else start for name in full]


def top_level_imports(module: Module) -> set[str]:
    """Our own modules that importing this one imports, or would for a type checker."""
    found: set[str] = set()
    todo: list[ast.AST] = [module.tree]
    while todo:
        node = todo.pop()
        found.update(names_in(node, module))
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))
    return {name for name in found if name in modules() and name != module.name}


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node. Source: Tarjan 1972."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            component, stack[at:] = stack[at:], []
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def offences(package: str, names: frozenset[str]) -> list[str]:
    """Imports of any of these packages in one of ours, as `file:line imports name`."""
    return [
        f"{module.path.relative_to(ROOT)}:{line} imports {name}"
        for module in modules().values()
        if module.package == package
        for name, line in every_import(module)
        if name.split(".")[0] in names
    ]


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_imports_only_the_floors_below_it(package: str) -> None:
    found = offences(package, frozenset(FLOORS) - FLOORS[package] - {package})
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_the_ground_floor_needs_no_heavy_library(package: str) -> None:
    found = offences(package, FORBIDDEN[package])
    assert not found, "\n".join(found)


def test_ray_is_imported_only_in_tuner_and_in_one_file_of_trainables() -> None:
    edge = str(modules()[RAY_EDGE].path.relative_to(ROOT))
    found = offences("trainables", frozenset({"ray"}))
    found = [line for line in found if not line.startswith(f"{edge}:")]
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = cycles({name: top_level_imports(module) for name, module in modules().items()})
    assert not found, "\n".join(" <-> ".join(circle) for circle in found)


def test_a_circle_of_imports_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"a"}}
    assert cycles(graph) == [["a", "b", "c"]]


def test_lazy_relative_and_named_imports_are_seen() -> None:
    source = """
def work():
    import ray.tune
    from . import folds
    from .loop import run
    importlib.import_module("torch.nn")
"""
    module = Module("trainables.x", ROOT / "trainables" / "x.py", ast.parse(source))
    seen = {name for name, _ in every_import(module)}
    assert seen == {"ray.tune", "trainables.folds", "trainables.loop", "torch.nn"}
    assert top_level_imports(module) == set()


def test_every_module_has_a_docstring() -> None:
    missing = [name for name, module in modules().items() if not ast.get_docstring(module.tree)]
    assert missing == []


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {
        name: len(module.path.read_text(encoding="utf-8").splitlines())
        for name, module in modules().items()
    }
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_module_with_code_has_its_namesake_test() -> None:
    missing = [
        f"{module.name}: no {test.relative_to(ROOT)}"
        for module in modules().values()
        if has_code(module.tree) and module.name not in NO_NAMESAKE_TEST
        if not (test := namesake_test(module)).exists()
    ]
    assert not missing, "\n".join(missing)


def test_every_exception_from_the_namesake_rule_is_needed() -> None:
    unneeded = [
        name
        for name in NO_NAMESAKE_TEST
        if name not in modules() or namesake_test(modules()[name]).exists()
    ]
    assert unneeded == []


def has_code(module: ast.Module | ast.ClassDef) -> bool:
    """Anything but docstrings, imports, `__all__` and classes that hold no more than that."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            if has_code(node):
                return True
        elif isinstance(node, ast.Assign):
            if ast.unparse(node.targets[0]) != "__all__":
                return True
        elif isinstance(node, ast.Expr):
            if not isinstance(node.value, ast.Constant):
                return True
        elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
            return True
    return False


def namesake_test(module: Module) -> Path:
    """tests/tuner/report/test_page.py for tuner/report/page.py."""
    relative = module.path.relative_to(ROOT)
    return ROOT / "tests" / relative.parent / f"test_{relative.stem.strip('_')}.py"


def test_the_command_line_answers_without_loading_torch_or_ray() -> None:
    """`foldblend --help` is immediate; torch and Ray take seconds."""
    code = "import sys, tuner.cli; print(sorted({'torch', 'timm', 'ray'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
