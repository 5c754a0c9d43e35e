"""Looks at a project's refs: what is started, what is remembered, and when the next look is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import pytest

from minici.config import ProjectConfig
from minici.scheduler.state import QueueFull
from minici.store import StoreUnavailable
from minici.triggers.ls_remote import LookFailed
from minici.triggers.poller import Poller, ProjectPoller
from minici.triggers.pushes import Restored
from minici.triggers.refs import MovedRef
from tests.support.harness import wait_for

A, B = "a" * 40, "b" * 40
MAIN, DEV, V1 = "refs/heads/main", "refs/heads/dev", "refs/tags/v1"


class World:
    """A repository and a server, as a poller sees them."""

    def __init__(self, remembered: Optional[Mapping[str, str]] = None) -> None:
        self.refs: dict[str, str] = {}
        self.kept = remembered
        self.failure: Optional[Exception] = None
        self.room = 1000
        self.started: list[tuple[str, str, str]] = []
        self.looks = 0
        self.events: list[str] = []
        self.unsettled: list[Any] = []

    def listing(self, repository: str, stopping: threading.Event) -> bytes:
        self.looks += 1
        if self.failure:
            raise self.failure
        return "".join(f"{revision}\t{ref}\n" for ref, revision in self.refs.items()).encode()

    def restore(self, project: ProjectConfig) -> Restored:
        return Restored(self.kept, not self.started, self.unsettled)

    def begin(self, project: ProjectConfig, refs: Mapping[str, str]) -> None:
        self.events.append("begin")

    def remember(self, project: ProjectConfig, refs: Mapping[str, str]) -> None:
        self.events.append("remember")
        self.kept = dict(refs)

    def has_room(self) -> bool:
        return self.room > 0

    def start(self, project: ProjectConfig, moved: MovedRef) -> Any:
        if not self.has_room():
            raise QueueFull("full")
        self.room -= 1
        self.events.append("start")
        self.started.append((moved.ref, moved.revision, moved.event))
        return len(self.started)

    def supersede(self, project: ProjectConfig, newer: Any) -> None:
        self.events.append(f"supersede {newer}")


def poller_of(world: Any, **keys: Any) -> ProjectPoller:
    settings: dict[str, Any] = {"branches": ("*",), "tags": ("v*",), "poll": 10.0, **keys}
    project = ProjectConfig("p", "/repository", "make", **settings)
    return ProjectPoller(project, world, world.listing)


def test_the_first_look_remembers_everything_and_starts_nothing() -> None:
    world = World()
    world.refs = {MAIN: A, V1: B}
    assert poller_of(world).look() == 10.0
    assert world.started == [] and world.kept == {MAIN: A, V1: B}


def test_a_repository_that_was_empty_at_the_first_look_has_its_first_branch_built() -> None:
    world = World()
    poller = poller_of(world)
    poller.look()
    assert world.kept == {}
    world.refs = {MAIN: A}
    poller.look()
    assert world.started == [(MAIN, A, "push")]


def test_what_moves_is_started_once_and_remembered() -> None:
    world = World({MAIN: A})
    world.refs = {MAIN: B, V1: A}
    poller = poller_of(world)
    poller.look()
    poller.look()
    assert world.started == [(MAIN, B, "push"), (V1, A, "tag")]
    assert world.kept == {MAIN: B, V1: A}
    steps = ["begin", "start", "supersede 1", "start", "supersede 2", "remember"]
    assert world.events == steps


def test_all_refs_are_remembered_whatever_the_patterns() -> None:
    world = World({})
    world.refs = {MAIN: A, DEV: B}
    poller_of(world, branches=("main",)).look()
    assert world.started == [(MAIN, A, "push")] and world.kept == {MAIN: A, DEV: B}
    poller_of(world, branches=("*",)).look()
    assert len(world.started) == 1, "a wider pattern starts nothing by itself"


def test_a_deleted_branch_is_forgotten_and_built_when_it_is_back() -> None:
    world = World({MAIN: A, DEV: B})
    world.refs = {MAIN: A}
    poller = poller_of(world)
    poller.look()
    assert world.kept == {MAIN: A}
    world.refs = {MAIN: A, DEV: B}
    poller.look()
    assert world.started == [(DEV, B, "push")]


def test_where_the_queue_is_full_the_rest_is_started_when_there_is_room() -> None:
    world = World({MAIN: A})
    world.refs = {DEV: A, MAIN: B, V1: B}
    world.room = 1
    poller = poller_of(world)
    assert (poller.look() or 0) < 5
    assert world.started == [(DEV, A, "push")] and world.kept == {MAIN: A, DEV: A}
    assert (poller.look() or 0) < 5 and world.looks == 1, "without room nobody is asked"
    world.room = 10
    assert poller.look() == 10.0
    assert [ref for ref, _, _ in world.started] == [DEV, MAIN, V1] and world.kept == world.refs


def test_a_look_that_fails_changes_nothing_and_comes_back_later_and_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World({MAIN: A})
    world.failure = LookFailed("no route to host")
    poller = poller_of(world)
    pauses = [poller.look() for _ in range(8)]
    assert pauses == [10, 20, 40, 80, 100, 100, 100, 100]
    assert poller.status.failure == "no route to host" and world.kept == {MAIN: A}
    assert sum("no route" in line for line in caplog.messages) == 1
    world.failure, world.refs = None, {MAIN: B}
    assert poller.look() == 10.0
    assert poller.status.failure is None and world.started == [(MAIN, B, "push")]
    world.failure = LookFailed("no route to host")
    assert [poller.look(), poller.look()] == [10, 20], "as for the first time"
    assert sum("no route" in line for line in caplog.messages) == 2


def test_a_listing_that_is_cut_short_changes_nothing() -> None:
    world = World({MAIN: A, DEV: A})
    poller = poller_of(world)
    poller._list = lambda *_: f"{A}\t{MAIN}\n{B}\trefs/he".encode()
    poller.look()
    assert world.started == [] and world.kept == {MAIN: A, DEV: A} and poller.status.failure


def test_a_disk_that_is_full_loses_no_push() -> None:
    world = World({MAIN: A})
    world.refs = {MAIN: B}
    poller = poller_of(world)
    world.remember = lambda *_: (_ for _ in ()).throw(StoreUnavailable("full"))  # type: ignore
    poller.look()
    assert poller.status.failure == "full"
    del world.remember
    poller.look()
    assert world.kept == {MAIN: B} and len(world.started) == 1


def test_what_a_build_supersedes_is_ended_after_a_disk_that_was_full() -> None:
    world = World({MAIN: A})
    world.refs = {MAIN: B}
    poller = poller_of(world)
    world.supersede = lambda *_: (_ for _ in ()).throw(StoreUnavailable("full"))  # type: ignore
    poller.look()
    assert poller.status.failure == "full" and world.kept == {MAIN: A}
    del world.supersede
    poller.look()
    assert world.events == ["begin", "start", "supersede 1", "remember"]


def test_what_a_server_before_this_one_has_started_is_settled_first() -> None:
    world = World({MAIN: A})
    world.refs, world.unsettled, world.started = {MAIN: A}, [7], [(MAIN, A, "push")]
    poller_of(world).look()
    assert world.events == ["supersede 7", "remember"]


def test_a_server_that_stops_starts_no_more() -> None:
    world = World({})
    world.refs = {MAIN: A, DEV: A}
    poller = poller_of(world)
    poller.ask_to_stop()
    poller.look()
    assert world.started == [] and world.kept == {}


def test_without_poll_it_looks_at_the_start_and_when_told() -> None:
    world = World()
    poller = poller_of(world, poll=0.0)
    assert poller.look() is None
    world.failure = LookFailed("away")
    assert poller.look() == 60, "a look that failed is none"


def test_a_call_brings_the_next_look_now_and_a_stop_ends_it() -> None:
    world = World()
    poller = poller_of(world, poll=1000.0)
    poller.start()
    wait_for(lambda: world.looks == 1, 10, "the first look")
    time.sleep(0.05)
    poller.look_now()
    wait_for(lambda: world.looks == 2, 10, "the second look")
    poller.ask_to_stop()
    poller.join(10)
    assert not poller._thread.is_alive()


def test_only_projects_with_patterns_are_looked_at() -> None:
    world: Any = World()
    quiet = ProjectConfig("quiet", "/repository", "make")
    loud = ProjectConfig("loud", "/repository", "make", branches=("*",))
    assert [each.project for each in Poller([quiet, loud], world).statuses()] == ["loud"]


def test_a_call_for_a_project_has_no_other_looked_at(tmp_path: Path) -> None:
    """Those of both are no repositories: each look fails, and says when."""
    world: Any = World()
    projects = [
        ProjectConfig(name, str(tmp_path / name), "make", branches=("*",), poll=1000.0)
        for name in ("moon", "sun")
    ]
    poller = Poller(projects, world)

    def times() -> list[Optional[str]]:
        return [each.at for each in poller.statuses()]

    poller.start()
    try:
        wait_for(lambda: None not in times(), 20, "the first looks")
        moon, sun = times()
        poller.look_now("moon")
        wait_for(lambda: times()[0] != moon, 20, "another look at one")
        assert times()[1] == sun
        poller.look_now()
        wait_for(lambda: times()[1] != sun, 20, "a look at all")
    finally:
        poller.stop()
