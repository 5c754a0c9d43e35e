"""Pictures of the pages on an ordinary day. `make pictures` puts two of them into the README."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.browsers import PICTURES, take_picture, watched
from tests.support.harness import ROOT, Place
from tests.support.page_scene import COUNT, Scene

pytestmark = pytest.mark.browser

README = {"builds": False, "build": True}  # the pictures there, and whether they are dark
SIZE = (1200, 900)


@pytest.fixture(scope="module")
def scene(shared: Place) -> Scene:
    return Scene(shared)


@pytest.fixture(scope="module", params=["en", "ru"])
def chromium(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with Browser(language=request.param) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    yield from watched(chromium)


def test_an_ordinary_day(browser: Browser, scene: Scene) -> None:
    for name, path in (("builds", "/"), ("build", f"/build/{scene.failed}"), ("agents", "/agents")):
        browser.go(f"http://{scene.server.address}{path}")
        take_picture(browser, f"day-{name}-{browser.language}")
    assert len(browser.find_all("table.agents tbody tr")) == 3
    browser.go(f"http://{scene.server.address}/")
    bars = browser.find_all(".strip svg a")
    assert len(bars) == 60
    assert len(browser.find_all("progress")) == 4, "each command has been built before"
    assert browser.find(f"#build-{COUNT + 6} .why").text


def test_the_pictures_of_the_readme(browser: Browser, scene: Scene) -> None:
    if browser.language != "en":
        return
    browser.size(*SIZE)
    for name, path in (("builds", "/"), ("build", f"/build/{scene.failed}")):
        browser.dark(README[name])
        browser.go(f"http://{scene.server.address}{path}")
        picture = browser.screenshot(PICTURES / f"readme-{name}.png")
        assert 20_000 < picture.stat().st_size < 400_000
        kept = ROOT / "docs" / "pictures" / picture.name.replace("readme-", "")
        if os.environ.get("MINICI_PICTURES") == "new":
            shutil.copyfile(picture, kept)
        assert size_of(kept) == size_of(picture) == SIZE, "make pictures: it has another size"


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_every_picture_that_the_readme_shows_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in README:
        assert f"docs/pictures/{name}.png" in text
