"""The hooks' queue: order, retries, kills, and that nobody waits for a hook."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest

from minici.build import FAILURE, QUEUED, RUNNING, SUCCESS, Build
from minici.config import ProjectConfig
from minici.hooks import queue as hooks
from minici.hooks.queue import HookQueue
from minici.hooks.runner import HOOK_SECONDS, HookResult, run_hook
from tests.support.harness import wait_for

FIRST_RETRY_SECONDS = hooks._FIRST_RETRY_SECONDS
SCRIPT = """\
input=$(cat)
echo "$input"
echo "$MINICI_BUILD_ID $MINICI_STATUS" >> "$0.log"
if [ -e "$0.slow" ]; then sleep 1; fi
test ! -e "$0.fails"
"""


def now(ago: float = 0.0) -> str:
    moment = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(seconds=ago)
    return moment.isoformat(timespec="milliseconds") + "Z"


class World:
    """Builds, a hook that notes what it is told, and the queue between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hooks"
        self.script = folder / "hook"
        self.script.write_text(SCRIPT)
        self.builds: dict[int, Build] = {}
        self.queues: list[HookQueue] = []
        self.queue = self.another()

    def another(self) -> HookQueue:
        """The queue of the next server on the same folder."""
        for queue in self.queues:
            queue.stop()
        project = ProjectConfig("p", "/r", "make", hook=("/bin/sh", str(self.script)))
        queue = HookQueue(self.folder, [project], self.builds.get, self.describe)
        self.queues.append(queue)
        return queue

    def restart(self) -> None:
        self.queue = self.another()
        self.queue.restore([each for each in self.builds.values() if not each.final])
        self.queue.start()

    @staticmethod
    def describe(build: Build) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        variables = {"MINICI_BUILD_ID": str(build.id), "MINICI_STATUS": build.status}
        return {"id": build.id}, variables

    def change(self, number: int, status: str, **more: Any) -> None:
        build = self.builds.get(number) or Build(number, "HEAD", "make", "/r", now(), project="p")
        if status not in (QUEUED, RUNNING):
            more = {"finished_at": now(), **more}
        self.builds[number] = dataclasses.replace(build, status=status, **more)
        self.queue.build_changed(self.builds[number])

    def told(self, number: Optional[int] = None) -> list[str]:
        log = Path(f"{self.script}.log")
        lines = log.read_text().splitlines() if log.exists() else []
        found = [line.split() for line in lines]
        return [status for build, status in found if number in (None, int(build))]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.json"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(hooks, "_FIRST_RETRY_SECONDS", 0.2)
    world = World(tmp_path)
    yield world
    for queue in world.queues:
        queue.stop()


def test_each_status_is_told_in_order(world: World) -> None:
    world.queue.start()
    for status in (QUEUED, RUNNING, SUCCESS):
        world.change(1, status)
        wait_for(lambda: world.told(1)[-1:] == [status], 10, status)  # noqa: B023
    wait_for(lambda: not world.left(), 10, "the file to go")
    assert world.told(1) == [QUEUED, RUNNING, SUCCESS]


def test_what_is_overtaken_is_left_out_and_nothing_comes_after_the_end(world: World) -> None:
    for status in (QUEUED, RUNNING, FAILURE):
        world.change(1, status)
    world.queue.start()
    wait_for(lambda: not world.left(), 10, "the file to go")
    assert world.told(1) == [FAILURE]


def test_a_project_without_a_hook_costs_nothing(world: World) -> None:
    world.queue.build_changed(Build(1, "HEAD", "make", "/r", now(), project="other"))
    assert not world.folder.exists()


def test_a_final_status_is_told_again_until_the_hook_succeeds(world: World) -> None:
    world.queue.start()
    fails = Path(f"{world.script}.fails")
    fails.touch()
    world.change(1, SUCCESS)
    wait_for(lambda: len(world.told(1)) >= 3, 10, "three tries")
    failure = world.queue.failure(1)
    assert failure and failure.exit_status == 1 and '{"id": 1}' in failure.output
    fails.unlink()
    wait_for(lambda: not world.left(), 20, "the end")
    assert world.queue.failure(1) is None and set(world.told(1)) == {SUCCESS}


