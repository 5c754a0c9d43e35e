"""Reading what a client sends: its head and its body, within limits of time and size.

Every limit here stands against a way to wear a server down that `http.server` leaves open.
"""

from __future__ import annotations

import io
import re
import time
from typing import Any, Callable, Optional

from minici.reasons import Reason
from minici.web.deadline_reader import DeadlineReader
from minici.web.headers import Headers
from minici.web.routing import HttpError

BODY_SECONDS = 15.0  # for a body, besides what its bytes take at the slowest rate allowed
SLOWEST = 16 * 1024  # bytes a second
HEAD_LIMIT = 64 * 1024  # bytes of request line and headers
MOST_FIELDS = 100  # of a head
_PIECE_BYTES = 1024 * 1024  # of a body: memory is taken for what comes, not for what is announced

# A name of RFC 9110 with nothing before or behind it, and no control character in the value:
# what two servers could take for different things is taken for nothing.
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r?\n")


class Disconnected(Exception):
    """The other side of the connection closed it, or was too slow."""


class RequestReader(DeadlineReader):
    """Reads what a client sends. Raises Disconnected, whatever ended it."""

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except (OSError, ValueError) as error:
            raise Disconnected(str(error)) from None


class Body:
    """The body of one request: never reads past its end, nor waits for ever."""

    def __init__(self, source: io.BufferedReader[Any], timer: RequestReader, length: int) -> None:
        self.length = length
        self.left = length
        self._source = source
        self._timer = timer
        self._started = 0.0
        self.before_read: Optional[Callable[[], None]] = None

    def read(self, size: int = -1) -> bytes:
        return bytes(self.read_buffer(size))

    def read_buffer(self, size: int = -1) -> bytearray:
        """Do the same as `read`, with one copy less."""
        if self.before_read:
            self.before_read()
            self.before_read = None
        wanted = self.left if size < 0 else min(size, self.left)
        data = bytearray()
        while len(data) < wanted:
            start = len(data)
            data.extend(bytes(min(_PIECE_BYTES, wanted - start)))
            with memoryview(data) as whole, whole[start:] as piece:
                self._fill(piece)
        return data

    def _fill(self, view: memoryview) -> None:
        place = 0
        while place < len(view):
            with view[place:] as rest:
                place += self._read_into(rest)

    def _read_into(self, view: memoryview) -> int:
        self._started = self._started or time.monotonic()
        taken = self.length - self.left
        self._timer.deadline = self._started + BODY_SECONDS + taken / SLOWEST
        length = self._source.readinto1(view)
        if not length:
            raise Disconnected("the body ended early")
        self.left -= length
        return length


class HeadReader:
    """Reads a request's head, which may have HEAD_LIMIT bytes and MOST_FIELDS fields in all."""

    def __init__(self, source: io.BufferedReader[Any]) -> None:
        self._source = source
        self._left = HEAD_LIMIT

    def line(self, most: int = HEAD_LIMIT) -> bytes:
        """Read a line, of `most` bytes at most, or the beginning of a longer one.

        Raises HttpError, Disconnected.
        """
        line = self._source.readline(min(most, self._left) + 1)
        self._left -= len(line)
        if self._left < 0:
            raise HttpError(431, Reason("headers_long", bytes=HEAD_LIMIT))
        return line

    def fields(self) -> Headers:
        """Read the header fields and the empty line behind them. Raises HttpError, Disconnected."""
        headers = Headers()
        for _ in range(MOST_FIELDS + 1):
            line = self.line()
            if line in (b"\r\n", b"\n"):
                return headers
            if not line:
                raise Disconnected("the head ended early")
            if not _HEADER.fullmatch(line):
                raise HttpError(400, Reason("header_form"))
            headers.add(line)
        raise HttpError(431, Reason("headers_many", count=MOST_FIELDS))
