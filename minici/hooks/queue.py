"""Hooks that are still to be told: durable, in order for each build, and never in anybody's way.

    data/hooks/ID.json      a build whose end its project's hook has not been told of yet

Such a file is there from the build's start until its hook has ended with 0 after the final status.
The status itself stands in the build's record, so a status that was overtaken is never told, and
nothing is told after the final one. Contract, section 5, rule 18.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

from minici.build import RUNNING, Build
from minici.config import ProjectConfig
from minici.durable import sync_folder, write_atomic
from minici.hooks.runner import HookResult, run_hook
from minici.timestamps import parse_time

log = logging.getLogger("minici.hooks")

_STOP_SECONDS = 2.0
_WORKERS = 4  # hooks of one project that run at a time
_FIRST_RETRY_SECONDS = 5.0
_MOST_RETRY_SECONDS = 600.0
_GIVE_UP_SECONDS = 24 * 3600.0

Load = Callable[[int], Optional[Build]]
Describe = Callable[[Build], tuple[Mapping[str, Any], Mapping[str, str]]]


@dataclass(frozen=True)
class HookFailure:
    """A hook that failed: its exit status and the end of what it wrote. `again`: it will be run
    again."""

    exit_status: int
    output: str
    again: bool


@dataclass
class _Told:
    """The statuses that the hook of one build has been told. The queue's lock guards it."""

    build: int
    status: Optional[str] = None  # the last status that it was told
    failure: Optional[HookResult] = None
    failures: int = 0
    not_before: float = 0.0
    running: bool = False


@dataclass
class _ProjectQueue:
    """The builds of one project whose hook may have something to be told, in their order."""

    words: tuple[str, ...]
    waiting: deque[int] = field(default_factory=deque)


