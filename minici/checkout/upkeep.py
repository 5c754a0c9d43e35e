"""Upkeep of mirrors and working trees, in a thread of its own, at no build's expense.

Mirrors are packed while no build runs; what has not been used for `keep_mirrors` goes, as do the
trees of slots that are no more.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Callable, Optional

from minici.checkout.git import Git, GitError, GitUnavailable, Interrupted
from minici.checkout.mirrors import Mirrors
from minici.process.account import Account
from minici.process.command import StopOrder, Supervisor, SupervisorLost
from minici.process.launcher import SupervisorUnavailable

_LOOK_SECONDS = 60.0
_BUSY_SECONDS = 600.0
_MEASURE_SECONDS = 60.0  # from one measurement to the next: it reads every folder
_REST_SECONDS = 1.0  # after a build, in which the next one may begin
_JOB_SECONDS = 3600.0
_MOST_LOOSE_OBJECTS = 200
_MOST_PACKS = 20
_JOIN_SECONDS = 5.0
_FAILURES = (GitError, GitUnavailable, OSError, SupervisorLost, SupervisorUnavailable)

log = logging.getLogger(__name__)


class Upkeep:
    """`start` and `stop` are for the main thread, `disk_usage` for any.

    `keep_seconds` is how long mirrors and trees are kept after their last build.
    """

    def __init__(
        self,
        data: Path,
        mirrors: Mirrors,
        slots: int,
        keep_seconds: float,
        inherited: Mapping[str, str],
        account: Optional[Account],
    ) -> None:
        self._folders = {name: data / name for name in ("mirrors", "workspaces")}
        self._mirrors = mirrors
        self._slots = slots
        self._keep_seconds = keep_seconds
        self._inherited = inherited
        self._account = account
        self._supervisor = Supervisor(data / "processes" / "upkeep")
        self._usage: dict[str, int] = dict.fromkeys(self._folders, 0)
        self._changed = True  # since it was measured
        self._next_measurement = 0.0  # on the monotonic clock
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # guards the order
        self._order = StopOrder()  # of what is being done
        self._thread = threading.Thread(target=self._serve, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End what is being done; the next start goes on with it."""
        self._stopped.set()
        self._mirrors.released.set()
        with self._lock:
            self._order.give("this agent stops", grace=0.0)
        self._thread.join(_JOIN_SECONDS)

    def disk_usage(self) -> Mapping[str, int]:
        """The bytes of mirrors and of workspaces, as of a minute or two ago."""
        return self._usage

    def _serve(self) -> None:
        self._do(self._clear_up)
        while not self._stopped.is_set():
            used = self._mirrors.released.wait(min(_LOOK_SECONDS, max(1.0, self._keep_seconds)))
            if used:
                self._await_rest()
            self._do(self._look_after if used else self._remove_expired)
            if self._changed and time.monotonic() >= self._next_measurement:
                self._do(self._measure)
        self._supervisor.close()

    def _await_rest(self) -> None:
        """Wait until no build has run for a moment, but not for ever."""
        until = time.monotonic() + _BUSY_SECONDS
        released = self._mirrors.released
        while released.is_set() or not self._mirrors.is_idle:
            released.clear()
            if self._stopped.wait(_REST_SECONDS) or time.monotonic() > until:
                return

    def _do(self, job: Callable[[Git], None]) -> None:
        with self._lock:
            if self._stopped.is_set():
                return
            self._order = StopOrder()
        deadline = time.monotonic() + _JOB_SECONDS
        git = Git(self._supervisor, self._inherited, self._order, deadline, self._account)
        try:
            job(git)
        except Interrupted:
            self._mirrors.released.set()  # again, after the build
        except _FAILURES as error:
            log.warning("upkeep of mirrors and working trees: %s", error)
        except Exception:
            log.exception("upkeep of mirrors and working trees: internal error")
        finally:
            self._supervisor.close()  # at rest it would cost memory

    def _clear_up(self, git: Git) -> None:
        """Remove what an earlier life of the agent has left."""
        trash = [each for folder in self._folders.values() for each in folder.glob("*.trash")]
        for tree in self._folders["workspaces"].glob("*/*"):
            number = tree.name.partition(".")[0]
            if number.isdigit() and int(number) >= self._slots:
                trash.append(tree)
        if trash:
            git.remove(*trash)
        self._remove_expired(git)
        self._measure(git)

    def _look_after(self, git: Git) -> None:
        self._changed = True
        for mirror in self._mirrors.all():
            if self._mirrors.is_idle and _needs_packing(mirror.folder):
                mirror.pack(git, self._order)
        self._remove_expired(git)

    def _remove_expired(self, git: Git) -> None:
        expired = set(self._expired())
        trash: list[Path] = []
        for name in sorted(expired):
            with self._mirrors.forgetting(name) as unused:
                if unused:
                    trash += self._put_aside(name)
        if trash:
            log.info("removing what was not used for %g s: %s", self._keep_seconds, expired)
            git.remove(*trash)
            self._changed = True

    def _expired(self) -> Iterator[str]:
        """The names of mirrors, and of folders of working trees, whose last build is long ago."""
        oldest = time.time() - self._keep_seconds
        names = {each.stem for each in self._folders["mirrors"].glob("*.git")}
        trees = {each.name for each in self._folders["workspaces"].iterdir()}
        for name in names | {each for each in trees if not each.endswith(".trash")}:
            mirror, tree = self._paths(name)
            with suppress(OSError):
                if os.stat(mirror if mirror.exists() else tree).st_mtime < oldest:
                    yield name

    def _put_aside(self, name: str) -> Iterator[Path]:
        for path in self._paths(name):
            if path.exists():
                trash = path.with_name(f"{path.name}.{time.time_ns()}.trash")
                os.rename(path, trash)
                yield trash

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self._folders["mirrors"] / f"{name}.git", self._folders["workspaces"] / name

    def _measure(self, git: Git) -> None:
        self._next_measurement = time.monotonic() + _MEASURE_SECONDS
        self._usage = {name: git.disk_usage(folder) for name, folder in self._folders.items()}
        self._changed = False


def _needs_packing(mirror: Path) -> bool:
    objects = mirror / "objects"
    loose = sum(1 for _ in objects.glob("[0-9a-f][0-9a-f]/*"))
    packs = sum(1 for _ in objects.glob("pack/*.pack"))
    return loose > _MOST_LOOSE_OBJECTS or packs > _MOST_PACKS
