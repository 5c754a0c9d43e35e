"""The project as a whole: who imports whom, what its files say, three ways to install it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import pytest

from minici import __version__
from minici.config import AGENT_KEYS, SERVER_KEYS
from tests.harness import FINAL, ROOT, Place, environment, wait_for
from tests.harness_git import git
from tests.harness_http import encode_form, fetch

PACKAGE = ROOT / "minici"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

# Imports go downwards: from a room to the rooms of the floors below it, never sideways.
# docs/design.md says what each room owns.
FLOORS: tuple[dict[str, set[str]], ...] = (
    {
        "words": {"beside", "build", "config", "durable", "openssl", "output", "readers", "tls"},
    },
    {
        "store": {"lines", "store", "transcript"},
        "running": {
            *("environment", "family", "git", "layout", "mirror", "process", "runner", "seal"),
            "workspace",
        },
        "serving": {
            *("connection", "forms", "guard", "intake", "listener", "passwords", "viewers"),
            "web",
        },
        "calling": {"client", "connections"},
        "pages": {
            *("ansi", "badge", "feeds", "html", "html_agents", "html_build", "html_index"),
            *("html_output", "markup"),
            *("parts", "phrases", "sentences", "texts", "verdict", "views"),
        },
        "processes": {"service"},
    },
    {
        "dispatching": {
            *(
                "calls",
                "day",
                "dispatch",
                "reports",
                "retention",
                "roster",
                "state",
                "usual",
            ),
            "watchdog",
        },
        "building": {"courier", "holdings", "outbox", "registrar", "sender", "slot"},
    },
    {
        "answering": {"answers", "api", "endpoints", "live", "monitors", "pages", "passage"},
    },
    {
        "server": {"server"},
        "agent": {"agent", "worker"},
    },
    {
        "main": {"__main__"},
    },
)
ROOMS = {
    module: (floor, room)
    for floor, rooms in enumerate(FLOORS)
    for room, modules in rooms.items()
    for module in modules
}
PURE = ("build", "environment", *sorted(FLOORS[1]["pages"]))
IMPURE = {"io", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "threading", "time"}


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that the import statements below a node name, in full."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom) and each.module == "minici":
            yield from (f"minici.{alias.name}" for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            yield "." * each.level + (each.module or "")


def neighbours(module: str) -> list[str]:
    """The modules of minici that a module imports."""
    names = (name.split(".")[1] for name in imported(tree(module)) if name.startswith("minici."))
    return [name for name in names if not name.startswith("__version")]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    assert module in ROOMS, f"minici/{module}.py has no place in FLOORS"
    floor, room = ROOMS[module]
    for other in neighbours(module):
        their_floor, their_room = ROOMS[other]
        below = their_floor < floor or their_room == room
        assert below, f"{module} ({room}) must not import {other} ({their_room})"


def test_imports_have_no_circle() -> None:
    left = {module: set(neighbours(module)) for module in MODULES}
    while left:
        free = {module for module, needed in left.items() if not needed & set(left)}
        assert free, f"a circle of imports among {sorted(left)}"
        left = {module: needed for module, needed in left.items() if module not in free}


# What loads OpenSSL, which is done only when it is known to be of use.
LATE = {"agent": ["minici.worker"], "config": ["minici.tls"]}


@pytest.mark.parametrize("module", MODULES)
def test_no_import_stands_in_a_function(module: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for node in ast.walk(tree(module)):
        if isinstance(node, functions):
            late = list(imported(node))
            assert late in ([], LATE.get(module)), f"{module}.py, line {node.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_standard_library_is_imported(module: str) -> None:
    for name in imported(tree(module)):
        top = name.partition(".")[0]
        assert top == "minici" or in_standard_library(top), f"{module}.py imports {name}"


def in_standard_library(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin in ("built-in", "frozen"):
        return spec is not None
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    origin = os.path.realpath(spec.origin or "")
    own = any(origin.startswith(os.path.realpath(folder) + os.sep) for folder in folders)
    return own and "site-packages" not in origin


@pytest.mark.parametrize("module", PURE)
def test_what_is_pure_touches_nothing(module: str) -> None:
    tops = {name.partition(".")[0] for name in imported(tree(module))}
    assert not tops & IMPURE


def test_no_module_hides_one_of_the_standard_library() -> None:
    assert not {"http", "queue", "signal", "select"} & set(MODULES)


# What the files say.


def tracked() -> list[Path]:
    listed = git(ROOT, "ls-files", "-z").split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    # The brackets keep these patterns from finding themselves.
    of_a_machine = re.compile(
        rb"/wor[k]/|/roo[t]/|/hom[e]/[a-z]+/|pypi[.]org|pythonhosted[.]|deb[.]debian[.]|npmjs[.]"
    )
    for path in tracked():
        found = of_a_machine.search(path.read_bytes())
        assert not found, f"{path.relative_to(ROOT)}: {found and found[0]!r}"


PROSE = [path for path in tracked() if path.suffix == ".md"]
LINK = re.compile(r"(?<!\\)\]\(([^()\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in links(path.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        there = path.parent / name if name else path
        assert there.exists(), f"{path.name} links to {target}"
        if heading:
            assert heading in headings(there), f"{path.name} links to {target}"


def links(text: str) -> list[str]:
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    targets = (first or second for first, second in LINK.findall(text))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def headings(path: Path) -> set[str]:
    """The names that a page's headings have in links, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("keys", [SERVER_KEYS, AGENT_KEYS], ids=["server", "agent"])
