"""Connections that are kept from one call to the next, for `urllib`, which would end each.

Between a server and its agents, to connect costs more than most calls: a connection, a thread at
the other side, and their end.
"""

from __future__ import annotations

import http.client
import select
import ssl
import threading
import time
import urllib.request
from typing import Callable, Optional


class Exchange(http.client.HTTPResponse):
    """An answer that knows its connection, once `Keeper` has set it."""

    connection: http.client.HTTPConnection


class Keeper(urllib.request.BaseHandler):
    """Opens http and https for one address, as urllib's own handlers do, and keeps connections.

    At most `most` are kept, each for `seconds` without a call; the other side must keep them for
    longer. A call that gets no answer is not made again on another one: whether it was received,
    nobody knows. `context` is what HTTPS is checked by. For any thread.
    """

    def __init__(
        self,
        seconds: float,
        most: int,
        context: Optional[ssl.SSLContext] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._context = context
        self._clock = clock
        self._lock = threading.Lock()  # guards _kept
        self._kept: list[tuple[float, http.client.HTTPConnection]] = []

    def http_open(self, request: urllib.request.Request) -> Exchange:
        kept = self._take()
        return self._exchange(request, kept or http.client.HTTPConnection(request.host))

    def https_open(self, request: urllib.request.Request) -> Exchange:
        kept = self._take()
        if kept is None:
            kept = http.client.HTTPSConnection(request.host, context=self._context)
        return self._exchange(request, kept)

    def keep(self, answer: Exchange) -> None:
        """Take an answer's connection back, if the answer was read to its end, or end it."""
        whole = answer.isclosed() or answer.length == 0
        answer.close()
        if answer.will_close or not whole or not self._most:
            answer.connection.close()
            return
        with self._lock:
            self._kept.append((self._clock(), answer.connection))
            too_many = self._kept[: -self._most]
            del self._kept[: -self._most]
        for _, connection in too_many:
            connection.close()

    def _exchange(
        self, request: urllib.request.Request, connection: http.client.HTTPConnection
    ) -> Exchange:
        connection.response_class = Exchange
        connection.timeout = request.timeout
        try:
            if connection.sock is not None:
                connection.sock.settimeout(request.timeout)
            headers = dict(request.header_items())
            headers["Connection"] = "keep-alive" if self._most else "close"
            connection.request(request.get_method(), request.selector, request.data, headers)
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        assert isinstance(answer, Exchange)
        answer.connection = connection
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


def _ended(connection: http.client.HTTPConnection) -> bool:
    """Whether there is something to read where nothing was asked for: the end, in general."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
