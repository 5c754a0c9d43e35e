"""Listening: connections by the thousand, each in a thread while it is served.

`connection` serves one of them, and what is served is an Application of `routing`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import socketserver
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any, Optional

from minici.thread_pool import ThreadPool
from minici.web import tls
from minici.web.admission import Admission, descriptors, most_connections
from minici.web.connection import Connection
from minici.web.event_streams import EventSender
from minici.web.request_reader import Disconnected
from minici.web.routing import Application, EventStream

log = logging.getLogger("minici.web.routing")

_IDLE_THREAD_SECONDS = 2.0


class Listener(ThreadingHTTPServer):
    """An Application on an address. `start` and `stop` are for the thread that made it.

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
        self.admission = Admission(most_connections(descriptors()))
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
        self.admission.end_all(deadline)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                time.sleep(0.1)  # the connection stays in the queue: asking again at once spins
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.admission.admit(request):
            self._turn_away(request)
            return
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
        event_stream: EventStream,
        room: contextlib.ExitStack,
    ) -> None:
        """Give a connection to the viewers, with the room it takes up. For the connection's own
        thread, as its last act."""

        def gone() -> None:
            room.close()
            self.admission.release(accepted)

        self.admission.watch(accepted)
        self.viewers.add(connection, event_stream, gone)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection that is not with the viewers, also where it got no thread."""
        if not self.admission.is_watched(request):
            super().shutdown_request(request)
            self.admission.release(request)

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

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], Disconnected):
            log.exception("the connection from %s broke off", client_address[0])
