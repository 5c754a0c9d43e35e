"""A TCP proxy that cuts, delays and swallows, for tests of a bad network.

It stands between a caller and a port of 127.0.0.1. Its mode is looked at for each piece of
bytes, so that it can be changed while connections are open.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from typing import Optional

PASS = "pass"  # everything goes through
HANG = "hang"  # connections are accepted, and nothing moves
DEAF = "deaf"  # requests go through; answers are swallowed, and the connection is cut
CUT = "cut"  # every connection is cut at its first byte


class Proxy:
    """A proxy to `127.0.0.1:target`, listening on `port` of its own from the start."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode = PASS
        self.delay = 0.0  # seconds before each piece in either direction
        self.cut_after: Optional[int] = None  # bytes of answers, on each connection
        self.counts = {"connections": 0, "cuts": 0}
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()  # guards _pairs and counts
        self._closed = threading.Event()
        self._listener: Optional[socket.socket] = None
        self.port = 0
        self.listen()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Accept connections (again, on the same port, after `refuse`)."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Close the port, and cut what is open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
            listener.close()
        self.cut()

    def cut(self) -> int:
        """Cut every open connection; return how many sockets that were."""
        with self._lock:
            open_now = list(self._pairs)
        for each in open_now:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self.counts["cuts"] += len(open_now) // 2
        return len(open_now)

    def close(self) -> None:
        self._closed.set()
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.counts["connections"] += 1
            threading.Thread(target=self._carry, args=(caller,), daemon=True).start()

    def _carry(self, caller: socket.socket) -> None:
        try:
            callee = socket.create_connection(("127.0.0.1", self.target), timeout=10)
        except OSError:
            caller.close()
            return
        callee.settimeout(None)
        with self._lock:
            self._pairs.update((caller, callee))
        back = threading.Thread(target=self._pump, args=(callee, caller, True), daemon=True)
        back.start()
        self._pump(caller, callee, False)
        back.join()
        with self._lock:
            self._pairs.difference_update((caller, callee))
        caller.close()
        callee.close()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while True:
                piece = source.recv(65536)
                piece = self._judge(piece, answers, carried)
                if not piece:
                    break
                sink.sendall(piece)
                carried += len(piece)
                if answers and carried >= self._most():
                    break
        whole = answers or self.mode == CUT
        for each in (source, sink) if whole else (sink,):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR if whole else socket.SHUT_WR)

    def _judge(self, piece: bytes, answers: bool, carried: int) -> bytes:
        """What of a piece may go on: nothing means that the connection is cut here."""
        if self.delay and piece:
            self._closed.wait(self.delay)
        while self.mode == HANG and not self._closed.is_set():
            time.sleep(0.02)
        if self.mode == CUT or (self.mode == DEAF and answers):
            return b""
        return piece[: max(0, self._most() - carried)] if answers else piece

    def _most(self) -> int:
        """The bytes of an answer that may pass."""
        most = self.cut_after
        return sys.maxsize if most is None else most
