"""Hooks that are still to be told: durable, in order for each build, and never in anybody's way.

    data/hooks/ID.json      a build whose end its project's hook has not been told of yet

Such a file is there from the build's start until its hook has ended with 0 after the final status.
The status itself stands in the build's record, so a status that was overtaken is never told, and
nothing is told after the final one. A hook that runs holds a lock on the file, so that it is
waited for if its server was killed. Contract, section 5, rule 18.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

from minici.build import RUNNING, Build
from minici.config import ProjectConfig
from minici.durable import sync_folder
from minici.hooks.runner import HOOK_SECONDS, HookResult, run_hook
from minici.hooks.told import Told, read_told
from minici.timestamps import parse_time

log = logging.getLogger("minici.hooks")

_STOP_SECONDS = 2.0
_WORKERS = 4  # hooks of one project that run at a time
_FIRST_RETRY_SECONDS = 5.0
_MOST_RETRY_SECONDS = 600.0
_GIVE_UP_SECONDS = 24 * 3600.0
_EARLIER_CHECK_SECONDS = 0.2

Load = Callable[[int], Optional[Build]]
Describe = Callable[[Build], tuple[Mapping[str, Any], Mapping[str, str]]]


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
        self._told: dict[int, Told] = {}
        self._workers: list[threading.Thread] = []
        self._stopping = False
        self._ending = threading.Event()  # ends the hooks that run
        self._patient_until = clock() + HOOK_SECONDS  # with hooks of a server that was killed

    # The life of the queue.

    def restore(self, unfinished: Iterable[Build]) -> None:
        """Take up what a server before this one has left. Before `start`, once."""
        if not self._projects:
            return
        for path in self._folder.glob("*.json") if self._folder.is_dir() else ():
            with suppress(ValueError):
                self._told[int(path.stem)] = read_told(path)
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
                told = self._told[build.id] = Told(build.id)
                self._save(told)
            if _is_told_of(build) and not told.knows(build):
                told.not_before = 0.0
                self._enqueue(project, build.id)

    def failure(self, number: int) -> Optional[HookResult]:
        """The last failure of a build's hook, if it has not succeeded since."""
        with self._changed:
            told = self._told.get(number)
            if told is None or told.failure is None:
                return None
            again = told.running or any(number in each.waiting for each in self._projects.values())
            return replace(told.failure, again=again)

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

    def _next(self, project: _ProjectQueue) -> Optional[Told]:
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

    def _tell(self, project: _ProjectQueue, told: Told) -> None:
        build = self._load(told.build)
        if build is None:  # removed, or damaged
            self._forget(told.build)
            return
        if not _is_told_of(build) or told.knows(build):
            return
        record, variables = self._describe(build)
        with told.lock(self._folder) as lock:
            if lock is None and self._clock() < self._patient_until:
                self._postpone(project, told, _EARLIER_CHECK_SECONDS)
                return
            result = run_hook(project.words, record, variables, self._ending, lock or ())
        if result is None:  # the server stops, and the next one tells it
            return
        _log(build, project.words, result)
        if result.exit_status == 0:
            self._succeeded(build, told)
        elif build.final and not _is_old(build):
            self._again(project, told, result)
        else:
            self._gave_up(build, told, result)

    def _succeeded(self, build: Build, told: Told) -> None:
        if build.final:
            self._forget(build.id)
            return
        with self._changed:
            told.learn(build, None)
            self._save(told)
        self._look_again(build)

    def _gave_up(self, build: Build, told: Told, result: HookResult) -> None:
        """A status that is not final is told once; a final one for a day."""
        with self._changed:
            told.learn(build, result)
            self._save(told)
        self._look_again(build)

    def _again(self, project: _ProjectQueue, told: Told, result: HookResult) -> None:
        with self._changed:
            told.failure = result
            self._save(told)
        pause = _FIRST_RETRY_SECONDS * 2.0 ** min(told.failures, 10)
        told.failures += 1
        self._postpone(project, told, min(_MOST_RETRY_SECONDS, pause))

    def _postpone(self, project: _ProjectQueue, told: Told, seconds: float) -> None:
        with self._changed:
            told.not_before = self._clock() + seconds
            self._enqueue(project, told.build)

    def _look_again(self, before: Build) -> None:
        """The status may have changed while its hook ran."""
        build = self._load(before.id)
        if build is not None:
            self.build_changed(build)

    # Files.

    def _save(self, told: Told) -> None:
        """Keep what a build's hook was told. The lock is held by the caller."""
        try:
            told.save(self._folder)
        except OSError as error:
            log.error("build %d: its hook's state can't be written: %s", told.build, error)

    def _forget(self, number: int) -> None:
        with self._changed:
            self._told.pop(number, None)
            for project in self._projects.values():
                if number in project.waiting:
                    project.waiting.remove(number)
        with suppress(OSError):
            Told(number).path(self._folder).unlink()
            sync_folder(self._folder)


def _is_told_of(build: Build) -> bool:
    return build.final or build.status == RUNNING or build.last_attempt == 0


def _is_old(build: Build) -> bool:
    """True if the build has been final for longer than its hook is tried."""
    finished = parse_time(build.finished_at)
    if finished is None:
        return True
    return (datetime.now(timezone.utc) - finished).total_seconds() > _GIVE_UP_SECONDS


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
