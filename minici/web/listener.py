"""Listening: connections by the thousand, bounded, with room kept for agents.

The lower half of serving: what becomes of one connection is `connection`'s, and what is served is a
Application of `web`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any, Optional

from minici.reasons import Reason
from minici.thread_pool import ThreadPool
from minici.web import tls
from minici.web.connection import Connection
from minici.web.event_streams import EventSender
from minici.web.request_reader import Disconnected
from minici.web.routing import PEOPLE, Application, EventStream, HttpError, Request

log = logging.getLogger("minici.web.routing")

MOST_CONNECTIONS = 1000
_IDLE_THREAD_SECONDS = 2.0
RESERVED_FILES = 24  # descriptors that are not for connections: records, logs, calls to agents


class Listener(ThreadingHTTPServer):
    """A Application on an address. `start` and `stop` are for the thread that made it.

    `context` serves HTTPS. Raises OSError where the address can't be had.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(
        self, host: str, port: int, application: Application, context: Optional[tls.Context] = None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.application = application
        self.context = context
        self.stopping = False
        self.viewers = EventSender()
        self._in_background = ThreadPool(_IDLE_THREAD_SECONDS)
        self._most = _most_connections(descriptors())
        self._people = threading.BoundedSemaphore(self._most * 3 // 4)
        self._lock = threading.Condition()  # guards _open and _watched
        self._watched: set[socket.socket] = set()  # those that are with the viewers
        # By the socket as accepted: the one to shut (TLS wraps it), and whether it waits for a
        # request. The longest unmarked comes first.
        self._open: dict[socket.socket, tuple[socket.socket, bool]] = {}
        super().__init__((host, port), Connection)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.2,), name=f"listener-{self.server_port}", daemon=True
        )

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the DNS for a name
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def start(self) -> None:
        self._thread.start()

    def stop(self, within: float = 3.0) -> None:
        """Accept nothing more, let the answers under way be finished for `within` seconds."""
        self.stopping = True
        self.shutdown()
        self.server_close()
        deadline = time.monotonic() + within
        self.viewers.stop()
        with self._lock:
            for connection, waiting in self._open.values():
                if waiting:
                    _shut(connection)
            self._lock.wait_for(lambda: not self._open, max(0, deadline - time.monotonic()))
            for connection, _ in self._open.values():
                _shut(connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                time.sleep(0.1)  # the connection stays in the queue: asking again at once spins
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= self._most:
                self._make_room()
            if len(self._open) >= self._most:
                self._turn_away(request)
                return
            self._open[request] = (request, True)
        # Not a new thread for each: to start one costs more than most requests.
        self._in_background(
            "a connection", lambda: self.process_request_thread(request, client_address)
        )

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        threading.current_thread().name = f"connection-{client_address[1]}"
        super().process_request_thread(request, client_address)

    def hand_over(
        self,
        accepted: socket.socket,
        connection: socket.socket,
        viewing: EventStream,
        room: contextlib.ExitStack,
    ) -> None:
        """Give a connection to the viewers, with the room it takes up. For the connection's own
        thread, as its last act."""

        def gone() -> None:
            room.close()
            with self._lock:
                self._watched.discard(accepted)
                self._open.pop(accepted, None)
                self._lock.notify_all()

        with self._lock:
            self._watched.add(accepted)
        self.viewers.add(connection, viewing, gone)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection that is not with the viewers, also where it got no thread."""
        with self._lock:
            if request in self._watched:
                return
        super().shutdown_request(request)
        with self._lock:
            self._open.pop(request, None)
            self._lock.notify_all()

    def _make_room(self) -> None:
        """Drop the connection that has waited longest without sending a whole request."""
        for accepted, (connection, waiting) in list(self._open.items()):
            if waiting:
                del self._open[accepted]
                _shut(connection)
                return

    def _turn_away(self, request: socket.socket) -> None:
        try:
            request.settimeout(0)
            request.send(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                b"Connection: close\r\nContent-Length: 0\r\n\r\n"
            )
        except OSError:
            pass
        self.shutdown_request(request)

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

    def mark(self, accepted: socket.socket, connection: socket.socket, waiting: bool) -> None:
        """Note whether a connection waits for a request. For the connection's own thread."""
        with self._lock:
            if self._open.pop(accepted, None) is not None:
                self._open[accepted] = (connection, waiting)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], Disconnected):
            log.exception("the connection from %s broke off", client_address[0])


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _most_connections(files: int) -> int:
    """How many connections go with so many descriptors: three quarters are people's, of whom each
    may read an output, which is three files."""
    return min(MOST_CONNECTIONS, max(4, (files - RESERVED_FILES) * 2 // 7))


def descriptors() -> int:
    """How many files this process may have open, as many as it can use if it is allowed to."""
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