def test_it_is_told_again_later_and_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_MOST_RETRY_SECONDS", 0.4)
    tries: list[float] = []
    monkeypatch.setattr(
        hooks, "run_hook", lambda *_: tries.append(time.monotonic()) or HookResult(1, "")
    )
    world.queue.start()
    world.change(1, SUCCESS)
    wait_for(lambda: len(tries) >= 5, 20, "five tries")
    pauses = [after - before for before, after in zip(tries, tries[1:])]
    least = (0.2, 0.4, 0.4, 0.4)
    assert all(pause >= bound for pause, bound in zip(pauses, least)), pauses
    assert 0 < FIRST_RETRY_SECONDS < 10, "as the contract has it"


def test_another_status_is_told_once_whatever_comes_of_it(world: World) -> None:
    world.queue.start()
    Path(f"{world.script}.fails").touch()
    world.change(1, QUEUED)
    wait_for(lambda: world.queue.failure(1), 10, "the failure")
    time.sleep(0.5)
    assert world.told(1) == [QUEUED]


def test_a_failing_hook_holds_up_no_other_build(world: World) -> None:
    world.queue.start()
    world.script.write_text(SCRIPT + 'test "$MINICI_BUILD_ID" != 1\n')
    world.change(1, FAILURE)
    for number in range(2, 8):
        world.change(number, SUCCESS)
    wait_for(lambda: all(world.told(n) for n in range(2, 8)), 20, "the others")


def test_a_final_status_survives_a_kill(world: World) -> None:
    world.change(1, QUEUED)
    world.change(1, SUCCESS)  # nobody works: the server dies here
    world.change(2, QUEUED)
    world.restart()
    wait_for(lambda: world.told(1) == [SUCCESS] and world.told(2) == [QUEUED], 10, "both")
    wait_for(lambda: world.left() == ["2.json"], 10, "the file of the final one to go")


def test_a_status_that_was_told_is_not_told_by_the_next_server(world: World) -> None:
    world.queue.start()
    world.change(1, RUNNING)
    wait_for(lambda: world.told(1) == [RUNNING], 10, "the first telling")
    wait_for(lambda: "running" in (world.folder / "1.json").read_text(), 10, "its note")
    world.restart()
    world.change(1, SUCCESS)
    wait_for(lambda: not world.left(), 10, "the end")
    assert world.told(1) == [RUNNING, SUCCESS]


def test_after_a_day_it_is_given_up(world: World) -> None:
    Path(f"{world.script}.fails").touch()
    world.change(1, FAILURE, finished_at=now(ago=25 * 3600))
    world.queue.start()
    wait_for(lambda: world.told(1) == [FAILURE], 10, "one more try")
    time.sleep(0.6)
    assert world.told(1) == [FAILURE] and world.queue.failure(1)


def test_a_build_that_is_gone_is_forgotten(world: World) -> None:
    world.change(1, QUEUED)
    del world.builds[1]
    world.restart()
    assert not world.left()


def test_a_damaged_file_is_told_again(world: World) -> None:
    world.change(1, SUCCESS)
    (world.folder / "1.json").write_text("{")
    (world.folder / "x.json").write_text("{")
    world.restart()
    wait_for(lambda: world.told(1) == [SUCCESS], 10, "the status")


def test_a_hook_that_takes_too_long_is_ended_with_all_that_it_started() -> None:
    begun = time.monotonic()
    words = ["/bin/sh", "-c", "echo begun; sleep 99 & sleep 99"]
    result = run_hook(words, {}, {}, threading.Event(), seconds=0.5)
    assert result and (result.exit_status, result.output) == (124, "begun\n")
    assert HOOK_SECONDS == 60, "unless a test says so"
    assert time.monotonic() - begun < 10


def test_a_hook_that_is_not_there_says_so() -> None:
    result = run_hook(["/no/such/hook"], {}, {}, threading.Event())
    assert result and result.exit_status == 127 and "/no/such/hook" in result.output


def test_a_server_that_stops_waits_for_no_hook() -> None:
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    begun = time.monotonic()
    assert run_hook(["/bin/sleep", "99"], {}, {}, stopping) is None
    assert time.monotonic() - begun < 10
