"""Which package may import which: the rules of docs/design.md, each held by a test."""

from __future__ import annotations

import ast
import importlib.util
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from tests.support.harness import ROOT

PACKAGE = ROOT / "minici"
LEAVES = frozenset(
    """
    build validation reasons config config_file config_values hosts timestamps durable daemon
    log_handler thread_pool id_counter
    """.split()
)
# What each package and each module at the top may import besides itself. `*` stands for the leaves.
ALLOWED: dict[str, frozenset[str]] = {
    name: frozenset(allowed.split())
    for name, allowed in {
        "output": "*",
        "ui": "*",
        "web": "*",
        "process": "*",
        "files": "*",
        "store": "* output files",
        "checkout": "* process",
        "scheduler": "* store output files web.client",
        "html": "* ui",
        "triggers": "* scheduler store",
        "hooks": "* scheduler store",
        "routes": "* triggers hooks scheduler store output files html web",
        "executor": "* checkout process output web",
        "server": "* triggers hooks store output scheduler routes html web",
        "cli": "*",
        "agent": "* executor checkout process output web",
        "standalone": "*",
        "__main__": "* standalone web.passwords cli",
    }.items()
}
MOST_AT_THE_TOP = 20
IO_MODULES = {"io", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "threading"}
PURE = (
    *("build", "validation", "reasons", "timestamps"),
    *("executor.environment", "executor.masking", "standalone.detect", "cli.bisection"),
    *("scheduler.build_queue", "scheduler.choosing", "scheduler.waiting"),
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """All modules by their name below `minici`, but for the packages' own `__init__`."""
    found = {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert len(found) > 60, f"{package}: where are the modules?"
    return found


MODULES = modules()


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    """What the import statements below a node name, in full."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            assert each.level == 0, "imports are absolute"
            yield from (f"{each.module}.{alias.name}" for alias in each.names)


def imported_modules(module: str) -> set[str]:
    """The modules of minici that a module imports, by their names below `minici`."""
    found = set()
    for name in imported(tree(module)):
        parts = name.split(".")[1:] if name.startswith("minici.") else []
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        if parts:
            found.add(".".join(parts))
    return found


def violation(importer: str, other: str) -> Optional[str]:
    """What is wrong with an import, or None."""
    package, their_package = importer.partition(".")[0], other.partition(".")[0]
    if package == their_package and "." in importer:
        return None
    if package in LEAVES:
        return None if other in LEAVES else f"{importer} is a leaf and must not import {other}"
    allowed = ALLOWED.get(package)
    if allowed is None:
        return f"{importer} has no place in ALLOWED"
    if other in allowed or their_package in allowed or (other in LEAVES and "*" in allowed):
        return None
    return f"{importer} must not import {other}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_keep_to_the_rules(module: str) -> None:
    problems = [violation(module, other) for other in sorted(imported_modules(module))]
    assert not list(filter(None, problems))


@pytest.mark.parametrize(
    "importer, other",
    [
        ("output.writer", "store"),
        ("ui.index", "scheduler.state"),
        ("web.routing", "output.format"),
        ("process.command", "checkout.git"),
        ("store", "scheduler.state"),
        ("checkout.git", "web.client"),
        ("scheduler.state", "ui.i18n"),
        ("scheduler.dispatcher", "web.routing"),
        ("routes.pages", "ui.index"),
        ("routes.pages", "executor.slot"),
        ("executor.slot", "scheduler.state"),
        ("executor.slot", "store"),
        ("server", "agent"),
        ("server", "executor.slot"),
        ("agent", "server"),
        ("agent", "scheduler.state"),
        ("build", "store"),
        ("unknown", "build"),
    ],
)
def test_a_broken_rule_is_found(importer: str, other: str) -> None:
    assert violation(importer, other)


def test_imports_have_no_circle() -> None:
    left = {module: imported_modules(module) for module in MODULES}
    assert sum(map(len, left.values())) > 150
    while left:
        free = {module for module, needed in left.items() if not needed & set(left)}
        assert free, f"a circle of imports among {sorted(left)}"
        left = {module: needed for module, needed in left.items() if module not in free}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_stands_in_a_function(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, FUNCTIONS):
            assert not list(imported(node)), f"{MODULES[module]}, line {node.lineno}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_standard_library_is_imported(module: str) -> None:
    for name in imported(tree(module)):
        top = name.partition(".")[0]
        assert top == "minici" or in_standard_library(top), f"{MODULES[module]} imports {name}"


def in_standard_library(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin in ("built-in", "frozen"):
        return spec is not None
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    origin = os.path.realpath(spec.origin or "")
    own = any(origin.startswith(os.path.realpath(folder) + os.sep) for folder in folders)
    return own and "site-packages" not in origin


@pytest.mark.parametrize("module", [*PURE, *sorted(m for m in MODULES if m.startswith("ui."))])
def test_what_is_pure_touches_nothing(module: str) -> None:
    tops = {name.partition(".")[0] for name in imported(tree(module))}
    assert not tops & {*IO_MODULES, "time"}


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_say_what_a_thing_is_or_does(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    clauses = ("What ", "How ", "Where ", "Whether ", "Who ", "When ", "Why ")
    assert not [text.splitlines()[0] for text in texts if text.startswith(clauses)]


def test_the_top_shows_the_architecture() -> None:
    at_the_top = [path.name for path in PACKAGE.glob("*.py")]
    assert 10 < len(at_the_top) <= MOST_AT_THE_TOP
    for package in {module.partition(".")[0] for module in MODULES if "." in module}:
        assert (PACKAGE / package / "__init__.py").read_bytes() == b"", f"{package} does something"


def test_no_module_hides_one_of_the_standard_library() -> None:
    assert not {"http", "queue", "signal", "select"} & set(MODULES)
