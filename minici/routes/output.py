"""Output for people: as text, by range, and as events while it comes.

Section 3 of the contract: `/build/ID/output`, `/stdout`, `/stderr` and `/live`.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from minici.build import STREAMS, Build
from minici.output.checkout_log import CHECKOUT
from minici.output.excerpt import FIND_LENGTH, find_lines
from minici.output.reader import Piece, Transcript
from minici.reasons import Reason
from minici.routes.common import ID, Records, as_http, has_result, whole
from minici.scheduler.state import State
from minici.scheduler.unfinished_build import UnfinishedBuild
from minici.store import NoSuchBuild, Record, Store
from minici.web.routing import HttpError, Request, Response, Route, json_response, serve_range

MOST_VIEWERS = 400
_STEP = 64 * 1024  # bytes of output that are read for a viewer in one go
_MOST_FOUND = 5000  # lines
_MOST_STEPS = 16  # that are remembered: viewers who are at the same place share them
_PLACE = re.compile(r"([0-9]{1,9})-([0-9]{1,18})-([0-9]{1,18})(?:-([0-9]{1,18}))?")
_LIVE_STREAMS = (*STREAMS, CHECKOUT)


class OutputEndpoints:
    """The output of builds, as routes."""

    def __init__(self, state: State, store: Store, records: Records) -> None:
        self._state = state
        self._store = store
        self._records = records
        self._steps = _Steps(state, store)
        self._lock = threading.Lock()  # guards the next
        self._viewers = 0

    def routes(self) -> list[Route]:
        return [
            Route("GET", f"/build/{ID}/(output|stdout|stderr)", self.text, "people", ("attempt",)),
            Route("GET", f"/build/{ID}/checkout", self.checkout, "people", ("attempt",)),
            Route("GET", f"/build/{ID}/find", self.find, "people", ("attempt", "text")),
            Route("GET", f"/build/{ID}/live", self.live, "people", ("place", "changes")),
        ]

    def _asked_for(self, request: Request, number: str) -> tuple[Build, int]:
        """The build and the attempt whose output a request is about."""
        with as_http():
            build = whole(self._state.load(int(number)))
            attempt = request.query.number("attempt", build.attempt)
            if attempt != build.attempt and not build.knows_attempt(attempt):
                raise HttpError(404, Reason("no_attempt", build=int(number), attempt=attempt))
            return build, attempt

    def _transcript(self, build: Build, attempt: int) -> Transcript:
        return self._store.transcript(build.id, attempt, has_result(build, attempt))

    def find(self, request: Request, number: str) -> Response:
        """The numbers of the lines that hold a text, in the whole of an output."""
        build, attempt = self._asked_for(request, number)
        text = request.query.text("text", "")[:FIND_LENGTH]
        with self._transcript(build, attempt) as transcript:
            found = find_lines(transcript, text, _MOST_FOUND)
        return json_response({"lines": [line.number for line in found.lines], "more": found.more})

    def text(self, request: Request, number: str, view: str) -> Response:
        build, attempt = self._asked_for(request, number)
        with self._transcript(build, attempt) as transcript:
            size = transcript.size(view)

        def read(start: int, end: int) -> Iterator[bytes]:
            with self._transcript(build, attempt) as transcript:
                yield from transcript.read(view, start, end)

        response = serve_range(request, size, read)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def checkout(self, request: Request, number: str) -> Response:
        """Answer with the output of git during fetch and checkout."""
        build, attempt = self._asked_for(request, number)
        with self._store.read_checkout_log(build.id, attempt) as log:
            text = b"".join(block for block, _ in log.follow())
        response = serve_range(request, len(text), lambda start, end: [text[start:end]])
        response.headers["Cache-Control"] = "no-cache"
        return response

    def live(self, request: Request, number: str) -> Response:
        with as_http():
            whole(self._state.load(int(number)))
        place = _read_place(request.header("Last-Event-ID") or request.query.text("place", ""))
        self._opened()
        return Response(
            200,
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            event_stream=_Live(
                int(number),
                place,
                self._steps,
                self._records.teller(request),
                changes=request.query.text("changes", "") == "1",
                closed=self._closed,
            ),
        )

    def _opened(self) -> None:
        with self._lock:
            if self._viewers >= MOST_VIEWERS:
                raise HttpError(503, Reason("too_many_viewers"), {"Retry-After": "10"})
            self._viewers += 1

    def _closed(self) -> None:
        with self._lock:
            self._viewers -= 1


@dataclass(frozen=True)
class _Place:
    """The place of a viewer: the bytes sent to it, and of which attempt; whole characters only.

    `ends` is what has been read of stdout, stderr and the checkout's log, in raw bytes, and
    `held` the bytes at the end of each that wait for the rest of a character.
    """

    attempt: int = 0
    ends: tuple[int, ...] = (0, 0, 0)
    held: tuple[bytes, ...] = (b"", b"", b"")
    seconds: float = 0.0  # of what was read last

    @property
    def name(self) -> str:
        """The place as an event's id: bytes that are held are not in."""
        sent = (end - len(held) for end, held in zip(self.ends, self.held))
        return "-".join(map(str, (self.attempt, *sent)))

    def after(self, piece: Piece) -> tuple[_Place, str]:
        """The place after a piece of output, and the text that it has completed."""
        ends = (*piece.place, self.ends[2])
        return self._after(piece.stream, piece.data, ends, piece.seconds, piece.marker)

    def after_checkout(self, data: bytes, end: int) -> tuple[_Place, str]:
        """Likewise after a block of the checkout's log, which has no times."""
        return self._after(CHECKOUT, data, (*self.ends[:2], end), 0.0, marker=False)

    def _after(
        self, stream: str, data: bytes, ends: tuple[int, ...], seconds: float, marker: bool
    ) -> tuple[_Place, str]:
        index = _LIVE_STREAMS.index(stream)
        before, broken = self.held[index], ""
        if marker:  # the end of what is held is in the gap
            before, broken = b"", before.decode("utf-8", "replace")
        text, used = codecs.utf_8_decode(before + data, "replace", False)
        rest = (before + data)[used:]
        held = (*self.held[:index], rest, *self.held[index + 1 :])
        return _Place(self.attempt, ends, held, seconds), broken + text

    def let_go(self) -> tuple[_Place, list[tuple[str, str]]]:
        """The place when nothing more will come, and what is left of broken characters."""
        rest = [
            (stream, held.decode("utf-8", "replace"))
            for stream, held in zip(_LIVE_STREAMS, self.held)
            if held
        ]
        return dataclasses.replace(self, held=(b"", b"", b"")), rest


