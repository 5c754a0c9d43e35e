"""The record of what the hook of one build has been told: the file `data/hooks/ID.json`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.build import Build
from minici.durable import write_atomic
from minici.hooks.runner import HookResult


@dataclass
class Told:
    """The last status that the hook of a build was told, and the attempt that was in it.

    `failure` is the last one of the hook, if it has not succeeded since. It may not be run before
    `not_before`, on the queue's clock.
    """

    build: int
    status: Optional[str] = None
    attempt: int = 0
    failure: Optional[HookResult] = None
    failures: int = 0
    not_before: float = 0.0
    running: bool = False

    def knows(self, build: Build) -> bool:
        return (self.status, self.attempt) == (build.status, build.attempt)

    def learn(self, build: Build, failure: Optional[HookResult]) -> None:
        self.status, self.attempt, self.failure = build.status, build.attempt, failure

    def path(self, folder: Path) -> Path:
        return folder / f"{self.build}.json"

    def save(self, folder: Path) -> None:
        """Make it survive a power cut. Not while its hook runs. Raises OSError."""
        failure = self.failure and {
            "exit_status": self.failure.exit_status,
            "output": self.failure.output,
        }
        record = {"status": self.status, "attempt": self.attempt, "failure": failure}
        folder.mkdir(exist_ok=True)
        write_atomic(self.path(folder), json.dumps(record).encode("utf-8", "replace"))

    @contextmanager
    def lock(self, folder: Path) -> Iterator[Optional[Sequence[int]]]:
        """Lock the file for a hook, which inherits the descriptors; none if it can't be read.

        None while another hook has the lock: that of a server that was killed.
        """
        try:
            descriptor = os.open(self.path(folder), os.O_RDONLY)
        except OSError:
            yield ()
            return
        try:
            yield (descriptor,) if _can_lock(descriptor) else None
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # for what the hook has left behind, too
            os.close(descriptor)


def _can_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_told(path: Path) -> Told:
    """Read a file that an earlier server has left. Raises ValueError if it has another name.

    What can't be read is told again.
    """
    told = Told(int(path.stem))
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(path.read_text("utf-8"))
        told.status, told.attempt = record["status"], int(record.get("attempt", 0))
        if record["failure"]:
            told.failure = HookResult(
                int(record["failure"]["exit_status"]), str(record["failure"]["output"])
            )
    return told
