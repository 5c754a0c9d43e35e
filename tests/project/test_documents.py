"""docs/reliability.md says what is so: its tests exist, and its log lines are those of the code.

The tests that docs/security.md names exist too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.harness import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"tests/((?:\w+/)?test_\w+)\.py|`(test_\w+)`")
FAULTS = range(1, 45)
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}

# A template is what stands between its fields: "build %d: %s" is ("build ", ": ", "").
Template = tuple[str, ...]
FIELD = re.compile(r"%[-.\d]*[a-z]")
PLACEHOLDER = re.compile(r"[A-Z0-9]+")
FEWEST_LETTERS = 4  # in what may stand for a part of a line: less fits everything


# The tests.


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def claims(page: str) -> list[tuple[str, str]]:
    """The tests that a page names, each with the file named last before it."""
    found, file = [], ""
    for match in NAMED.finditer(page):
        file = match[1] or file
        if match[2]:
            found.append((file, match[2]))
    return found


ALL = claims(PAGE) + claims(SECURITY)


def test_the_pages_name_tests() -> None:
    assert len(claims(PAGE)) > 80 and len(claims(SECURITY)) > 40


@pytest.mark.parametrize("file", sorted({file for file, _ in ALL}))
def test_every_test_that_is_named_exists(file: str) -> None:
    path = ROOT / "tests" / f"{file}.py"
    assert path.is_file(), f"no {path.name}"
    missing = {name for claimed, name in ALL if claimed == file} - functions(path)
    assert not missing, f"{path.name} has no {sorted(missing)}"


def test_every_rule_of_the_life_of_a_build_is_spoken_of() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    life = contract[contract.index("## 5.") :]
    rules = {int(number) for number in re.findall(r"^(\d+)\. ", life, re.MULTILINE)}
    spoken = {
        int(number)
        for each in re.findall(r"Rules? (\d+(?: and \d+)?)\.", PAGE)
        for number in re.findall(r"\d+", each)
    }
    assert rules and rules == spoken


def test_every_fault_has_a_test_of_its_number() -> None:
    assert f"{FAULTS[0]} to {FAULTS[-1]}" in PAGE, "the page claims all of them"
    files = list((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 60
    names = {name for path in files for name in functions(path)}
    covered = {
        int(found[1]) for found in (re.match(r"test_fault_(\d+)_", n) for n in names) if found
    }
    assert covered == set(FAULTS)


# The lines. A line of the page fits a template of the code if each field of it is a placeholder in
# capitals, a number, nothing, or itself fits a text of the code: the reasons are made elsewhere.


def quoted(heading: str) -> list[str]:
    """The lines in the first column of the table below a heading."""
    section = PAGE.split(f"\n### {heading}", 1)[1].split("\n#", 1)[0]
    rows = [row for row in section.splitlines() if row.startswith("| `")]
    columns = [row.split(" | ", 1)[0] for row in rows]
    return [found[2] for each in columns for found in re.finditer(r"(`+)(.+?)\1", each)]


def template(node: ast.AST) -> Template:
    """The template of a text in the code; empty if the node is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
        text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        return tuple(FIELD.split(text.rstrip("\n")))
    if not isinstance(node, ast.JoinedStr):
        return ()
    parts = [""]
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts[-1] += str(value.value)
        else:
            parts.append("")
    return tuple(parts)


def trees() -> Iterator[ast.Module]:
    paths = sorted((ROOT / "minici").rglob("*.py"))
    assert len(paths) > 60
    for path in paths:
        yield ast.parse(path.read_text(encoding="utf-8"))


def is_log_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr in LEVELS) == ("log", True)
    )


def logged(function: ast.AST) -> Iterator[Template]:
    """What a function logs: the format strings of its calls, also by way of a variable."""
    variables = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(function):
        if is_log_call(node):
            assert isinstance(node, ast.Call)
            for argument in node.args[:2]:  # the level comes before the format in log.log
                name = argument.id if isinstance(argument, ast.Name) else ""
                yield template(variables.get(name, argument))


@cache
def log_templates() -> frozenset[Template]:
    functions = (node for tree in trees() for node in ast.walk(tree))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {each for node in functions if isinstance(node, kinds) for each in logged(node)}
    return frozenset(each for each in found if "".join(each).strip())


@cache
def texts() -> frozenset[Template]:
    return frozenset(template(node) for tree in trees() for node in ast.walk(tree)) - {()}


@cache
def telling_texts() -> frozenset[Template]:
    letters = {parts: sum(each.isalpha() for each in "".join(parts)) for parts in texts()}
    return frozenset(parts for parts, count in letters.items() if count >= FEWEST_LETTERS)


@cache
def may_fill(text: str) -> bool:
    """Whether a text may stand in a field."""
    if not text or PLACEHOLDER.fullmatch(text):
        return True
    if text.startswith(" (") and text.endswith(")") and (" (", ")") in texts():
        return may_fill(text[2:-1])
    return (text,) in texts() or any(fits(text, each) for each in telling_texts())


def fits(text: str, parts: Template) -> bool:
    if not text.startswith(parts[0]):
        return False
    return _fits_behind(text[len(parts[0]) :], parts[1:])


def _fits_behind(text: str, parts: Template) -> bool:
    """Whether a field, the first of `parts`, and what is behind that make up the text."""
    if not parts:
        return not text
    ends = [n for n in range(len(text) + 1) if text.startswith(parts[0], n)]
    return any(
        _fits_behind(text[end + len(parts[0]) :], parts[1:]) and may_fill(text[:end])
        for end in ends
    )


LOGS = ("In the server's log", "In an agent's log")


@pytest.mark.parametrize("line", [line for heading in LOGS for line in quoted(heading)])
def test_every_log_line_that_is_quoted_is_written_by_the_code(line: str) -> None:
    assert any(fits(line, each) for each in log_templates()), "no such format string in minici/*.py"


@pytest.mark.parametrize("line", quoted("On stderr"))
def test_every_last_word_that_is_quoted_is_a_text_of_the_code(line: str) -> None:
    assert any(fits(line, each) for each in telling_texts())


@pytest.mark.parametrize(
    "line", ["build N: agent AGENT fled; back in the queue", "build N is damaged", "all is well"]
)
def test_a_line_that_nobody_writes_is_found_out(line: str) -> None:
    assert not any(fits(line, each) for each in log_templates())


def test_the_tables_are_there() -> None:
    assert len(quoted(LOGS[0])) > 30 and len(quoted(LOGS[1])) > 15 and quoted("On stderr")