class _Steps:
    """From a place to what is read there and the place behind it. For one thread.

    Hundreds of viewers who watch one build are at the same place: it is read once.
    """

    def __init__(self, state: State, store: Store) -> None:
        self._state = state
        self._store = store
        self._known: dict[tuple[int, object, _Place], tuple[bytes, _Place]] = {}

    def unfinished_build(self, number: int) -> Optional[UnfinishedBuild]:
        return self._state.unfinished_build(number)

    def load(self, number: int) -> Record:
        """A build as it is now. Raises NoSuchBuild."""
        return self._state.load(number)

    def step(
        self, entry: Optional[UnfinishedBuild], build: Build, place: _Place
    ) -> tuple[bytes, _Place]:
        """The events of what came behind a place, and the place behind them."""
        key = (build.id, entry.version if entry else None, place)
        if key not in self._known:
            while len(self._known) >= _MOST_STEPS:
                del self._known[next(iter(self._known))]
            self._known[key] = self._certain(entry, build, place)
        return self._known[key]

    def _certain(
        self, entry: Optional[UnfinishedBuild], build: Build, place: _Place
    ) -> tuple[bytes, _Place]:
        step, certain = self._read(build, place)
        if entry is not None and not certain:
            with entry.lock:  # nothing is written meanwhile
                step, _ = self._read(build, place)
        return step

    def _read(self, build: Build, place: _Place) -> tuple[tuple[bytes, _Place], bool]:
        events, taken = [], 0
        with self._store.read_checkout_log(build.id, build.attempt) as log:
            for block, end in log.follow(place.ends[2]):
                place, text = place.after_checkout(block, end)
                if text:
                    events.append(_output_event(CHECKOUT, text, place))
        with self._store.transcript(
            build.id, build.attempt, has_result(build, build.attempt)
        ) as transcript:
            for piece in transcript.follow(place.ends[:2]):
                place, text = place.after(piece)
                if text:
                    events.append(_output_event(piece.stream, text, place))
                taken += len(piece.data)
                if taken >= _STEP:
                    break
            return (b"".join(events), place), transcript.is_stable()


