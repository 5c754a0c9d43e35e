"""A look at whether the disk can be written, shared by all who ask at the same time."""

from __future__ import annotations

import threading
import time
from typing import Callable, Optional

_VALID_SECONDS = 1.0


class WritableProbe:
    """Calls `probe`, which raises OSError, for one caller at a time. Any thread may call it.

    Whoever had to wait for another's result gets that one, if it is a second old at most.
    """

    def __init__(
        self, probe: Callable[[], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()  # held while the disk is probed; guards what follows
        self._error: Optional[OSError] = None
        self._valid_until = 0.0

    def check(self) -> None:
        """Raise OSError unless the disk could be written within the last second."""
        with self._lock:
            if self._clock() >= self._valid_until:
                self._error = self._look()
                self._valid_until = self._clock() + _VALID_SECONDS
            error = self._error
        if error is not None:
            raise OSError(error.errno, error.strerror or str(error))

    def _look(self) -> Optional[OSError]:
        try:
            self._probe()
        except OSError as error:
            return error
        return None
