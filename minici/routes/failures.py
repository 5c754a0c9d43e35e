"""The lines of a failed build's output that look like the failure."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Optional

from minici.output.excerpt import Matches, find_failures
from minici.output.reader import BOTH, Transcript

_MOST_LINES = 1000
_AT_ONCE_BYTES = 1024 * 1024  # looked through while a page is made: some 15 ms
_MOST_KNOWN = 64  # outputs


class FailureFinder:
    """Looks through outputs that have ended; what was found is remembered. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the next
        self._known: OrderedDict[tuple[int, int], Matches] = OrderedDict()

    def at_once(self, build: int, attempt: int, transcript: Transcript) -> Optional[Matches]:
        """The lines, if they are known or found in no time; None for a long output."""
        if transcript.size(BOTH) <= _AT_ONCE_BYTES:
            return self.find(build, attempt, transcript)
        with self._lock:
            return self._known.get((build, attempt))

    def find(self, build: int, attempt: int, transcript: Transcript) -> Matches:
        """The lines, however long it takes: a second for 100 MB."""
        with self._lock:
            found = self._known.get((build, attempt))
        if found is None:
            found = find_failures(transcript, _MOST_LINES)
            with self._lock:
                self._known[build, attempt] = found
                if len(self._known) > _MOST_KNOWN:
                    self._known.popitem(last=False)
        return found
