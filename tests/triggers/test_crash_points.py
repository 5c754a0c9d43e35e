"""The server ends at every step on its disk while a look starts builds: rules 16 and 17.

Store, state, dispatcher and poller are the real ones, on a real folder; the repository is a table.
In the end the last place of each ref is built, and no place twice.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pytest

from minici import build as builds
from minici import durable
from minici.build import Build
from minici.config import ProjectConfig, ServerConfig
from minici.config_file import read_server
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.state import State
from minici.store import Store
from minici.triggers.ls_remote import LookFailed
from minici.triggers.poller import ProjectPoller
from minici.triggers.pushes import Pushes
from minici.triggers.refs import MovedRef
from tests.support.crashes import Crash, crash_at

A, B, C, TAG_OBJECT = "a" * 40, "b" * 40, "c" * 40, "d" * 40
MAIN, DEV, TOPIC = "refs/heads/main", "refs/heads/dev", "refs/heads/topic"
V1, V2 = "refs/tags/v1", "refs/tags/v2"
STEPS = ("open", "write", "fsync", "fdatasync", "ftruncate", "replace", "rename", "link")
FOLDER_STEPS = ("mkdir", "unlink", "rmdir")
CONFIG = (
    "[server]\nport = 0\nrepository = {0}\nname = p\ncommand = make\nbranches = *\ntags = v*\n"
    "max_queue = {1}\n"
)

Refs = Mapping[str, str]


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses no write: what is synced is counted only."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None, raising=False)


class World:
    """One server on a folder, and a repository that is a table of refs."""

    def __init__(self, folder: Path, max_queue: int = 1000) -> None:
        config = folder / "config.ini"
        config.write_text(CONFIG.format(folder, max_queue))
        self.config: ServerConfig = read_server(config)
        self.folder = folder / "data"
        self.refs: dict[str, str] = {}
        self.annotated: set[str] = set()
        self.away = False
        self._store: Optional[Store] = None
        self.boot()

    @property
    def project(self) -> ProjectConfig:
        return self.config.default_project

    def boot(self) -> None:
        """A server starts; whoever was there before is dead."""
        if self._store is not None:
            self._store.close()
        self._store = store = Store(self.folder, 1000)
        unfinished = store.open()
        self.state = State(store, self.config, now=lambda: "t")
        dispatcher = Dispatcher(self.state, _NOBODY, lambda name, call: None)
        self.state.restore(unfinished)
        pushes = Pushes(store, self.state, dispatcher)
        self.poller = ProjectPoller(self.project, pushes, self._listing)

    def _listing(self, *_: object) -> bytes:
        if self.away:
            raise LookFailed("away")
        lines = []
        for ref, revision in sorted(self.refs.items()):
            peeled = ref in self.annotated
            lines.append(f"{TAG_OBJECT if peeled else revision}\t{ref}\n")
            if peeled:
                lines.append(f"{revision}\t{ref}^{{}}\n")
        return "".join(lines).encode()

    def look(self) -> None:
        self.poller.look()

    def look_until_done(self) -> None:
        """Look as often as it takes, with what fills the queue ending meanwhile."""
        for _ in range(20):
            self.look()
            assert self.poller.status.failure is None
            if not self.poller._waiting:
                return
            self.finish_waiting()
        raise AssertionError("some refs wait for ever")

    def finish_waiting(self) -> None:
        for build in self.state.queued():
            self.finish(build.id)

    def finish(self, number: int) -> None:
        unfinished = self.state.unfinished_build(number)
        assert unfinished is not None
        self.state.record(unfinished, builds.request_cancel(unfinished.build, None, "t"))

    def builds(self) -> list[Build]:
        """All builds, oldest first."""
        assert self._store is not None
        found = []
        for number in range(1, self._store.newest + 1):
            if self._store.exists(number):
                record = self.state.load(number)
                assert isinstance(record, Build), record
                found.append(record)
        return found

    def places(self) -> dict[str, list[str]]:
        """The revisions that were built of each ref, oldest first."""
        found: dict[str, list[str]] = {}
        for build in self.builds():
            if build.ref and build.event != builds.MANUAL:
                found.setdefault(build.ref, []).append(build.revision or "")
        return found

    def remembered(self) -> dict[str, str]:
        assert self._store is not None
        record = self._store.load_refs("p")
        assert record is not None and record.after is None
        return dict(record.refs)


_NOBODY: Any = None  # no agent is called here


@dataclass(frozen=True)
class Case:
    """What a look finds; `built` is what it starts, `meanwhile` what moves while nobody looks."""

    before: Refs
    found: Refs
    built: Mapping[str, list[str]]
    annotated: frozenset[str] = frozenset()
    max_queue: int = 1000
    meanwhile: Optional[Refs] = None
    earlier: tuple[Refs, ...] = field(default=())  # looks before


CASES = {
    "new": Case({MAIN: A}, {MAIN: A, DEV: A}, {DEV: [A]}),
    "forward": Case({MAIN: A}, {MAIN: B}, {MAIN: [B]}),
    "the first of an empty repository": Case({}, {MAIN: A}, {MAIN: [A]}),
    "back": Case({MAIN: A}, {MAIN: A}, {MAIN: [B, A]}, earlier=({MAIN: B},)),
    "deleted and there again": Case(
        {MAIN: A}, {MAIN: A, DEV: B}, {DEV: [B, B]}, earlier=({MAIN: A, DEV: B}, {MAIN: A})
    ),
    "deleted": Case({MAIN: A, DEV: A}, {MAIN: A}, {}),
    "a tag": Case({MAIN: A}, {MAIN: A, V1: A}, {V1: [A]}),
    "an annotated tag": Case({MAIN: A}, {MAIN: A, V1: B}, {V1: [B]}, frozenset((V1,))),
    "a tag that moves": Case({V1: A}, {V1: B}, {V1: [B]}, frozenset((V1,))),
    "several": Case(
        {MAIN: A, DEV: A, V1: A},
        {MAIN: B, TOPIC: C, V1: A, V2: C},
        {MAIN: [B], TOPIC: [C], V2: [C]},
        frozenset((V2,)),
    ),
    "a queue that is full in the middle": Case(
        {MAIN: A}, {MAIN: B, DEV: A, TOPIC: A, V1: A},
        {MAIN: [B], DEV: [A], TOPIC: [A], V1: [A]},
        max_queue=2,
    ),
}  # fmt: skip


@contextmanager
def steps_counted(last: int) -> Iterator[None]:
    """The process dies at step `last` of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "_F_FULLFSYNC", None)
        crash_at(patch, last, [*STEPS, *FOLDER_STEPS], dead=True)
        yield


