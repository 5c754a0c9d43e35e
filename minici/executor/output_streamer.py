"""A running build's output on its way to the server, piece by piece.

`POST /notify_build_output` in section 3 of the contract: a piece goes as soon as the one before
it was answered, in the order in which both streams came. All of it is optional; what is not
sent while the build runs goes with its result.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Callable, Optional

from minici.build import STREAMS, AttemptId
from minici.output.format import Overrun
from minici.output.writer import Output
from minici.web.client import Backoff, Client, Failed, Refused

PIECE = 1024 * 1024  # bytes at most in one call
_HEAD_START = 0.05  # seconds: what ends sooner needs no call but the one for its result
_MOST_SEGMENTS = 64  # further behind, the order of the streams is left to the result

log = logging.getLogger(__name__)


class Superseded(Exception):
    """The server has no use for this attempt's output any more: 410."""


@dataclass
class Segment:
    """Output of one stream, up to raw offset `end`, that nothing of the other interrupts."""

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
        "id": attempt_id[0],
        "attempt": attempt_id[1],
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

    `append` and `end` are for the slot's thread. `superseded` is called, from another thread,
    when the server has no use for this attempt any more.
    """

    def __init__(
        self, client: Client, attempt_id: AttemptId, output: Output, superseded: Callable[[], None]
    ) -> None:
        self._client = client
        self._attempt_id = attempt_id
        self._superseded = superseded
        self._changed = threading.Condition()  # guards all that follows
        self._output = output
        self._segments: deque[Segment] = deque()
        self._sent = dict.fromkeys(STREAMS, 0)
        self._overrun: set[str] = set()
        self._thread: Optional[threading.Thread] = None
        self._ended = False

    def append(self, stream: str, data: bytes, seconds: float) -> None:
        """Keep a piece of output; a `process.Sink`. Raises OSError where there is no space."""
        with self._changed:
            self._output.append(stream, data, seconds)
            self._extend(stream, seconds)
            self._changed.notify()
        if self._thread is None:
            name = f"output-{self._attempt_id[0]}"
            self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._thread.start()

    def end(self) -> dict[str, int]:
        """Send nothing more, and leave the output alone. Does not wait for a call under way.

        Returns what the server has confirmed of each stream, in raw bytes.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
            return dict(self._sent)

    def _extend(self, stream: str, seconds: float) -> None:
        end = self._output.total(stream)
        if self._segments and self._segments[-1].stream == stream:
            self._segments[-1].end = end
        else:
            self._segments.append(Segment(stream, end, seconds))
        if len(self._segments) > _MOST_SEGMENTS:
            self._segments.clear()
            self._segments.extend(
                Segment(each, self._output.total(each), seconds) for each in STREAMS
            )

    def _serve(self) -> None:
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._ended, _HEAD_START)
            backoff = Backoff()
            while self._send_next(backoff):
                pass
        except Exception:
            log.exception("build %d: its output can't be shown while it runs", self._attempt_id[0])

    def _send_next(self, backoff: Backoff) -> bool:
        """Send one piece; False when there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._has_more())
            if self._ended:
                return False
            segment = self._segments[0]
            offset = self._sent[segment.stream]
            try:
                size = min(PIECE, segment.end - offset)
                data = self._output.read(segment.stream, offset, size)
            except Overrun:
                self._overrun.add(segment.stream)  # the result has what is kept
                return True
        try:
            following = send_piece(self._client, self._attempt_id, segment, offset, data)
        except Superseded:
            self._superseded()
            return False
        except Failed:
            with self._changed:
                self._changed.wait_for(lambda: self._ended, backoff.next())
            return True
        backoff.reset()
        with self._changed:
            self._sent[segment.stream] = following or 0
        return following is not None

    def _has_more(self) -> bool:
        while self._segments:
            first = self._segments[0]
            if first.stream not in self._overrun and self._sent[first.stream] < first.end:
                return True
            self._segments.popleft()
        return False
