"""A running build's output on its way to the server, piece by piece.

`POST /notify_build_output` in section 3 of the contract: a piece goes as soon as the one before
it was answered, in the order in which the streams came. All of it is optional: the rest goes when
the build has ended.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Callable, Optional

from minici.build import STREAMS, AttemptId
from minici.executor.retry_loop import RetryLoop
from minici.output.checkout_log import CHECKOUT, CheckoutLog
from minici.output.format import Overrun
from minici.output.writer import OutputWriter
from minici.web.client import Client, Refused

PIECE_BYTES = 1024 * 1024  # at most in one call
_HEAD_START_SECONDS = 0.05  # a command that ends sooner needs no call but the one for its result
_PROGRESS_SECONDS = 0.1  # between two pieces of what git prints, a line of progress at a time
_MOST_SEGMENTS = 64  # further behind, the order of the streams is left to the result


class Superseded(Exception):
    """The server has no use for this attempt's output any more: 410."""


@dataclass
class Segment:
    """Output of one stream, up to raw offset `end`, that nothing of another interrupts."""

    stream: str
    end: int
    seconds: float


def send_piece(
    client: Client, attempt_id: AttemptId, segment: Segment, offset: int, data: bytes
) -> Optional[int]:
    """Send output of a segment from a raw offset on.

    Returns the offset from which to go on, or None where the server takes no pieces. Raises
    Superseded and Failed.
    """
    query = {
        "id": attempt_id.build,
        "attempt": attempt_id.attempt,
        "stream": segment.stream,
        "offset": offset,
        "seconds": f"{segment.seconds:.3f}",
    }
    try:
        answer = client.send("/notify_build_output", query, data)
        return offset + len(data) if answer.status == 200 else None
    except Refused as error:
        following = error.data.get("next")
        if error.status == 409 and type(following) is int and following != offset:
            return following
        if error.status == 410:
            raise Superseded from None
        return None


class OutputStreamer:
    """Keeps a build's output, and sends it to the server while it grows.

    `append`, `append_checkout` and `end` are for the slot's thread. `superseded` is called, from
    another thread, when the server has no use for this attempt any more.
    """

    def __init__(
        self,
        client: Client,
        attempt_id: AttemptId,
        output: OutputWriter,
        checkout: CheckoutLog,
        superseded: Callable[[], None],
    ) -> None:
        self._client = client
        self._attempt_id = attempt_id
        self._superseded = superseded
        self._changed = threading.Condition()  # guards all that follows
        self._output = output
        self._checkout = checkout
        self._segments: deque[Segment] = deque()
        self._sent = dict.fromkeys((CHECKOUT, *STREAMS), 0)
        self._left_to_result: set[str] = set()  # streams of which nothing more is sent live
        self._started = False
        self._ended = False
        name = f"output-{attempt_id.build}"
        self._loop = RetryLoop(name, self._send_next, lambda error: None)

    def append(self, stream: str, data: bytes, seconds: float) -> None:
        """Keep a piece of output; a `process.Sink`. Raises OSError where there is no space."""
        with self._changed:
            self._output.append(stream, data, seconds)
            self._extend(stream, seconds)

    def append_checkout(self, data: bytes) -> None:
        """Keep what git prints. Raises OSError where there is no space."""
        with self._changed:
            self._checkout.append(self._checkout.total, data)
            self._extend(CHECKOUT, 0.0)

    def end(self) -> dict[str, int]:
        """Send nothing more, and leave the output alone. Does not wait for a call under way.

        Returns what the server has confirmed of each stream, in raw bytes.
        """
        self._loop.stop()
        with self._changed:
            self._ended = True
            self._changed.notify()
            return dict(self._sent)

    def _extend(self, stream: str, seconds: float) -> None:
        end = self._total(stream)
        if self._segments and self._segments[-1].stream == stream:
            self._segments[-1].end = end
        else:
            self._segments.append(Segment(stream, end, seconds))
        if len(self._segments) > _MOST_SEGMENTS:
            self._segments.clear()
            self._segments.extend(Segment(each, self._total(each), seconds) for each in self._sent)
        self._changed.notify()
        if not self._started:
            self._started = True
            self._loop.start()

    def _total(self, stream: str) -> int:
        return self._checkout.total if stream == CHECKOUT else self._output.total(stream)

    def _read(self, stream: str, offset: int, size: int) -> bytes:
        if stream == CHECKOUT:
            return self._checkout.read(offset, size)
        return self._output.read(stream, offset, size)

    def _send_next(self) -> Optional[float]:
        """Send one piece; None when there is nothing more to do. Raises Failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._has_more())
            if not self._ended and not self._sent[self._segments[0].stream]:
                self._changed.wait_for(lambda: self._ended, _HEAD_START_SECONDS)
            if self._ended:
                return None
            if not self._has_more():  # the segments have been put together meanwhile
                return 0.0
            segment = self._segments[0]
            offset = self._sent[segment.stream]
            try:
                size = min(PIECE_BYTES, segment.end - offset)
                data = self._read(segment.stream, offset, size)
            except Overrun:
                self._left_to_result.add(segment.stream)  # the result has what is kept
                return 0.0
        try:
            following = send_piece(self._client, self._attempt_id, segment, offset, data)
        except Superseded:
            self._superseded()
            return None
        return self._note(segment.stream, following)

    def _note(self, stream: str, following: Optional[int]) -> Optional[float]:
        with self._changed:
            self._sent[stream] = following or 0
            if following is None:
                self._left_to_result.add(stream)
        if stream == CHECKOUT:
            return _PROGRESS_SECONDS  # taken or not: older servers know only the other streams
        return 0.0 if following is not None else None

    def _has_more(self) -> bool:
        while self._segments:
            first = self._segments[0]
            if first.stream not in self._left_to_result and self._sent[first.stream] < first.end:
                return True
            self._segments.popleft()
        return False