class HookQueue:
    """The hooks of all projects. `build_changed` is for any thread, `start` and `stop` for one.

    `load` returns a build as it is now; `describe` its JSON and its variables. `stopping` ends
    the workers.
    """

    def __init__(
        self,
        folder: Path,
        projects: Iterable[ProjectConfig],
        load: Load,
        describe: Describe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._load = load
        self._describe = describe
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._projects = {each.name: _ProjectQueue(each.hook) for each in projects if each.hook}
        self._told: dict[int, _Told] = {}
        self._workers: list[threading.Thread] = []
        self._stopping = False
        self._ending = threading.Event()  # ends the hooks that run

    # The life of the queue.

    def restore(self, unfinished: Iterable[Build]) -> None:
        """Take up what a server before this one has left. Before `start`, once."""
        if not self._projects:
            return
        for path in self._folder.glob("*.json") if self._folder.is_dir() else ():
            with suppress(ValueError):
                self._told[int(path.stem)] = _read(path)
        for number in sorted({*self._told, *(build.id for build in unfinished)}):
            build = self._load(number)
            if build is None:
                self._forget(number)
            else:
                self.build_changed(build)

    def start(self) -> None:
        for name, project in self._projects.items():
            for index in range(_WORKERS):
                worker = threading.Thread(
                    target=self._work, args=(project,), name=f"hook-{name}-{index}", daemon=True
                )
                worker.start()
                self._workers.append(worker)

    def stop(self) -> None:
        """End the hooks that run and begin no more; what is left is told by the next server."""
        self._ending.set()
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join(_STOP_SECONDS)

    # What happens to builds.

    def build_changed(self, build: Build) -> None:
        """A build is new, or has another status, and that is durable."""
        project = self._projects.get(build.project)
        if project is None:
            return
        with self._changed:
            told = self._told.get(build.id)
            if told is None:
                told = self._told[build.id] = _Told(build.id)
                self._save(told)
            if _is_told_of(build) and told.status != build.status:
                told.not_before = 0.0
                self._enqueue(project, build.id)

    def failure(self, number: int) -> Optional[HookFailure]:
        """The last failure of a build's hook, if it has not succeeded since."""
        with self._changed:
            told = self._told.get(number)
            if told is None or told.failure is None:
                return None
            again = told.running or any(number in each.waiting for each in self._projects.values())
            return HookFailure(told.failure.exit_status, told.failure.output, again)

    def waiting(self) -> int:
        """The number of builds whose hook is still to be told something."""
        with self._changed:
            return sum(len(project.waiting) for project in self._projects.values())

    def _enqueue(self, project: _ProjectQueue, number: int) -> None:
        if number not in project.waiting:
            project.waiting.append(number)
        self._changed.notify()

    # The workers.

    def _work(self, project: _ProjectQueue) -> None:
        while True:
            told = self._next(project)
            if told is None:
                return
            try:
                self._tell(project, told)
            except Exception:
                log.exception("build %d: internal error in its hook", told.build)
                self._again(project, told, HookResult(1, "internal error; see the server's log"))
            finally:
                with self._changed:
                    told.running = False
                    self._changed.notify_all()

    def _next(self, project: _ProjectQueue) -> Optional[_Told]:
        """Wait for a build whose hook is due; None when the server stops."""
        with self._changed:
            while not self._stopping:
                now = self._clock()
                ready = [
                    self._told[each] for each in project.waiting if not self._told[each].running
                ]
                due = next((told for told in ready if told.not_before <= now), None)
                if due is not None:
                    project.waiting.remove(due.build)
                    due.running = True
                    return due
                self._changed.wait(min((t.not_before - now for t in ready), default=None))
            return None

    def _tell(self, project: _ProjectQueue, told: _Told) -> None:
        build = self._load(told.build)
        if build is None:  # removed, or damaged
            self._forget(told.build)
            return
        if not _is_told_of(build) or build.status == told.status:
            return
        record, variables = self._describe(build)
        result = run_hook(project.words, record, variables, self._ending)
        if result is None:  # the server stops, and the next one tells it
            return
        _log(build, project.words, result)
        if result.exit_status == 0:
            self._succeeded(build, told)
        elif build.final and not _is_old(build):
            self._again(project, told, result)
        else:
            self._gave_up(build, told, result)

    def _succeeded(self, build: Build, told: _Told) -> None:
        if build.final:
            self._forget(build.id)
            return
        with self._changed:
            told.status, told.failure = build.status, None
            self._save(told)
        self._look_again(build)

    def _gave_up(self, build: Build, told: _Told, result: HookResult) -> None:
        """A status that is not final is told once; a final one for a day."""
        with self._changed:
            told.status, told.failure = build.status, result
            self._save(told)
        self._look_again(build)

    def _again(self, project: _ProjectQueue, told: _Told, result: HookResult) -> None:
        with self._changed:
            told.failure = result
            pause = _FIRST_RETRY_SECONDS * 2.0 ** min(told.failures, 10)
            told.not_before = self._clock() + min(_MOST_RETRY_SECONDS, pause)
            told.failures += 1
            self._save(told)
            self._enqueue(project, told.build)

    def _look_again(self, before: Build) -> None:
        """The status may have changed while its hook ran."""
        build = self._load(before.id)
        if build is not None and build.status != before.status:
            self.build_changed(build)

    # Files.

    def _save(self, told: _Told) -> None:
        """Keep what a build's hook was told. The lock is held by the caller."""
        failure = told.failure and {
            "exit_status": told.failure.exit_status,
            "output": told.failure.output,
        }
        text = json.dumps({"status": told.status, "failure": failure})
        try:
            self._folder.mkdir(exist_ok=True)
            write_atomic(self._folder / f"{told.build}.json", text.encode("utf-8", "replace"))
        except OSError as error:
            log.error("build %d: its hook's state can't be written: %s", told.build, error)

    def _forget(self, number: int) -> None:
        with self._changed:
            self._told.pop(number, None)
            for project in self._projects.values():
                if number in project.waiting:
                    project.waiting.remove(number)
        with suppress(OSError):
            (self._folder / f"{number}.json").unlink()
            sync_folder(self._folder)


def _is_told_of(build: Build) -> bool:
    return build.final or build.status == RUNNING or build.last_attempt == 0


def _is_old(build: Build) -> bool:
    """True if the build has been final for longer than its hook is tried."""
    finished = parse_time(build.finished_at)
    if finished is None:
        return True
    return (datetime.now(timezone.utc) - finished).total_seconds() > _GIVE_UP_SECONDS


def _read(path: Path) -> _Told:
    told = _Told(int(path.stem))
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(path.read_text("utf-8"))
        told.status = record["status"]
        if record["failure"]:
            told.failure = HookResult(
                int(record["failure"]["exit_status"]), str(record["failure"]["output"])
            )
    return told


def _log(build: Build, words: Iterable[str], result: HookResult) -> None:
    name = next(iter(words))
    for line in result.output.splitlines():
        log.info("build %d: hook %s: %s", build.id, name, line)
    if result.exit_status != 0:
        log.warning(
            "build %d: hook %s ended with status %d after %s",
            build.id,
            name,
            result.exit_status,
            build.status,
        )
