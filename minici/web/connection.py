"""One connection: its requests read, answered and logged, one after the other.

What is served is an Application; who owns the connection is the Listener. Every limit here stands
against a way to wear a server down that `http.server` leaves open.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import socket
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler
from typing import Optional, Protocol
from urllib.parse import unquote_to_bytes

from minici.reasons import Reason, sentence_of
from minici.web import tls
from minici.web.admission import Admission
from minici.web.headers import Headers
from minici.web.params import BadParameter
from minici.web.request_reader import Body, Disconnected, HeadReader, RequestReader
from minici.web.routing import Application, EventStream, HttpError, Request, Response

log = logging.getLogger("minici.web.routing")

HEAD_SECONDS = 15.0  # for the request line and the headers, from the first byte
IDLE_SECONDS = 15.0  # for the first byte
WRITE_SECONDS = 60.0  # for one piece of an answer to be taken
LINE_LIMIT = 8 * 1024  # bytes of the request line
DRAIN_LIMIT = 256 * 1024  # bytes of an unread body that are read to keep a connection
LINGER_SECONDS = 10.0  # for a client that still sends, to read its answer
LINGER_IDLE_SECONDS = 2.0  # likewise, without a byte from it
# How a connection ends that the other side has left: no fault of ours, and no traceback.
_ENDED: tuple[type[Exception], ...] = (Disconnected, ConnectionError, socket.timeout, *tls.BROKEN)


class Owner(Protocol):
    """The part of its Listener that a connection needs."""

    application: Application
    context: Optional[tls.Context]
    stopping: bool
    admission: Admission

    def hand_over(
        self,
        accepted: socket.socket,
        connection: socket.socket,
        event_stream: EventStream,
        room: contextlib.ExitStack,
    ) -> None: ...


class Connection(BaseHTTPRequestHandler):
    """One connection, in a thread of its own; requests on it come one after the other.

    It goes to the viewers when its last answer is something to watch.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server: Owner  # type: ignore[assignment]
    headers: Headers  # type: ignore[assignment]

    def setup(self) -> None:
        self.accepted = self.request
        self.event_stream: Optional[EventStream] = None
        self.room = contextlib.ExitStack()  # what a connection that is handed over keeps
        if self.server.context is not None:
            self.request = self._secure(self.server.context)
            self.server.admission.mark(self.accepted, self.request, waiting=True)
        super().setup()
        self.timer = RequestReader(self.connection)
        self.source = io.BufferedReader(self.timer, 64 * 1024)
        self.rfile = self.source

    def _secure(self, context: tls.Context) -> socket.socket:
        self.request.settimeout(HEAD_SECONDS)
        try:
            return context.wrap_socket(self.request, server_side=True)
        except (OSError, ValueError) as error:
            log.info("%s does not speak TLS here (%s): closed", self.client_address[0], error)
            raise Disconnected(str(error)) from None

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass
        if self.event_stream is not None:
            self.server.hand_over(self.accepted, self.connection, self.event_stream, self.room)
        elif self.connection is not self.accepted:  # TLS around it
            self.connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except _ENDED:
            self.close_connection = True

    def handle_one_request(self) -> None:
        self.close_connection = True
        if not self._await_request():
            return
        started = time.monotonic()
        self.command, self.request_version = "", ""
        request: Optional[Request] = None
        body: Optional[Body] = None
        with contextlib.ExitStack() as held:
            try:
                self._read_head()
                body = self._body()
                request = self._request(body)
                self._expect(body)
                response = self._answer_of(request, held)
            except HttpError as error:
                response = self.server.application.error(request, error)
                self.close_connection = self.close_connection or request is None
                self.server.admission.mark(
                    self.accepted, self.connection, waiting=True
                )  # it may go
            self._finish_request(request, response, body, started)
            if self.event_stream is not None:
                self.room = held.pop_all()
        if self.event_stream is None:
            self._see_off(body)

    def _await_request(self) -> bool:
        """Wait for the first byte of a request; False if there will be none."""
        self.timer.deadline = time.monotonic() + IDLE_SECONDS
        self.server.admission.mark(self.accepted, self.connection, waiting=True)
        try:
            return bool(self.source.peek(1))
        except Disconnected:
            return False

    def _read_head(self) -> None:
        self.timer.deadline = time.monotonic() + HEAD_SECONDS
        head = HeadReader(self.source)
        line = head.line(LINE_LIMIT)
        if line in (b"\r\n", b"\n"):  # left over from before: RFC 9112, 2.2
            line = head.line(LINE_LIMIT)
        self._check_line(line)
        # Of bytes, which split at no more than the blanks that `_check_line` knows.
        words = [word.decode("latin-1") for word in line.split()]
        self.command, self.path, self.request_version = words
        self.headers = head.fields()
        ends = self.headers.get("Connection", "").lower() == "close"
        self.close_connection = ends or self.request_version == "HTTP/1.0"  # can't say to go on
        self.server.admission.mark(self.accepted, self.connection, waiting=False)

    @staticmethod
    def _check_line(line: bytes) -> None:
        if len(line) > LINE_LIMIT:
            raise HttpError(414, Reason("line_long", bytes=LINE_LIMIT))
        if not re.fullmatch(rb"[A-Z]{1,20} [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]\r?\n", line):
            raise HttpError(400, Reason("not_a_request"))

    def _expect(self, body: Body) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            body.before_read = self._say_continue

    def _say_continue(self) -> None:
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.wfile.flush()

    def _body(self) -> Body:
        lengths = self.headers.get_all("Content-Length")
        if self.headers.get_all("Transfer-Encoding"):
            raise self._unframed(411, Reason("no_chunks"))
        if len(lengths) > 1 or (lengths and not re.fullmatch(r"[0-9]{1,18}", lengths[0].strip())):
            raise self._unframed(400, Reason("one_length"))
        return Body(self.source, self.timer, int(lengths[0]) if lengths else 0)

    def _unframed(self, status: int, sentence: str) -> HttpError:
        """Nobody knows where the body ends: the connection can't be used again."""
        self.close_connection = True
        return HttpError(status, sentence, {"Connection": "close"})

    def _request(self, body: Body) -> Request:
        hosts = self.headers.get_all("Host")
        if len(hosts) > 1 or (not hosts and self.request_version == "HTTP/1.1"):
            raise HttpError(400, Reason("one_host"))
        target, _, query = self.path.partition("?")
        if target.startswith("//"):  # a redirect to it would lead to another host
            target = "/" + target.lstrip("/")
        absolute = re.match(r"https?://([^/]*)", target)
        if absolute:  # what stands here counts, and the Host beside it does not (RFC 9112, 3.2.2)
            target = target[absolute.end() :] or "/"
            self.headers.replace("Host", absolute[1])
        if not target.startswith("/"):
            raise HttpError(400, Reason("target_slash"))
        try:
            path = unquote_to_bytes(target.encode("latin-1")).decode("utf-8")
        except UnicodeDecodeError:
            path = target
        return Request(
            self.command,
            path,
            query,
            self.headers,
            body,
            str(self.client_address[0]),
            secure=self.server.context is not None,
        )

    def _answer_of(self, request: Request, held: contextlib.ExitStack) -> Response:
        """The answer of the application; `held` gets what it takes up until it is sent."""
        try:
            self.server.application.admit(request)
            held.enter_context(self.server.admission.room_for(request))
            return self.server.application.respond(request)
        except (HttpError, Disconnected):
            raise
        except BadParameter as error:
            raise HttpError(400, sentence_of(error)) from None
        except Exception:
            log.exception("%s %s failed", request.method, _safe(request.path))
            raise HttpError(500, Reason("server_error")) from None

    def _finish_request(
        self, request: Optional[Request], response: Response, body: Optional[Body], started: float
    ) -> None:
        if body is None or body.left > DRAIN_LIMIT or (body.left and body.before_read):
            self.close_connection = True  # where the next request begins can't be known
        try:
            self._respond(request, response)
        finally:
            self._log(request, response, started)

    def _see_off(self, body: Optional[Body]) -> None:
        """Read what is left of a request that has its answer: with the connection's last, for as
        long as the client may take to read it, or the connection would be reset under it."""
        if body is not None and not body.left:
            return
        self.server.admission.mark(self.accepted, self.connection, waiting=True)
        if self.close_connection or body is None:
            self._linger()
        else:
            body.read()

    def _respond(self, request: Optional[Request], response: Response) -> None:
        self.connection.settimeout(WRITE_SECONDS)
        if response.event_stream is not None:
            self._begin_event_stream(request, response, response.event_stream)
            return
        body = response.body
        length = len(body) if isinstance(body, bytes) else response.length
        if length is None or self.server.stopping:
            self.close_connection = True
        self.wfile.write(self._head(response, length))
        if request is None or request.method != "HEAD":
            self._send_body([body] if isinstance(body, bytes) else body, length)
        self.wfile.flush()

    def _send_body(self, blocks: Iterable[bytes], length: Optional[int]) -> None:
        """Send what was promised and no more; where there is less, the connection ends, or the
        next answer would be taken for the rest."""
        left = length
        for block in blocks:
            if left is None:
                self.wfile.write(block)
                self.wfile.flush()
                continue
            self.wfile.write(block[:left])
            left -= min(left, len(block))
            if not left:
                return
        if left:
            self.close_connection = True
            log.warning(
                "an answer of %d bytes is %d bytes short: its connection ends", length, left
            )

    def _begin_event_stream(
        self, request: Optional[Request], response: Response, event_stream: EventStream
    ) -> None:
        """Send the head; what follows is sent by another thread, once this one has ended."""
        self.close_connection = True
        try:
            self.wfile.write(self._head(response, None))
            self.wfile.flush()
            if request is not None and request.method != "HEAD":
                self.event_stream = event_stream
        finally:
            if self.event_stream is None:
                event_stream.close()

    def _head(self, response: Response, length: Optional[int]) -> bytes:
        reason = self.responses.get(response.status, ("",))[0]
        fields = {
            "Date": self.date_time_string(),
            "Content-Type": response.content_type,
            "Keep-Alive": f"timeout={IDLE_SECONDS:.0f}",  # said on one that ends, too: for the next
            **self.server.application.headers,
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
        except (OSError, Disconnected):
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


def _safe(text: str) -> str:
    """Text that stays on its line, in a header and in a log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)
