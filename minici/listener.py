"""Connections: reading requests within limits of time and size, and writing answers.

The lower half of serving; what is served is a Site of `web`. Every limit here stands against a
way to wear a server down that `http.server` leaves open.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import re
import resource
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Optional
from urllib.parse import unquote_to_bytes

from minici.forms import BadParams, read_query
from minici.viewers import Viewers
from minici.web import PEOPLE, HttpError, Request, Response, Site, Viewing

log = logging.getLogger("minici.web")

HEAD_SECONDS = 15.0  # for the request line and the headers, from the first byte
IDLE_SECONDS = 15.0  # for the first byte
BODY_SECONDS = 15.0  # for a body, besides what its bytes take at the slowest rate allowed
SLOWEST = 16 * 1024  # bytes a second
WRITE_SECONDS = 60.0  # for one piece of an answer to be taken
HEAD_LIMIT = 64 * 1024  # bytes of request line and headers
PIECE = 1024 * 1024  # bytes of a body that are asked of the system in one go
LINE_LIMIT = 8 * 1024  # bytes of the request line
DRAIN_LIMIT = 256 * 1024  # bytes of an unread body that are read to keep a connection
LINGER_SECONDS = 10.0  # for a client that still sends, to read its answer
LINGER_IDLE_SECONDS = 2.0  # likewise, without a byte from it
MOST_CONNECTIONS = 1000
RESERVED_FILES = 24  # descriptors that are not for connections: records, logs, calls to agents


# A name of RFC 9110 with nothing before or behind it, and no control character in the value:
# what two servers could take for different things is taken for nothing.
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r?\n")


class Gone(Exception):
    """The other side of the connection closed it, or was too slow."""


class _TimedReader(io.RawIOBase):
    """Reads a socket until a moment, however slowly the bytes come."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Gone("too slow")
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        except (OSError, ValueError) as error:
            raise Gone(str(error)) from None


class _Body:
    """The body of one request: never reads past its end, nor waits for ever."""

    def __init__(self, source: io.BufferedReader[Any], timer: _TimedReader, length: int) -> None:
        self.length = length
        self.left = length
        self._source = source
        self._timer = timer
        self._started = 0.0
        self.before_read: Optional[Callable[[], None]] = None

    def read(self, size: int = -1) -> bytes:
        if self.before_read:
            self.before_read()
            self.before_read = None
        wanted = self.left if size < 0 else min(size, self.left)
        pieces = []
        while wanted > 0:
            piece = self._read_some(min(wanted, PIECE))
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _read_some(self, size: int) -> bytes:
        self._started = self._started or time.monotonic()
        taken = self.length - self.left
        self._timer.deadline = self._started + BODY_SECONDS + taken / SLOWEST
        piece = self._source.read1(size)
        if not piece:
            raise Gone("the body ended early")
        self.left -= len(piece)
        return piece


