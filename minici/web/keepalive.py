"""Connections that are kept from one call to the next, for `urllib`, which would end each.

Between a server and its agents, to connect costs more than most calls: a connection, a thread at
the other side, and their end. They are kept where the other side says, by `Keep-Alive: timeout=N`,
that it keeps them for longer, as minici's own does. Anybody else's may leave answers without a
length, serve one connection at a time, end an idle one under the next call, or go on talking on
one when its port is closed: each would be taken for an agent that hangs, or for one that lives.
"""

from __future__ import annotations

import http.client
import io
import re
import select
import socket
import threading
import time
import urllib.request
from typing import Any, Callable, Optional

from minici.web import tls
from minici.web.deadline_reader import DeadlineReader


class TimedResponse(http.client.HTTPResponse):
    """An answer, which is to be there as a whole before the time-out of its connection.

    `connection` and `staying` (the call has asked to keep it) are set by `KeepAliveHandler`.
    """

    connection: http.client.HTTPConnection
    staying: bool

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        seconds = sock.gettimeout()
        deadline = None if seconds is None else time.monotonic() + seconds
        self.fp = io.BufferedReader(DeadlineReader(sock, deadline, self.fp.detach()))


class KeepAliveHandler(urllib.request.BaseHandler):
    """Opens http and https for one address, as urllib's own handlers do, and keeps connections.

    At most `most` are kept, each for `seconds` without a call. A call that gets no answer is not
    made again on another one: whether it was received, nobody knows. `context` is what HTTPS is
    checked by. For any thread.
    """

    def __init__(
        self,
        seconds: float,
        most: int,
        context: Optional[tls.Context] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._context = context
        self._clock = clock
        self._lock = threading.Lock()  # guards _kept
        # Since when each waits, the longest first: the last one is used next.
        self._kept: list[tuple[float, http.client.HTTPConnection]] = []
        self._offered = False  # by the other side, in its last answer

    def http_open(self, request: urllib.request.Request) -> TimedResponse:
        kept = self._take()
        return self._exchange(request, kept or http.client.HTTPConnection(request.host))

    def https_open(self, request: urllib.request.Request) -> TimedResponse:
        kept = self._take()
        if kept is None:
            kept = http.client.HTTPSConnection(request.host, context=self._context)
        return self._exchange(request, kept)

    def keep(self, answer: TimedResponse) -> None:
        """Take an answer's connection back, if the answer was read to its end, or end it."""
        whole = answer.isclosed() or answer.length == 0
        answer.close()
        self._offered = self._most > 0 and _offered_seconds(answer) > self._seconds
        if answer.will_close or not whole or not self._offered or not answer.staying:
            answer.connection.close()
            return
        now, outdated = self._clock(), []
        with self._lock:
            self._kept.append((now, answer.connection))
            while len(self._kept) > self._most or now - self._kept[0][0] > self._seconds:
                outdated.append(self._kept.pop(0)[1])
        for connection in outdated:
            connection.close()

    def _exchange(
        self, request: urllib.request.Request, connection: http.client.HTTPConnection
    ) -> TimedResponse:
        connection.response_class = TimedResponse
        connection.timeout = request.timeout
        try:
            if connection.sock is not None:
                connection.sock.settimeout(request.timeout)
            headers = dict(request.header_items())
            staying = self._offered
            headers["Connection"] = "keep-alive" if staying else "close"
            connection.request(request.get_method(), request.selector, request.data, headers)
            answer = connection.getresponse()
        except BaseException:
            self._offered = False
            connection.close()
            raise
        assert isinstance(answer, TimedResponse)
        answer.connection, answer.staying = connection, staying
        return answer

    def _take(self) -> Optional[http.client.HTTPConnection]:
        """The connection that was used last, if the other side has not ended it."""
        while True:
            with self._lock:
                if not self._kept:
                    return None
                since, connection = self._kept.pop()
            if self._clock() - since < self._seconds and not _ended(connection):
                return connection
            connection.close()


def _offered_seconds(answer: TimedResponse) -> int:
    """For how long the other side keeps a connection without a call; 0 if it does not say."""
    found = re.search(r"\btimeout=([0-9]{1,9})", answer.headers.get("Keep-Alive", ""))
    return int(found[1]) if found else 0


def _ended(connection: http.client.HTTPConnection) -> bool:
    """Return whether a connection at rest has something to read: its end, in general."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
