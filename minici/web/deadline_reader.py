"""Reading a socket until a moment, however slowly the bytes come: for both sides of HTTP."""

from __future__ import annotations

import io
import socket
import time
from typing import Any, Optional

from minici.reasons import Reason


class DeadlineReader(io.RawIOBase):
    """Reads a socket until `deadline`, on the monotonic clock; None is never.

    `raw` is closed with it: it keeps the socket open when its connection is closed before.
    Raises OSError, of which TimeoutError says that the time is up.
    """

    def __init__(
        self,
        sock: socket.socket,
        deadline: Optional[float] = None,
        raw: Optional[io.RawIOBase] = None,
    ) -> None:
        self.deadline = deadline
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(Reason("slow_answer"))
            self._sock.settimeout(left)
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()
        super().close()