class Connection(BaseHTTPRequestHandler):
    """One connection, in a thread of its own; requests on it come one after the other.

    It goes to the viewers when its last answer is something to watch.
    """

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # a line that is no HTTP gets an answer that is
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server: Listener

    def setup(self) -> None:
        self.accepted = self.request
        self.viewing: Optional[Viewing] = None
        self.room = contextlib.ExitStack()  # what a connection that is handed over keeps
        if self.server.context is not None:
            self.request = self._secure(self.server.context)
            self.server.mark(self.accepted, self.request, waiting=True)
        super().setup()
        self.timer = _TimedReader(self.connection)
        self.source = io.BufferedReader(self.timer, 64 * 1024)
        self.rfile = self.source

    def _secure(self, context: ssl.SSLContext) -> socket.socket:
        self.request.settimeout(HEAD_SECONDS)
        try:
            return context.wrap_socket(self.request, server_side=True)
        except (OSError, ValueError) as error:
            log.info("%s does not speak TLS here (%s): closed", self.client_address[0], error)
            raise Gone(str(error)) from None

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass
        if self.viewing is not None:
            self.server.hand_over(self.accepted, self.connection, self.viewing, self.room)
        elif isinstance(self.connection, ssl.SSLSocket):
            self.connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except (Gone, ConnectionError, socket.timeout, ssl.SSLError):
            self.close_connection = True

    def handle_one_request(self) -> None:
        self.close_connection = True
        if not self._await_request():
            return
        started = time.monotonic()
        self.requestline, self.command, self.request_version = "", "", ""
        request: Optional[Request] = None
        body: Optional[_Body] = None
        with contextlib.ExitStack() as held:
            try:
                self._read_head()
                body = self._body()
                request = self._request(body)
                self._expect(body)
                respond = self.server.site.admit(request)
                held.enter_context(self.server.room_for(request))
                response = self._answer_of(request, respond)
            except HttpError as error:
                response = self.server.site.error(request, error)
                self.close_connection = self.close_connection or request is None
                self.server.mark(self.accepted, self.connection, waiting=True)  # it may go
            self._finish_request(request, response, body, started)
            if self.viewing is not None:
                self.room = held.pop_all()
        if self.viewing is None:
            self._see_off(body)

    def _await_request(self) -> bool:
        """Wait for the first byte of a request; False if there will be none."""
        self.timer.deadline = time.monotonic() + IDLE_SECONDS
        self.server.mark(self.accepted, self.connection, waiting=True)
        try:
            return bool(self.source.peek(1))
        except Gone:
            return False

    def _read_head(self) -> None:
        self.timer.deadline = time.monotonic() + HEAD_SECONDS
        limited: Any = _HeadLines(self.source)
        self.rfile = limited  # where the base class reads headers
        try:
            self.raw_requestline = limited.readline(LINE_LIMIT + 1)
            if self.raw_requestline in (b"\r\n", b"\n"):  # left over from before: RFC 9112, 2.2
                self.raw_requestline = limited.readline(LINE_LIMIT + 1)
            self._check_line(self.raw_requestline)
            if not self.parse_request():
                raise HttpError(400, "this is no HTTP request")
        finally:
            self.rfile = self.source
        self.server.mark(self.accepted, self.connection, waiting=False)

    @staticmethod
    def _check_line(line: bytes) -> None:
        if len(line) > LINE_LIMIT:
            raise HttpError(414, f"the request line is longer than {LINE_LIMIT} bytes")
        if not re.fullmatch(rb"[A-Z]{1,20} [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]\r?\n", line):
            raise HttpError(400, "this is no request line of HTTP/1.1")

    def send_error(
        self, code: int, message: Optional[str] = None, explain: Optional[str] = None
    ) -> None:
        """What the base class finds wrong with a request is an error like any other."""
        raise HttpError(code, message or "this is no HTTP request")

    def handle_expect_100(self) -> bool:
        return True  # said when the body is asked for, and not before it is known to be welcome

    def _expect(self, body: _Body) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            body.before_read = self._say_continue

    def _say_continue(self) -> None:
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.wfile.flush()

    def _body(self) -> _Body:
        lengths = self.headers.get_all("Content-Length") or []
        if self.headers.get_all("Transfer-Encoding"):
            raise self._unframed(411, "send the body with a Content-Length, not in chunks")
        if len(lengths) > 1 or (lengths and not re.fullmatch(r"[0-9]{1,18}", lengths[0].strip())):
            raise self._unframed(400, "there must be one Content-Length, a number")
        return _Body(self.source, self.timer, int(lengths[0]) if lengths else 0)

    def _unframed(self, status: int, sentence: str) -> HttpError:
        """Nobody knows where the body ends: the connection can't be used again."""
        self.close_connection = True
        return HttpError(status, sentence, {"Connection": "close"})

    def _request(self, body: _Body) -> Request:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) > 1 or (not hosts and self.request_version == "HTTP/1.1"):
            raise HttpError(400, "there must be one Host")
        target, _, query = self.path.partition("?")
        absolute = re.match(r"https?://([^/]*)", target)
        if absolute:  # what stands here counts, and the Host beside it does not (RFC 9112, 3.2.2)
            target = target[absolute.end() :] or "/"
            del self.headers["Host"]
            self.headers["Host"] = absolute[1]
        if not target.startswith("/"):
            raise HttpError(400, "the target of a request begins with a slash")
        try:
            params = read_query(query)
            path = unquote_to_bytes(target.encode("latin-1")).decode("utf-8")
        except UnicodeDecodeError:
            path = target
        except BadParams as error:
            raise HttpError(400, str(error)) from None
        return Request(
            self.command,
            path,
            params,
            self.headers,  # type: ignore[arg-type]
            body,
            str(self.client_address[0]),
            secure=self.server.context is not None,
        )

    def _answer_of(self, request: Request, respond: Callable[[], Response]) -> Response:
        try:
            return respond()
        except (HttpError, Gone):
            raise
        except BadParams as error:
            raise HttpError(400, str(error)) from None
        except Exception:
            log.exception("%s %s failed", request.method, _safe(request.path))
            raise HttpError(500, "something went wrong here; the server's log says what") from None

    def _finish_request(
        self, request: Optional[Request], response: Response, body: Optional[_Body], started: float
    ) -> None:
        if body is None or body.left > DRAIN_LIMIT or (body.left and body.before_read):
            self.close_connection = True  # where the next request begins can't be known
        if self.request_version == "HTTP/1.0":
            self.close_connection = True  # it can't be told that it may go on
        try:
            self._respond(request, response)
        finally:
            self._log(request, response, started)

    def _see_off(self, body: Optional[_Body]) -> None:
        """Read what is left of a request that has its answer: with the connection's last, for as
        long as the client may take to read it, or the connection would be reset under it."""
        if body is not None and not body.left:
            return
        self.server.mark(self.accepted, self.connection, waiting=True)
        if self.close_connection or body is None:
            self._linger()
        else:
            body.read()

    def _respond(self, request: Optional[Request], response: Response) -> None:
        self.connection.settimeout(WRITE_SECONDS)
        if response.viewing is not None:
            self._begin_viewing(request, response, response.viewing)
            return
        stream = not isinstance(response.body, bytes)
        length = response.length if stream else len(response.body)  # type: ignore[arg-type]
        if length is None or self.server.stopping:
            self.close_connection = True
        self.wfile.write(self._head(response, length))
        blocks: Iterable[bytes] = response.body if stream else (response.body,)  # type: ignore
        if request is None or request.method != "HEAD":
            for block in blocks:
                self.wfile.write(block)
                if length is None:
                    self.wfile.flush()
        self.wfile.flush()

    def _begin_viewing(
        self, request: Optional[Request], response: Response, viewing: Viewing
    ) -> None:
        """Send the head; what follows is sent by another thread, once this one has ended."""
        self.close_connection = True
        try:
            self.wfile.write(self._head(response, None))
            self.wfile.flush()
            if request is not None and request.method != "HEAD":
                self.viewing = viewing
        finally:
            if self.viewing is None:
                viewing.close()

    def _head(self, response: Response, length: Optional[int]) -> bytes:
        reason = self.responses.get(response.status, ("",))[0]
        fields = {
            "Date": self.date_time_string(),
            "Content-Type": response.content_type,
            "Keep-Alive": f"timeout={IDLE_SECONDS:.0f}",  # said on one that ends, too: for the next
            **self.server.site.headers,
            **response.headers,
        }
        if length is not None and response.status != 304:  # whose length is that of the 200
            fields["Content-Length"] = str(length)
        if self.close_connection:
            fields["Connection"] = "close"
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        lines += [f"{name}: {_safe(value)}" for name, value in fields.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _linger(self) -> None:
        give_up = time.monotonic() + LINGER_SECONDS
        try:
            self.connection.shutdown(socket.SHUT_WR)
            more = True
            while more:
                self.timer.deadline = min(give_up, time.monotonic() + LINGER_IDLE_SECONDS)
                more = bool(self.source.read1(64 * 1024))
        except (OSError, Gone):
            pass

    def _log(self, request: Optional[Request], response: Response, started: float) -> None:
        quiet = request is not None and request.route is not None and request.route.quiet
        log.log(
            logging.DEBUG if quiet and response.status < 400 else logging.INFO,
            "%s %s %s %d %.0f ms",
            self.client_address[0],
            request.method if request else "-",
            _safe(request.path) if request else "-",
            response.status,
            (time.monotonic() - started) * 1000,
        )


class _HeadLines:
    """The lines of a request's head, which may have HEAD_LIMIT bytes in all."""

    def __init__(self, source: io.BufferedReader[Any]) -> None:
        self._source = source
        self._left = HEAD_LIMIT
        self._first = True

    def readline(self, most: int) -> bytes:
        line = self._source.readline(min(most, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise HttpError(431, f"the headers are longer than {HEAD_LIMIT} bytes")
        if not self._first and line.strip(b"\r\n") and not _HEADER.fullmatch(line):
            raise HttpError(400, "a header is not of the form name: value")
        self._first = self._first and not line.strip(b"\r\n")
        return line


class Listener(ThreadingHTTPServer):
    """A Site on an address. `start` and `stop` are for the thread that made it.

    `context` serves HTTPS. Raises OSError where the address can't be had.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(
        self, host: str, port: int, site: Site, context: Optional[ssl.SSLContext] = None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.site = site
        self.context = context
        self.stopping = False
        self.viewers = Viewers()
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
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        threading.current_thread().name = f"connection-{client_address[1]}"
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                if request not in self._watched:
                    self._open.pop(request, None)
                self._lock.notify_all()

    def hand_over(
        self,
        accepted: socket.socket,
        connection: socket.socket,
        viewing: Viewing,
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
        with self._lock:
            if request in self._watched:
                return
        super().shutdown_request(request)

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
            raise HttpError(503, "too many are watching; look again later", {"Retry-After": "10"})
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
        if not isinstance(sys.exc_info()[1], Gone):
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


def _safe(text: str) -> str:
    """Text that stays on its line, in a header and in a log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)
