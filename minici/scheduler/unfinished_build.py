"""A build that is not final, as the scheduler keeps it in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Callable, Optional

from minici.build import AttemptId, Build
from minici.files.incoming import IncomingFiles
from minici.scheduler.roster import KnownAgent


class UnfinishedBuild:
    """A build that is not final. `lock` is held to change it; `touch` tells who watches it."""

    def __init__(self, build: Build, began_at: float, watched: Callable[[int], None]) -> None:
        self.lock = threading.RLock()
        self.build = build
        self.began_at = began_at  # when the current attempt began, on the monotonic clock
        self.cancel_by: Optional[float] = None  # when its agent must have ended it
        self.cancel_told = False
        self.version = object()  # another one with each change that a viewer could see
        self.files: Optional[tuple[int, IncomingFiles]] = None  # an attempt's, if it brings any
        self._watched = watched

    def touch(self) -> None:
        """Tell viewers that there is more output or another state, which can be read now."""
        self.version = object()
        self._watched(self.build.id)


@dataclass(frozen=True)
class Dispatch:
    """A build that was taken from the queue for an agent, and the attempt that this will be."""

    unfinished: UnfinishedBuild
    agent: KnownAgent
    attempt: AttemptId