def at_every_step(folder: Path, case: Case) -> Iterator[tuple[int, World]]:
    """The world after a server that died in a look, at step 1, 2, 3 ...; a new one has begun."""
    for step in range(1, 500):
        here = folder / str(step)
        here.mkdir()
        world = World(here, case.max_queue)
        world.annotated = set(case.annotated)
        for refs in (case.before, *case.earlier):
            world.refs = dict(refs)
            world.look_until_done()
        world.refs = dict(case.found)
        through = True
        try:
            with steps_counted(step):
                world.look()
        except Crash:
            through = False
        world.boot()
        yield step, world
        shutil.rmtree(here, ignore_errors=True)
        if through:
            return
    raise AssertionError("still crashing")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rule_16_one_build_whenever_the_server_dies_in_a_look(tmp_path: Path, case: Case) -> None:
    for step, world in at_every_step(tmp_path, case):
        world.look_until_done()
        assert world.places() == case.built, f"step {step}"
        assert world.remembered() == case.found
        world.boot()
        world.look_until_done()
        assert world.places() == case.built, f"a start after step {step}"
    assert step > (5 if case.found != case.before else 1), "the steps were seen"


@pytest.mark.parametrize("name", ["new", "a queue that is full in the middle"])
def test_rule_16_builds_that_have_ended_before_the_next_start_are_not_repeated(
    tmp_path: Path, name: str
) -> None:
    for step, world in at_every_step(tmp_path, CASES[name]):
        world.finish_waiting()
        world.boot()
        world.look_until_done()
        assert world.places() == CASES[name].built, f"step {step}"


