"""Builds of what was pushed: each started once, whenever the server dies.

Contract, section 5, rules 16 and 17.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from minici.build import PUSH, TAG, Build
from minici.config import ProjectConfig
from minici.config_values import NOTHING, RUNNING_TOO
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.state import State
from minici.store import BuildUnusable, NoSuchBuild, RefsRecord, Store
from minici.triggers.refs import MovedRef, short_name
from minici.validation import public

log = logging.getLogger("minici.triggers")


@dataclass(frozen=True)
class Restored:
    """The remembered refs of a project; None if they were never looked at.

    If the last look is not `complete`, `builds` are those that it started, oldest first.
    """

    refs: Optional[Mapping[str, str]]
    complete: bool = True
    builds: Sequence[Build] = ()


class Pushes:
    """Starts builds of refs that have moved, and remembers where the refs were. For any thread.

    A look that starts builds is announced on the disk before, and its refs are remembered after
    the builds are durable. So a server that dies in between leaves a look that is not completed,
    and its builds stand behind the one that was the newest then.
    """

    def __init__(self, store: Store, state: State, dispatcher: Dispatcher) -> None:
        self._store = store
        self._state = state
        self._dispatcher = dispatcher

    def restore(self, project: ProjectConfig) -> Restored:
        """Return what was remembered of the project's repository."""
        record = self._store.load_refs(project.name)
        if record is None or record.repository not in (None, public(project.repository)):
            return Restored(None)
        if record.after is None:
            return Restored(record.refs)
        builds = self._started_after(record.after, project)
        refs = {build.ref: build.revision for build in builds if build.ref and build.revision}
        return Restored({**record.refs, **refs}, False, builds)

    def _started_after(self, number: int, project: ProjectConfig) -> list[Build]:
        """The builds above `number` that pushes to the project have started."""
        found = []
        for each in range(number + 1, self._store.newest + 1):
            with contextlib.suppress(NoSuchBuild):
                build = self._state.load(each)
                if isinstance(build, Build) and build.event in (PUSH, TAG):
                    found.append(build)
        return [build for build in found if build.project == project.name]

    def begin(self, project: ProjectConfig, refs: Mapping[str, str]) -> None:
        """Make durable that builds of refs that are no longer at `refs` are going to be started.

        Raises StoreUnavailable.
        """
        record = RefsRecord(refs, public(project.repository), self._store.newest)
        self._store.save_refs(project.name, record)

    def remember(self, project: ProjectConfig, refs: Mapping[str, str]) -> None:
        """Make durable where the project's refs are. Raises StoreUnavailable."""
        self._store.save_refs(project.name, RefsRecord(refs, public(project.repository)))

    def has_room(self) -> bool:
        """Return whether the queue takes one more build."""
        return self._state.has_room()

    def start(self, project: ProjectConfig, moved: MovedRef) -> Build:
        """Start the build of a ref that has moved. Raises QueueFull or StoreUnavailable."""
        build = self._state.enqueue(
            commit=short_name(moved.ref),
            command=project.command,
            project=project,
            ref=moved.ref,
            event=moved.event,
            revision=moved.revision,
        )
        log.info("build %d: %s is at %s now", build.id, moved.ref, moved.revision[:10])
        return build

    def supersede(self, project: ProjectConfig, newer: Build) -> None:
        """End the builds that this one supersedes: rule 17. Raises StoreUnavailable."""
        if project.supersede == NOTHING or newer.event != PUSH:
            return
        for older in self._state.unfinished_builds():
            if _is_older_push(older, newer):
                running_too = project.supersede == RUNNING_TOO
                with contextlib.suppress(BuildUnusable):  # it has been dropped
                    self._dispatcher.supersede(older.id, newer.id, running_too)


def _is_older_push(older: Build, newer: Build) -> bool:
    return (
        older.id < newer.id
        and older.event == PUSH
        and (older.project, older.ref) == (newer.project, newer.ref)
    )
