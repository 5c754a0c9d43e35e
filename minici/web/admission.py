"""The admission of connections: a bound for all, with room kept for agents."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator

from minici.reasons import Reason
from minici.web.routing import PEOPLE, HttpError, Request

MOST_CONNECTIONS = 1000
RESERVED_FILES = 24  # descriptors that are not for connections: records, logs, calls to agents


class Admission:
    """The open connections of a listener, `most` of them at a time. For any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._people = threading.BoundedSemaphore(most * 3 // 4)
        self._lock = threading.Condition()  # guards _open and _watched
        self._watched: set[socket.socket] = set()  # those whose events are sent by one thread
        # By the socket as accepted: the one to shut (TLS wraps it), and whether it waits for a
        # request. The longest unmarked comes first.
        self._open: dict[socket.socket, tuple[socket.socket, bool]] = {}

    def admit(self, accepted: socket.socket) -> bool:
        """Take in a connection, in place of one that waits if need be; False if none does."""
        with self._lock:
            if len(self._open) >= self._most:
                self._make_room()
            if len(self._open) >= self._most:
                return False
            self._open[accepted] = (accepted, True)
            return True

    def _make_room(self) -> None:
        """Drop the connection that has waited longest without sending a whole request."""
        for accepted, (connection, waiting) in list(self._open.items()):
            if waiting:
                del self._open[accepted]
                _shut(connection)
                return

    def mark(self, accepted: socket.socket, connection: socket.socket, waiting: bool) -> None:
        """Note whether a connection waits for a request. For the connection's own thread."""
        with self._lock:
            if self._open.pop(accepted, None) is not None:
                self._open[accepted] = (connection, waiting)

    def watch(self, accepted: socket.socket) -> None:
        """Note that a connection outlives its thread, until it is released."""
        with self._lock:
            self._watched.add(accepted)

    def is_watched(self, accepted: socket.socket) -> bool:
        with self._lock:
            return accepted in self._watched

    def release(self, accepted: socket.socket) -> None:
        """Note the end of a connection."""
        with self._lock:
            self._watched.discard(accepted)
            self._open.pop(accepted, None)
            self._lock.notify_all()

    def end_all(self, deadline: float) -> None:
        """End at once what waits for a request, and the rest at a moment on the monotonic clock."""
        with self._lock:
            for connection, waiting in self._open.values():
                if waiting:
                    _shut(connection)
            self._lock.wait_for(lambda: not self._open, max(0, deadline - time.monotonic()))
            for connection, _ in self._open.values():
                _shut(connection)

    @contextlib.contextmanager
    def room_for(self, request: Request) -> Iterator[None]:
        """Room for an answer, however slowly it is taken. Raises HttpError 503 without any.

        A quarter of all connections is kept for agents, whoever looks at pages and output.
        """
        if request.route is None or request.route.audience not in PEOPLE:
            yield
            return
        if not self._people.acquire(blocking=False):
            raise HttpError(503, Reason("too_many_viewers"), {"Retry-After": "10"})
        try:
            yield
        finally:
            self._people.release()


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def most_connections(files: int) -> int:
    """Return the most connections for so many files: three quarters are people's, each of whom
    may read an output, which is three files."""
    return min(MOST_CONNECTIONS, max(4, (files - RESERVED_FILES) * 2 // 7))


def kept_agents(files: int) -> int:
    """Return how many agents' connections are kept with so many files: each may have two, and
    listening takes four for each connection at most."""
    return max(1, files // 16, (files - 4 * most_connections(files)) // 2)


def descriptors() -> int:
    """Raise the limit of open files as far as allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16 * MOST_CONNECTIONS
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):
            return soft
        return most
    return soft