@pytest.mark.parametrize(
    "meanwhile, last",
    [({MAIN: C, DEV: A}, [C]), ({MAIN: A, DEV: A}, [A]), ({DEV: A}, [])],
    ids=["goes on", "goes back", "is deleted"],
)
def test_rule_16_what_moves_on_while_the_server_is_dead(
    tmp_path: Path, meanwhile: Refs, last: list[str]
) -> None:
    """The place of the look that was cut off is built once or never, the last one once."""
    case = Case({MAIN: A}, {MAIN: B, DEV: A}, {})
    seen = set()
    for step, world in at_every_step(tmp_path, case):
        began = world.places().get(MAIN, [])
        assert began in ([], [B])
        world.refs = dict(meanwhile)
        world.look_until_done()
        # One that is where it was remembered, and was never seen elsewhere, has not moved.
        expected = began + last if began or last != [A] else []
        assert world.places().get(MAIN, []) == expected, f"step {step}"
        assert world.places()[DEV] == [A]
        assert world.remembered() == meanwhile
        seen.add(tuple(began))
    assert seen == {(), (B,)}


def test_rule_16_a_look_that_fails_after_a_crash_loses_nothing(tmp_path: Path) -> None:
    case = CASES["new"]
    for step, world in at_every_step(tmp_path, case):
        world.away = True
        world.look()
        world.boot()
        world.look()
        world.away = False
        world.look_until_done()
        assert world.places() == case.built, f"step {step}"


def test_rule_17_what_is_superseded_is_ended_whenever_the_server_dies(tmp_path: Path) -> None:
    """The older builds of the branch end; those of tags, and of people, never."""
    case = Case(
        {MAIN: A}, {MAIN: C, DEV: A, V1: C}, {}, earlier=({MAIN: B, V1: B}, {MAIN: A, V1: B})
    )
    for step, world in at_every_step(tmp_path, case):
        world.look_until_done()
        waiting = [(each.ref, each.revision) for each in world.state.queued()]
        assert waiting == [(V1, B), (DEV, A), (MAIN, C), (V1, C)], f"step {step}"
        ended = [each for each in world.builds() if each.final]
        assert [each.revision for each in ended] == [B, A]
        assert all(each.status == builds.CANCELLED and each.reason for each in ended)


def test_a_project_whose_repository_is_another_one_begins_anew(tmp_path: Path) -> None:
    """The first look at a repository starts nothing."""
    world = World(tmp_path)
    world.refs = {MAIN: A}
    world.look()
    other = dataclasses.replace(world.project, repository="https://user:word@git.example/other")
    world.config = dataclasses.replace(world.config, projects=(other,))
    world.boot()
    world.refs = {MAIN: B, DEV: B}
    world.look()
    assert world.builds() == [] and world.remembered() == world.refs
    assert "word" not in (world.folder / "refs" / "p.json").read_text()
    again = dataclasses.replace(other, repository="https://user:another@git.example/other")
    world.config = dataclasses.replace(world.config, projects=(again,))
    world.boot()
    world.refs = {MAIN: C, DEV: B}
    world.look()
    assert world.places() == {MAIN: [C]}, "another password is not another repository"


def test_what_another_project_has_started_is_not_taken_for_its_own(tmp_path: Path) -> None:
    """Both look at one repository, and the server dies in the look of one."""
    world = World(tmp_path)
    world.refs = {MAIN: A}
    world.look()
    pushes, other = world.poller._pushes, dataclasses.replace(world.project, name="other")
    pushes.begin(world.project, {MAIN: A})
    pushes.start(other, MovedRef(MAIN, B, builds.PUSH))
    world.boot()
    world.refs = {MAIN: B}
    world.look()
    found = [(each.project, each.revision, each.status) for each in world.builds()]
    assert found == [("other", B, builds.QUEUED), ("p", B, builds.QUEUED)]


def test_a_starting_server_reads_no_builds_for_a_look_that_was_completed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.refs = {MAIN: A}
    world.look()
    for _ in range(5):
        world.state.enqueue("main", "true")
    world.boot()
    read: list[int] = []
    load = world.state.load
    world.state.load = lambda number: (read.append(number), load(number))[1]  # type: ignore
    world.refs = {MAIN: B}
    world.look()
    assert read == [] and world.places() == {MAIN: [B]}


def test_a_name_that_is_no_utf8_is_built_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.refs = {MAIN: A}
    world.look()
    world.poller._list = lambda *_: f"{A}\trefs/heads/caf\xe9\n".encode("latin-1")
    world.look()
    listing = world.poller._list
    world.boot()
    world.poller._list = listing
    world.look()
    assert world.places() == {r"refs/heads/caf\xe9": [A]}
