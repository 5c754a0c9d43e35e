"""Running commands with a supervisor, as a slot of an agent does."""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from minici.build import STDERR, STDOUT
from minici.process.command import Exit, StopOrder, Supervisor
from tests.support.harness import marked

LINUX = sys.platform == "linux"
only_linux = pytest.mark.skipif(not LINUX, reason="elsewhere only the process group is ended")


class Commands:
    """A supervisor, and what came of the last command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "record"
        self.supervisor = Supervisor(self.record)
        self.marker = uuid.uuid4().hex
        self.stdout = b""
        self.stderr = b""
        self.pieces: list[tuple[str, bytes, float]] = []

    def __call__(
        self,
        command: str,
        seconds: float = 30.0,
        stop: Optional[StopOrder] = None,
        sink: Optional[Callable[[str, bytes, float], None]] = None,
        env: Optional[Mapping[str, str]] = None,
        words: tuple[str, ...] = ("/bin/sh", "-c"),
        then: tuple[str, ...] = (),
    ) -> Exit:
        self.pieces = []
        try:
            return self.supervisor.execute(
                [*words, command],
                folder=self.folder,
                env={**os.environ, "TEST_MARKER": self.marker, **(env or {})},
                sink=sink or (lambda *piece: self.pieces.append(piece)),
                seconds=seconds,
                stop=stop or StopOrder(),
                then=[[*words, each] for each in then],
            )
        finally:
            self.stdout = b"".join(data for stream, data, _ in self.pieces if stream == STDOUT)
            self.stderr = b"".join(data for stream, data, _ in self.pieces if stream == STDERR)

    @property
    def left(self) -> dict[int, str]:
        return marked(self.marker)

    @property
    def pids(self) -> list[int]:
        """What the record names: the command, while there is one, and the supervisor."""
        return [pid for pid, _ in json.loads(self.record.read_text())]


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def stopped_when_begun(commands: Commands, command: str, grace: float) -> Exit:
    """Run a command, and order its stop after its first output."""
    stop = StopOrder()
    pieces: list[tuple[str, bytes, float]] = []

    def stop_it(*piece: Any) -> None:
        pieces.append(piece)
        stop.give("because", grace)

    ended = commands(command, stop=stop, sink=stop_it)
    commands.stdout = b"".join(data for stream, data, _ in pieces if stream == STDOUT)
    return ended
