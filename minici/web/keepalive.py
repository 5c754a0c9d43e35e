"""Connections that are kept from one call to the next, for one address.

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
from collections.abc import Mapping
from typing import Any, BinaryIO, Callable, Optional, Union
from urllib.parse import urlsplit

from minici.web import tls
from minici.web.deadline_reader import DeadlineReader

Bytes = Union[bytes, "memoryview[int]"]
Body = Union[Bytes, BinaryIO]


class TimedResponse(http.client.HTTPResponse):
    """An answer, which is to be there as a whole before the time-out of its connection.

    `connection` and `staying` (the call has asked to keep it) are set by `Connections`.
    """

    connection: http.client.HTTPConnection
    staying: bool

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        seconds = sock.gettimeout()
        deadline = None if seconds is None else time.monotonic() + seconds
        self.fp = io.BufferedReader(DeadlineReader(sock, deadline, self.fp.detach()))


class Connections:
    """Opens connections to the address of a URL, http or https, and keeps them.

    At most `most` are kept, each for `seconds` without a call. A call that gets no answer is not
    made again on another one: whether it was received, nobody knows. `context` is what HTTPS is
    checked by. For any thread.
    """

    def __init__(
        self,
        base: str,
        seconds: float,
        most: int,
        context: Optional[tls.Context] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        url = urlsplit(base)
        self._scheme, self._host, self._prefix = url.scheme, url.netloc, url.path
        self._seconds = seconds
        self._most = most
        self._context = context
        self._clock = clock
        self._lock = threading.Lock()  # guards _kept
        # Since when each waits, the longest first: the last one is used next.
        self._kept: list[tuple[float, http.client.HTTPConnection]] = []
        self._offered = False  # by the other side, in its last answer

    def exchange(
        self,
        method: str,
        path: str,
        body: Optional[Body],
        headers: Mapping[str, str],
        timeout: float,
    ) -> TimedResponse:
        """Send a request, and return the answer as soon as its head is there; `keep` takes its
        connection back. Raises OSError, HTTPException, ValueError."""
        connection = self._take() or self._new()
        connection.timeout = timeout
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            staying = self._offered
            headers = {**headers, "Connection": "keep-alive" if staying else "close"}
            connection.request(method, self._prefix + path, body, headers)
            answer = connection.getresponse()
        except BaseException:
            self._offered = False
            connection.close()
            raise
        assert isinstance(answer, TimedResponse)
        answer.connection, answer.staying = connection, staying
        return answer

    def _new(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._scheme == "https":
            connection = http.client.HTTPSConnection(self._host, context=self._context)
        elif self._scheme == "http":
            connection = http.client.HTTPConnection(self._host)
        else:
            raise ValueError(f"unknown url type: {self._scheme}")
        connection.response_class = TimedResponse
        return connection

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
