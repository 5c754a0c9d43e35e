"""The list where there are more builds than one page may read."""

from __future__ import annotations

import json

import pytest

from minici import build as builds
from minici.build import Build
from tests.support.harness import Place, ServerProcess

COUNT = 2100  # a page reads at most 2000 records


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    """All but the oldest three have succeeded: these are queued, lost and queued."""
    server = shared.configure_server()
    (server.data / "unfinished").mkdir(parents=True)
    for number in range(1, COUNT + 1):
        status = {1: "queued", 2: "lost", 3: "queued"}.get(number, "success")
        at = "2026-11-24T02:30:00.000Z"
        ended = None if status == "queued" else at
        build = Build(number, "main", f"make {number}", "/r", at, status, finished_at=ended)
        folder = server.data / "builds" / str(number)
        folder.mkdir(parents=True)
        (folder / "build.json").write_text(json.dumps(builds.to_record(build)))
        if status == "queued":
            (server.data / "unfinished" / str(number)).touch()
    (server.data / "counter").write_text(str(COUNT))
    server.start()
    return server


def test_what_is_not_final_is_found_wherever_it_is(server: ServerProcess) -> None:
    found = server.api("/builds?status=queued")
    assert [build["id"] for build in found["builds"]] == [3, 1] and found["next"] is None
    found = server.api("/builds?status=queued&limit=1")
    assert [build["id"] for build in found["builds"]] == [3]
    assert [build["id"] for build in server.api(found["next"][4:])["builds"]] == [1]
    assert server.api("/builds?status=running") == {"builds": [], "next": None}
    page = server.get("/?status=queued", {"Accept-Language": "en"}).text
    assert "/build/3" in page and "/build/1" in page and "Older" not in page


def test_a_search_goes_on_where_it_stopped(server: ServerProcess) -> None:
    page = server.get("/?status=lost", {"Accept-Language": "en"}).text
    assert "None of the latest builds" in page and "/build/2" not in page
    following = f"/?before={COUNT - 2000 + 1}&amp;status=lost"
    assert f'href="{following}">Look further' in page
    page = server.get(following.replace("&amp;", "&"), {"Accept-Language": "en"}).text
    assert "/build/2" in page and "Look further" not in page
    page = server.get("/?text=nowhere&before=50", {"Accept-Language": "en"}).text
    assert "No build matches" in page


def test_a_badge_looks_as_far_as_a_page(server: ServerProcess) -> None:
    assert server.get("/badge.json?commit=main&language=en").json()["message"] == "success"
    assert server.get("/badge.json?commit=other&language=en").json()["message"] == "no builds"
