"""Something bad that lasts for a while."""

from __future__ import annotations

import random
import threading


class Trouble:
    """Whoever holds its lock begins it, and ends it later, from another thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def begin(self, chance: random.Random) -> str:
        """Do something bad; return its name for the report."""
        raise NotImplementedError

    def end(self) -> None:
        """Have all as it was."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """Return what should not have happened, once the queue has drained."""
        return []