class _Live:
    """The events for one viewer of a build. With `changes`, its new states as they come, too."""

    sign_of_life = b": still there\n\n"

    def __init__(
        self,
        number: int,
        place: _Place,
        steps: _Steps,
        tell: Callable[[Record], Mapping[str, Any]],
        changes: bool,
        closed: Callable[[], None],
    ) -> None:
        self.subject = number
        self._place = place
        self._steps = steps
        self._tell = tell
        self._changes = changes
        self._closed = closed
        self._told: object = None  # the last state that was sent
        self._greeted = False
        self._ended = False

    def close(self) -> None:
        self._closed()

    def more(self) -> Optional[bytes]:
        """The next events: what has changed of the build, then what it has written."""
        if self._ended:
            return None
        entry = self._steps.unfinished_build(self.subject)
        try:
            build = entry.build if entry else self._steps.load(self.subject)
        except NoSuchBuild:
            return None  # removed under the eyes of its viewers
        if not isinstance(build, Build):
            return None  # damaged
        events = [*self._greeting(), *self._news_of(build), *self._turned_to(build.attempt)]
        data, behind = self._steps.step(entry, build, self._place)
        moved, self._place = behind != self._place, behind
        events.append(data)
        if build.final and not moved:
            events += self._end(build)
        return b"".join(events) or (self.more() if moved else b"")

    def _greeting(self) -> Iterator[bytes]:
        if not self._greeted:
            self._greeted = True
            yield b"retry: 1000\n\n"

    def _news_of(self, build: Build) -> Iterator[bytes]:
        state = (build.status, build.attempt, build.cancel_requested, build.agent, build.revision)
        if self._changes and not build.final and state != self._told:
            self._told = state
            yield _event("build", self._tell(build), self._place.name)

    def _turned_to(self, attempt: int) -> Iterator[bytes]:
        """Begin anew where the build has gone on as another attempt."""
        if attempt == self._place.attempt:
            return
        begun, self._place = self._place.attempt, _Place(attempt)
        if begun:
            yield _event("attempt", {"attempt": attempt}, self._place.name)

    def _end(self, build: Build) -> Iterator[bytes]:
        self._ended = True
        self._place, rest = self._place.let_go()
        for stream, text in rest:
            yield _output_event(stream, text, self._place)
        yield _event("status", self._tell(build), self._place.name)


def _output_event(stream: str, text: str, place: _Place) -> bytes:
    data = {"stream": stream, "seconds": round(place.seconds, 3), "text": text}
    return _event("output", data, place.name)


def _event(kind: str, data: Mapping[str, Any], place: str) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # JSON escapes line ends, so that an event's data is one line.
    return f"id: {place}\nevent: {kind}\ndata: {text}\n\n".encode("utf-8", "replace")


def _read_place(text: str) -> _Place:
    """The place that an event's id names; the beginning for anything else.

    Ids of servers that did not show checkouts have three numbers.
    """
    found = _PLACE.fullmatch(text)
    if not found:
        return _Place()
    return _Place(int(found[1]), (int(found[2]), int(found[3]), int(found[4] or 0)))


def place_after(build: Optional[Build], place: tuple[int, int], checkout: int = 0) -> str:
    """The place as `live` takes it up: raw bytes of stdout and stderr, and of the checkout's log
    that a reader has seen."""
    return _Place(build.attempt if build else 0, (*place, checkout)).name
