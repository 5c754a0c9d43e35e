"""Builds of what was pushed: each started once, whenever the server dies.

Contract, section 5, rules 16 and 17.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Optional

from minici.build import PUSH, TAG, Build
from minici.config import ProjectConfig
from minici.config_values import NOTHING, RUNNING_TOO
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.state import State
from minici.store import NoSuchBuild, Store
from minici.triggers.refs import short_name

log = logging.getLogger("minici.triggers")


class Pushes:
    """Starts builds of refs that have moved, and remembers where the refs were. For any thread.

    A ref is remembered after its build is durable. So a server that dies in between finds the
    ref moved again, and its build among those that came after the refs were last remembered.
    """

    def __init__(self, store: Store, state: State, dispatcher: Dispatcher) -> None:
        self._store = store
        self._state = state
        self._dispatcher = dispatcher

    def remembered(self, project: str) -> Optional[Mapping[str, str]]:
        """Return the remembered refs of a project; None if they were never looked at."""
        record = self._store.load_refs(project)
        return None if record is None else record.refs

    def remember(self, project: str, refs: Mapping[str, str]) -> None:
        """Make durable where the project's refs are. Raises StoreUnavailable."""
        self._store.save_refs(project, refs)

    def start(self, project: ProjectConfig, ref: str, revision: str, event: str) -> Build:
        """Start the build of a ref that has moved, unless a server before this one has.

        Ends the builds that it supersedes. Raises QueueFull or StoreUnavailable.
        """
        build = self._started_before(project, ref, revision)
        if build is None:
            build = self._state.enqueue(
                commit=short_name(ref),
                command=project.command,
                project=project,
                ref=ref,
                event=event,
                revision=revision,
            )
            log.info("build %d: %s is at %s now", build.id, ref, revision[:10])
        if event == PUSH:
            self._supersede(project, build)
        return build

    def _started_before(self, project: ProjectConfig, ref: str, revision: str) -> Optional[Build]:
        """The build of this place of the ref, among those not yet remembered."""
        record = self._store.load_refs(project.name)
        first = 1 if record is None else record.newest + 1
        for number in range(self._store.newest, first - 1, -1):
            try:
                build = self._state.load(number)
            except NoSuchBuild:
                continue
            if not isinstance(build, Build) or build.event not in (PUSH, TAG):
                continue
            if (build.project, build.ref) == (project.name, ref):
                return build if build.revision == revision else None
        return None

    def _supersede(self, project: ProjectConfig, newer: Build) -> None:
        if project.supersede == NOTHING:
            return
        for older in self._state.unfinished_builds():
            if _is_older_push(older, newer):
                running_too = project.supersede == RUNNING_TOO
                self._dispatcher.supersede(older.id, newer.id, running_too)


def _is_older_push(older: Build, newer: Build) -> bool:
    return (
        older.id < newer.id
        and older.event == PUSH
        and (older.project, older.ref) == (newer.project, newer.ref)
    )
