"""Output on its way to the server while a build runs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minici.build import STDERR, STDOUT, AttemptId
from minici.executor.output_streamer import PIECE_BYTES, OutputStreamer
from minici.output.checkout_log import CHECKOUT, CheckoutLog
from minici.output.writer import OutputWriter
from minici.web.client import Client
from tests.support.fakes import DROP as CUT
from tests.support.fakes import HANG, Call, FakeServer
from tests.support.harness import wait_for

NOTHING = {CHECKOUT: 0, STDOUT: 0, STDERR: 0}


class Live:
    """A streamer, and the output that it keeps."""

    def __init__(self, folder: Path, limit: int = 10**8) -> None:
        self.server = FakeServer()
        self.output = OutputWriter(folder, limit)
        self.superseded = threading.Event()
        client = Client(f"http://{self.server.address}", timeout=5)
        self.streamer = OutputStreamer(
            client, AttemptId(1, 1), self.output, CheckoutLog(folder), self.superseded.set
        )

    def stream(self, stream: str) -> bytes:
        return self.server.stream(1, stream)

    @property
    def pieces(self) -> list[tuple[str, bytes]]:
        made = self.server.made("/notify_build_output")
        return [(call.query["stream"], call.body) for call in made]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path)
    yield live
    live.streamer.end()
    live.server.close()


def test_a_lone_line_is_there_at_once(live: Live) -> None:
    live.streamer.append(STDOUT, b"first\n", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"first\n", 5)
    begun = time.monotonic()
    live.streamer.append(STDOUT, b"second\n", 1.0)
    wait_for(lambda: live.stream(STDOUT) == b"first\nsecond\n", 5)
    assert time.monotonic() - begun < 0.5
    wait_for(lambda: live.streamer._sent == {**NOTHING, STDOUT: 13})
    assert live.streamer.end() == {**NOTHING, STDOUT: 13}


def test_fault_56_what_git_says_is_there_at_once(live: Live) -> None:
    live.streamer.append_checkout(b"Cloning\n")
    wait_for(lambda: live.stream(CHECKOUT) == b"Cloning\n", 5)
    live.streamer.append_checkout(b"50%\r")
    wait_for(lambda: live.stream(CHECKOUT) == b"Cloning\n50%\r", 5)
    live.streamer.append(STDOUT, b"out", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"out", 5)
    wait_for(lambda: live.streamer._sent[STDOUT] == 3)
    assert live.streamer.end() == {CHECKOUT: 12, STDOUT: 3, STDERR: 0}


@pytest.mark.parametrize("status", [400, 404])
def test_fault_56_an_older_server_gets_the_output_all_the_same(live: Live, status: int) -> None:
    live.server.script("/notify_build_output", (status, {"error": "stdout or stderr"}))
    live.streamer.append_checkout(b"Cloning\n")
    live.server.wait_call("/notify_build_output")
    live.streamer.append_checkout(b"done\n")
    live.streamer.append(STDOUT, b"out", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"out", 5)
    assert [stream for stream, _ in live.pieces] == [CHECKOUT, STDOUT]
    assert live.streamer.end()[CHECKOUT] == 0


def test_a_short_build_needs_no_call(live: Live) -> None:
    live.streamer.append(STDOUT, b"all\n", 0.0)
    assert live.streamer.end() == NOTHING
    time.sleep(0.2)
    assert live.pieces == []


def test_pieces_come_in_the_order_of_both_streams(live: Live) -> None:
    pieces = [(STDOUT, b"1"), (STDERR, b"2"), (STDERR, b"3"), (STDOUT, b"4"), (STDERR, b"5")]
    for number, (stream, data) in enumerate(pieces):
        live.streamer.append(stream, data, number)
    wait_for(lambda: live.stream(STDERR) == b"235")
    assert live.pieces == [(STDOUT, b"1"), (STDERR, b"23"), (STDOUT, b"4"), (STDERR, b"5")]
    seconds = [call.query["seconds"] for call in live.server.made("/notify_build_output")]
    assert seconds == ["0.000", "1.000", "3.000", "4.000"]


def test_a_flood_goes_in_large_pieces(live: Live) -> None:
    data = random.Random(3).randbytes(5 * PIECE_BYTES)
    for start in range(0, len(data), 10_000):
        live.streamer.append(STDOUT, data[start : start + 10_000], 0.0)
    wait_for(lambda: live.stream(STDOUT) == data)
    assert all(len(piece) <= PIECE_BYTES for _, piece in live.pieces) and len(live.pieces) < 50


def test_many_changes_of_stream_are_not_a_call_each(live: Live) -> None:
    live.server.script("/notify_build_output", lambda call: time.sleep(0.3))
    for _ in range(5000):
        live.streamer.append(STDOUT, b"o", 0.0)
        live.streamer.append(STDERR, b"e", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"o" * 5000 and live.stream(STDERR) == b"e" * 5000)
    assert len(live.pieces) < 200


def test_what_was_dropped_is_left_to_the_result(tmp_path: Path) -> None:
    live = Live(tmp_path, limit=1000)
    live.server.script("/notify_build_output", lambda call: time.sleep(0.5))
    live.streamer.append(STDOUT, b"x" * 100, 0.0)
    wait_for(lambda: live.pieces)
    live.streamer.append(STDOUT, b"y" * 5000, 0.0)
    live.streamer.append(STDERR, b"e", 0.0)
    wait_for(lambda: live.stream(STDERR) == b"e")
    assert live.stream(STDOUT) == (b"x" * 100 + b"y" * 400)
    assert live.streamer.end()[STDOUT] == 500
    live.server.close()


@pytest.mark.parametrize("answer", [(503, {}), CUT, (401, {}), (500, b"oops")])
def test_trouble_is_tried_again(live: Live, answer: Any) -> None:
    live.server.script("/notify_build_output", answer, answer)
    live.streamer.append(STDOUT, b"text", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"text")
    assert len(live.pieces) == 3


def test_409_says_where_to_go_on(live: Live) -> None:
    live.server.streams[(1, 1, STDOUT)] = b"012"
    live.streamer.append(STDOUT, b"0123456789", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"0123456789")
    assert [piece for _, piece in live.pieces] == [b"0123456789", b"3456789"]

    def forgetful(call: Call) -> Any:
        live.server.streams[(1, 1, STDOUT)] = b"01"
        return None

    live.server.script("/notify_build_output", forgetful)
    live.streamer.append(STDOUT, b"X", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"0123456789X")


@pytest.mark.parametrize("answer", [(404, {}), (400, {}), (409, {}), (409, {"next": 0})])
def test_a_server_that_takes_no_output_gets_all_of_it_with_the_result(
    live: Live, answer: Any
) -> None:
    live.server.script_always("/notify_build_output", answer)
    live.streamer.append(STDOUT, b"text", 0.0)
    live.server.wait_call("/notify_build_output")
    live.streamer.append(STDOUT, b"more", 0.0)
    time.sleep(0.3)
    assert live.streamer.end() == NOTHING
    assert len(live.pieces) == 1 and not live.superseded.is_set()


def test_410_says_that_the_build_is_superseded(live: Live) -> None:
    live.server.script_always("/notify_build_output", (410, {}))
    live.streamer.append(STDOUT, b"text", 0.0)
    assert live.superseded.wait(10)


def test_the_end_waits_for_nobody(live: Live) -> None:
    live.server.script_always("/notify_build_output", HANG)
    live.streamer.append(STDOUT, b"text", 0.0)
    live.server.wait_call("/notify_build_output")
    begun = time.monotonic()
    assert live.streamer.end() == NOTHING
    assert time.monotonic() - begun < 0.5
