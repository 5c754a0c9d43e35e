"""The project as a whole: what its files say, three ways to install it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from minici import __version__
from minici.config import AGENT_KEYS, SERVER_KEYS
from tests.support.harness import FINAL, ROOT, Place, environment, wait_for
from tests.support.http_client import encode_form, fetch
from tests.support.repositories import Repository, git

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


def test_pip_installs_the_commands(place: Place, own_repository: Repository, source: Path) -> None:
    """They run what is installed, not a package of the same name in the repository."""
    place.repository = own_repository
    own_repository.commit({"minici/__init__.py": "raise SystemExit('not this one')\n"}, "Own")
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
