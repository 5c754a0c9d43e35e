"""The start page of a server with three projects, thirty branches and many builds."""

from __future__ import annotations

import re

import pytest

from tests.support import hundredth_day
from tests.support.harness import Place, ServerProcess, wait_for

COUNT = 600


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    server = shared.configure_server(name="tides", repository="https://git.example.org/tides.git")
    hundredth_day.fill(server.data, COUNT)
    for name, command in hundredth_day.PROJECTS.items():
        if name != "tides":
            section = {"repository": f"https://git.example.org/{name}.git", "command": command}
            server.sections[f"project {name}"] = section
    server.start()
    return server


def page(server: ServerProcess, path: str = "/") -> str:
    return server.get(path, {"Accept-Language": "en"}).text


def test_what_is_broken_is_on_the_start_page(server: ServerProcess) -> None:
    wait_for(lambda: "3 of 30 broken" in page(server), 20, "the branches are read")
    text = page(server)
    first = re.search(r'class="since">.*?/build/([0-9]+)', text, re.S)
    assert first
    build = server.api(f"/builds/{first[1]}")
    assert build["status"] == "failure" and build["ref"] == "refs/heads/main"
    assert build["revision"][:10] in text and build["author"].split(" <")[0] in text
    assert text.count('class="trend"') == 3
    assert page(server, "/?project=harbours").count('class="trend"') == 1


def test_all_that_waits_of_a_project_is_cancelled_at_once(server: ServerProcess) -> None:
    for project in ("tides", "tides", "almanac"):
        form = {"commit": "main", "command": "make", "project": project}
        assert server.post("/api/builds", form).status == 201
    assert "Cancel all 3 queued builds" in page(server, "/?status=queued")
    assert "Cancel all 2 queued builds" in page(server, "/?status=queued&project=tides")
    answer = server.post("/cancel", {"project": "tides"})
    assert answer.status == 303 and answer.headers["Location"] == "/?project=tides"
    found = server.api("/builds?limit=3")["builds"]
    assert [each["status"] for each in found] == ["queued", "cancelled", "cancelled"]
    assert "Cancel 1 queued build" in page(server, "/?status=queued")
    assert server.post("/cancel", {"branches": "x"}).status == 400
