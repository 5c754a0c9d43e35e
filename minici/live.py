"""Output for people: as text, by range, and as events while it comes.

Section 3 of the contract: `/build/ID/output`, `/stdout`, `/stderr` and `/live`.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from minici.answers import ID, Records, as_http, whole
from minici.build import Build
from minici.output import STDERR, STDOUT, STREAMS
from minici.state import Entry, State
from minici.store import Store
from minici.transcript import Piece
from minici.web import HttpError, Request, Response, Route, serve_range

MOST_VIEWERS = 400
_AT_ONCE = 4  # pieces that are in memory for a viewer
_SILENCE = 15.0  # seconds after which a comment shows that the connection lives
_PLACE = re.compile(r"([0-9]{1,9})-([0-9]{1,18})-([0-9]{1,18})")


class OutputEndpoints:
    """The output of builds, as routes."""

    def __init__(self, state: State, store: Store, records: Records) -> None:
        self._state = state
        self._store = store
        self._records = records
        self._viewers = 0

    def routes(self) -> list[Route]:
        return [
            Route("GET", f"/build/{ID}/(output|stdout|stderr)", self.text, "people"),
            Route("GET", f"/build/{ID}/live", self.live, "people"),
        ]

    def text(self, request: Request, number: str, view: str) -> Response:
        with as_http():
            build = whole(self._state.load(int(number)))
            attempt = request.query.number("attempt", build.attempt)
            if attempt != build.attempt and not build.knows_attempt(attempt):
                raise HttpError(404, f"build {number} never had an attempt {attempt}")
        with self._store.transcript(build.id, attempt) as transcript:
            size = transcript.size(view)

        def read(start: int, end: int) -> Iterator[bytes]:
            with self._store.transcript(build.id, attempt) as transcript:
                yield from transcript.read(view, start, end)

        response = serve_range(request, size, read)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def live(self, request: Request, number: str) -> Response:
        with as_http():
            whole(self._state.load(int(number)))
        if self._viewers >= MOST_VIEWERS:
            raise HttpError(503, "too many are watching; look again later", {"Retry-After": "10"})
        place = request.header("Last-Event-ID") or request.query.text("place", "")
        return Response(
            200,
            self._events(request, int(number), place),
            "text/event-stream; charset=utf-8",
            {"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    def _events(self, request: Request, number: int, place: str) -> Iterator[bytes]:
        self._viewers += 1
        try:
            yield b"retry: 1000\n\n"
            yield from self._follow(request, number, _Reader(place))
        finally:
            self._viewers -= 1

    def _follow(self, request: Request, number: int, reader: _Reader) -> Iterator[bytes]:
        while request.alive():
            entry = self._state.entry(number)
            version = entry.version if entry else 0
            build = whole(self._state.load(number))
            yield from reader.turn_to(build.attempt)
            for piece in self._pieces(entry, build, reader):
                yield from reader.output(piece)
            if build.final:
                yield from reader.rest()
                yield _event("status", self._records.json(request, build), reader.name)
                return
            if entry and entry.wait(version, _SILENCE) == version:
                yield b": still there\n\n"

    def _pieces(self, entry: Optional[Entry], build: Build, reader: _Reader) -> Iterator[Piece]:
        """What there is behind a reader's place, some at a time: a viewer may be slow."""
        more = True
        while more:
            pieces = self._some(entry, build, reader.place)
            more = len(pieces) == _AT_ONCE
            yield from pieces

    def _some(self, entry: Optional[Entry], build: Build, place: tuple[int, int]) -> list[Piece]:
        pieces, certain = self._read(build, place)
        if entry is not None and not certain:
            with entry.lock:  # nothing is written meanwhile
                pieces, _ = self._read(build, place)
        return pieces

    def _read(self, build: Build, place: tuple[int, int]) -> tuple[list[Piece], bool]:
        with self._store.transcript(build.id, build.attempt) as transcript:
            pieces = list(itertools.islice(transcript.follow(place), _AT_ONCE))
            return pieces, transcript.unhurried()


class _Reader:
    """Where one viewer is: what was sent to it of which attempt, whole characters only."""

    def __init__(self, place: str) -> None:
        found = _PLACE.fullmatch(place)
        self._attempt = int(found[1]) if found else 0
        self.place = (int(found[2]), int(found[3])) if found else (0, 0)
        self._decoders = _decoders()
        self._seconds = 0.0

    @property
    def name(self) -> str:
        """The place as an event's id: bytes that wait for the rest of a character are not in."""
        held = [len(self._decoders[stream].getstate()[0]) for stream in STREAMS]
        return f"{self._attempt}-{self.place[0] - held[0]}-{self.place[1] - held[1]}"

    def turn_to(self, attempt: int) -> Iterator[bytes]:
        """Begin anew where the build has gone on as another attempt."""
        if attempt == self._attempt:
            return
        begun, self._attempt = self._attempt, attempt
        self.place, self._decoders = (0, 0), _decoders()
        if begun:
            yield _event("attempt", {"attempt": attempt}, self.name)

    def output(self, piece: Piece) -> Iterator[bytes]:
        decoder = self._decoders[piece.stream]
        text = decoder.decode(b"", True) if piece.marker else ""  # its end is in the gap
        self.place, self._seconds = piece.place, piece.seconds
        text += decoder.decode(piece.data)
        if text:
            yield self._output_event(piece.stream, text)

    def rest(self) -> Iterator[bytes]:
        """What is left of characters that never were completed."""
        for stream in STREAMS:
            text = self._decoders[stream].decode(b"", True)
            if text:
                yield self._output_event(stream, text)

    def _output_event(self, stream: str, text: str) -> bytes:
        data = {"stream": stream, "seconds": round(self._seconds, 3), "text": text}
        return _event("output", data, self.name)


def _decoders() -> dict[str, Any]:
    make = codecs.getincrementaldecoder("utf-8")
    return {STDOUT: make("replace"), STDERR: make("replace")}


def _event(kind: str, data: Mapping[str, Any], place: str) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # JSON escapes line ends, so that an event's data is one line.
    return f"id: {place}\nevent: {kind}\ndata: {text}\n\n".encode("utf-8", "replace")


def place_after(build: Optional[Build], place: tuple[int, int]) -> str:
    """The place as `live` takes it up."""
    attempt = build.attempt if build else 0
    return f"{attempt}-{place[0]}-{place[1]}"
