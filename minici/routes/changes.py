"""`GET /api/builds/ID/changes`: the lines that the last success did not have. Section 3."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Callable

from minici.build import Build
from minici.output.changes import new_lines
from minici.output.reader import Transcript
from minici.reasons import Reason
from minici.routes.common import ID, as_http, has_result, whole
from minici.scheduler.search import last_success
from minici.scheduler.state import State
from minici.web.routing import HttpError, Request, Response, Route

_MOST_WAITING = 20  # requests, the one that is worked on included
_SIGN_OF_LIFE_SECONDS = 0.5


class Changes:
    """The endpoint, as a route. One comparison is made at a time, and only for who asks."""

    def __init__(self, state: State, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._turn = threading.Lock()  # held by the one comparison that is made
        self._lock = threading.Lock()  # guards _waiting
        self._waiting = 0

    def routes(self) -> list[Route]:
        return [Route("GET", f"/api/builds/{ID}/changes", self.show, "people", ())]

    def show(self, request: Request, number: str) -> Response:
        with as_http():
            build = whole(self._state.load(int(number)))
        earlier = last_success(self._state, build)
        body = iter((b'{"against": null, "lines": []}\n',))
        if earlier is not None and request.method != "HEAD":
            self._enter()
            body = self._answer(build, earlier)
            next(body)  # begun, so that its end is noticed
        headers = {"Cache-Control": "no-store"}
        return Response(200, body, "application/json; charset=utf-8", headers)

    def _enter(self) -> None:
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                raise HttpError(503, Reason("too_many_viewers"), {"Retry-After": "10"})
            self._waiting += 1

    def _answer(self, build: Build, earlier: Build) -> Iterator[bytes]:
        """The answer as it is found. A blank now and then shows whether the caller is there."""
        turn = contextlib.ExitStack()
        try:
            yield b""
            while not self._turn.acquire(timeout=_SIGN_OF_LIFE_SECONDS):
                yield b" "
            turn.callback(self._turn.release)
            yield b'{"against": %d, "lines": [' % earlier.id
            yield from self._numbers(build, earlier)
            yield b"]}\n"
        finally:
            turn.close()
            with self._lock:
                self._waiting -= 1

    def _numbers(self, build: Build, earlier: Build) -> Iterator[bytes]:
        found: list[str] = []
        separator, told = "", self._clock()
        with self._transcript(build) as output, self._transcript(earlier) as known:
            for number in new_lines(output, known):
                if number is not None:
                    found.append(separator + str(number))
                    separator = ", "
                elif self._clock() >= told + _SIGN_OF_LIFE_SECONDS:
                    yield "".join(found).encode() or b" "
                    found, told = [], self._clock()
        if found:
            yield "".join(found).encode()

    def _transcript(self, build: Build) -> Transcript:
        finished = has_result(build, build.attempt)
        return self._state.store.transcript(build.id, build.attempt, finished)
