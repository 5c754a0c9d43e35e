"""The bodies of requests: `minici/web/request_reader.py`."""

from __future__ import annotations

import io
import os
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from minici.web.request_reader import Body, Disconnected

MIB = 1024 * 1024


def body(sent: bytes, length: int) -> Body:
    """A body of which so many bytes are announced."""
    source: Any = io.BufferedReader(io.BytesIO(sent))  # type: ignore[arg-type]
    timer: Any = SimpleNamespace(deadline=None)
    return Body(source, timer, length)


@pytest.mark.parametrize("size", [-1, 3 * MIB, 7])
def test_what_was_sent_is_read_in_any_pieces(size: int) -> None:
    sent = os.urandom(2 * MIB + 5)
    reader = body(sent + b"the next request", len(sent))
    pieces = list(iter(lambda: reader.read(size), b""))
    assert b"".join(pieces) == sent and reader.left == 0 and reader.read() == b""


def test_memory_is_taken_for_what_comes_and_not_for_what_is_announced() -> None:
    reader = body(b"x" * 10, 1024 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(Disconnected):
            reader.read()
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
