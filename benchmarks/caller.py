"""Calling a server as a program would, with as little cost as can be."""

from __future__ import annotations

import http.client
import json
from types import TracebackType
from typing import Any, Optional

from benchmarks.ground import Process

_TIMEOUT = 60.0


class Caller:
    """One kept connection to a server."""

    def __init__(self, server: Process) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_TIMEOUT)

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._connection.close()

    def get(self, path: str) -> bytes:
        """The body of an answer, which must be 200."""
        return self._call("GET", path, 200)

    def api(self, path: str) -> Any:
        return json.loads(self.get(f"/api{path}"))

    def start(self, commit: str, command: str = "true") -> int:
        """Start a build; its id."""
        order = json.dumps({"commit": commit, "command": command}).encode()
        return int(json.loads(self._call("POST", "/api/builds", 201, order))["id"])

    def _call(self, method: str, path: str, expected: int, body: Optional[bytes] = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != expected:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status}: {data[:300]!r}")
        return data
