"""The documents are true: their tests and log lines exist, their examples work, none is too long.

Tests are named by file and function, a `*` standing for the rest of a name; log lines are those
that the code writes.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.project.test_layering import ALLOWED
from tests.support.harness import ROOT

DOCS = ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
RELIABILITY = (DOCS / "reliability.md").read_text(encoding="utf-8")
SECURITY = (DOCS / "security.md").read_text(encoding="utf-8")
DESIGN = (DOCS / "design.md").read_text(encoding="utf-8")
CONTRACT = (DOCS / "protocol.md").read_text(encoding="utf-8")
MOST_WORDS = 1500  # but for the contract
NAMED = re.compile(r"tests/((?:\w+/)?test_\w+)\.py|`(test_\w+\*?)`")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}

# A template is what stands between its fields: "build %d: %s" is ("build ", ": ", "").
Template = tuple[str, ...]
FIELD = re.compile(r"%[-.\d]*[a-z]|\{\w+\}")  # of log lines, and of reasons
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


def test_the_pages_name_tests() -> None:
    assert len(claims(RELIABILITY)) > 50 and len(claims(SECURITY)) > 30


ALL = sorted(set(claims(RELIABILITY) + claims(SECURITY)))


@pytest.mark.parametrize("file, name", ALL, ids=[f"{file}:{name}" for file, name in ALL])
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    path = ROOT / "tests" / f"{file}.py"
    assert path.is_file(), f"no {path.name}"
    assert fnmatch.filter(functions(path), name), f"{path.name} has no {name}"


def first_cells(page: str, heading: str) -> list[int]:
    """The numbers in the first column of the table below a heading."""
    return [int(number) for number in re.findall(r"(?m)^\| (\d+) \|", section(page, heading))]


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    assert f"\n## {heading}\n" in page, f"no heading {heading}"
    return page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_every_rule_of_the_contract_is_in_the_table() -> None:
    life = section(CONTRACT, "5. The life of a build")
    rules = [int(number) for number in re.findall(r"(?m)^(\d+)\. ", life)]
    assert len(rules) > 10, "where are the rules?"
    assert first_cells(RELIABILITY, "The rules") == rules


def test_every_fault_that_is_a_test_is_in_the_table() -> None:
    files = list((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 60, "where are the tests?"
    names = (name for path in files for name in functions(path))
    found = (re.match(r"test_fault_(\d+)_", name) for name in names)
    assert first_cells(RELIABILITY, "The faults") == sorted(
        {int(each[1]) for each in found if each}
    )


def test_a_row_of_the_faults_names_the_tests_of_its_number() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \|.*$", section(RELIABILITY, "The faults"))
    assert len(rows) > 40
    for row in re.findall(r"(?m)^\| \d+ \|.*$", section(RELIABILITY, "The faults")):
        number = int(row.split()[1])
        assert f"`test_fault_{number:02}_*`" in row, row


# The design.


def test_the_design_names_every_package_and_its_imports() -> None:
    packages = section(DESIGN, "1. The packages")
    there = [path for path in (ROOT / "minici").iterdir() if not path.name.startswith("__")]
    assert len(there) > 10, "where are the packages?"
    missing = {path.stem for path in there} - set(re.findall(r"`(\w+)/?`", packages))
    assert not missing
    rows = re.findall(r"(?m)^\| (`.+) \| (leaves.*) \|$", packages)
    stated = {
        importer: frozenset(("*", *re.findall(r"`([\w.]+)`", allowed)))
        for importers, allowed in rows
        for importer in re.findall(r"`(\w+)`", importers)
    }
    assert stated == ALLOWED


# The size, and the examples.


def documents() -> list[Path]:
    listed = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
    assert len(listed) > 8, "where are the documents?"
    return listed


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.name))
def test_a_document_is_short(path: Path) -> None:
    words = len(path.read_text(encoding="utf-8").split())
    assert words > 100 and (words <= MOST_WORDS or path.name == "protocol.md"), words


FORM_FIELD = re.compile(r"(?<![-\w])(?:-d|--data)[ =](?!@)")


def test_fault_45_every_example_of_curl_encodes_its_parameters() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "README.md", "docs", "examples", "minici"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    texts = {name: (ROOT / name) for name in listed.stdout.split("\0") if name}
    found, encoded = [], 0
    for name, path in texts.items():
        if path.suffix == ".png" or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line for line in text.splitlines() if re.search(r"\bcurl\b", line)]
        encoded += sum("--data-urlencode" in line for line in lines)
        found += [f"{name}: {line.strip()}" for line in lines if FORM_FIELD.search(line)]
    assert encoded > 5, "where are the examples?"
    assert not found


@pytest.mark.parametrize(
    "line, wrong",
    [
        ("curl -d 'command=a && b' URL", True),
        ("curl --data=x=1 URL", True),
        ("curl --data-urlencode commit=main URL", False),
        ("curl --data-binary @piece URL", False),
    ],
)
def test_a_parameter_that_is_not_encoded_is_found_out(line: str, wrong: bool) -> None:
    assert bool(FORM_FIELD.search(line)) == wrong


# The lines. A line of the page fits a template of the code if each field of it is a placeholder in
# capitals, a number, nothing, or itself fits a text of the code: the reasons are made elsewhere.


def quoted(heading: str) -> list[str]:
    """The lines in the first column of the table below a heading."""
    assert f"\n### {heading}\n" in OPERATIONS, f"no heading {heading}"
    below = OPERATIONS.split(f"\n### {heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [row for row in below.splitlines() if row.startswith("| `")]
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


@pytest.mark.parametrize("line", quoted("When a process does not start"))
def test_every_last_word_that_is_quoted_is_a_text_of_the_code(line: str) -> None:
    assert any(fits(line, each) for each in telling_texts())


@pytest.mark.parametrize(
    "line", ["build N: agent AGENT fled; back in the queue", "build N is damaged", "all is well"]
)
def test_a_line_that_nobody_writes_is_found_out(line: str) -> None:
    assert not any(fits(line, each) for each in log_templates())


def test_the_tables_are_there() -> None:
    assert (
        len(quoted(LOGS[0])) > 10
        and len(quoted(LOGS[1])) > 5
        and quoted("When a process does not start")
    )