def test_the_documentation_explains_every_key(keys: Mapping[str, object]) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w+)`", text))
    assert not set(keys) - explained


def test_the_documentation_names_every_module() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert not [module for module in MODULES if f"`{module}.py`" not in text]


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {__version__}" in text


# Three ways to install: each is used from a folder where nothing of the checkout is on the path.


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files, as a fresh clone has them, but with what is not committed yet."""
    folder = tmp_path_factory.mktemp("source") / "minici"
    for path in tracked():
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return folder


def call(*words: object, cwd: Path, env: Optional[Mapping[str, str]] = None) -> str:
    """Run a program that must succeed, and return what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    text = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, f"{words}: {text}"
    return text


class Installed:
    """`minici` as one way of installing it has it, in a repository of its own."""

    def __init__(self, place: Place, *words: object, path: Optional[Path] = None) -> None:
        self.words = [str(word) for word in words]
        self.place = place
        self.repository = place.folder / "checkout"
        git(place.folder, "clone", "--quiet", place.repository.url, str(self.repository))
        self.env = environment(place.marker, place.home)
        del self.env["PYTHONPATH"]
        if path is not None:
            self.env["PYTHONPATH"] = str(path)

    def check(self) -> None:
        """Start it, let it build HEAD, look at the page, and end it with Ctrl-C."""
        out, err = self.place.folder / "out", self.place.folder / "err"
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            process = subprocess.Popen(
                self.words,
                cwd=self.repository,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        try:
            wait_for(lambda: process.poll() is not None or self._port(out), 30, "an address")
            assert process.poll() is None, err.read_text()
            self._build(("127.0.0.1", self._port(out)))
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0, err.read_text()
        finally:
            process.kill()
            process.wait()
        assert git(self.repository, "status", "--porcelain", "--ignored") == ""

    @staticmethod
    def _port(printed: Path) -> int:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", printed.read_text(encoding="utf-8"))
        return int(found[1]) if found else 0

    @staticmethod
    def _build(address: tuple[str, int]) -> None:
        body, kind = encode_form({"commit": "HEAD", "command": "sh script.sh"})
        started = fetch(address, "POST", "/api/builds", body, {"Content-Type": kind})
        assert started.status == 201, started
        path = started.header("Location")
        wait_for(
            lambda: fetch(address, "GET", path).json()["status"] in FINAL, 60, "the build's end"
        )
        assert fetch(address, "GET", path).json()["status"] == "success"
        page = fetch(address, "GET", path.replace("/api/builds", "/build")).text
        assert "from the script" in page
        for asset in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
            assert fetch(address, "GET", asset).status == 200, asset


def test_copying_the_folder_is_an_installation(place: Place, source: Path) -> None:
    shutil.copytree(source / "minici", place.folder / "elsewhere" / "minici")
    Installed(place, sys.executable, "-m", "minici", path=place.folder / "elsewhere").check()


def test_the_zipapp_works(place: Place, source: Path) -> None:
    call("make", "zipapp", f"PYTHON={sys.executable}", cwd=source)
    Installed(place, sys.executable, source / "dist" / "minici.pyz").check()


def test_pip_installs_the_commands(place: Place, source: Path) -> None:
    fresh = place.folder / "fresh"
    venv.create(fresh, with_pip=False, symlinks=True)
    call(sys.executable, *PIP, "wheel", *BUILD, "--wheel-dir", place.folder, ".", cwd=source)
    wheel = place.folder / f"minici-{__version__}-py3-none-any.whl"
    python = fresh / "bin" / "python"
    call(sys.executable, *PIP, "--python", python, "install", "--no-index", wheel, cwd=source)
    Installed(place, fresh / "bin" / "minici").check()
    for name in ("minici-server", "minici-agent"):
        ended = subprocess.run(
            [fresh / "bin" / name, place.folder / "missing.ini"], capture_output=True, timeout=30
        )
        assert ended.returncode == 2 and b"missing.ini" in ended.stderr, ended


PIP = ("-m", "pip", "--disable-pip-version-check")
HAS_SETUPTOOLS = all(importlib.util.find_spec(name) for name in ("setuptools", "wheel"))
# `make test` has both beside pytest, and so needs no network; without them pip fetches its own.
BUILD = ("--no-deps", "--no-build-isolation", "--no-index") if HAS_SETUPTOOLS else ("--no-deps",)
