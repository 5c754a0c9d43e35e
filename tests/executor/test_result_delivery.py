"""Results on their way to the server."""

from __future__ import annotations

import random
import string
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from minici.build import STDERR, STDOUT, AttemptId, Result
from minici.executor.inventory import (
    Inventory,
)
from minici.executor.outbox import Outbox, PendingResult
from minici.executor.output_streamer import PIECE_BYTES
from minici.executor.result_delivery import ResultDelivery, _segments, quote
from minici.output.checkout_log import CHECKOUT, CheckoutLog
from minici.output.writer import OutputWriter
from minici.web.client import Client
from tests.support.fakes import FakeServer
from tests.support.harness import wait_for
from tests.support.results import SUCCESS, files, finished, form

PLAIN = f"{string.ascii_letters}{string.digits}-._~".encode()


# The form of a result.


def test_the_form_of_a_result(outbox: Outbox) -> None:
    fields = form(finished(outbox, (7, 2), b"a&b=c\n", b"\0\xff%"))
    assert fields == {
        "id": b"7",
        "attempt": b"2",
        "status": b"0",
        "revision": b"a" * 40,
        "subject": "Ünï & co".encode(),
        "author": "Ада".encode(),
        "stdout_offset": b"0",
        "stdout": b"a&b=c\n",
        "stderr_offset": b"0",
        "stderr": b"\0\xff%",
        "timeline": b"o 6 0.100\ne 3 0.200\n",
    }
    status = form(finished(outbox, (8, 1), result=Result(-11, "killed")))
    assert (status["status"], status["reason"]) == (b"-11", b"killed")


def test_a_form_carries_what_is_left_to_send(outbox: Outbox) -> None:
    entry = finished(outbox, stdout=b"0123456789", stderr=b"abc")
    fields = form(entry, {STDOUT: 4, STDERR: 3})
    assert (fields["stdout_offset"], fields["stdout"]) == (b"4", b"456789")
    assert (fields["stderr_offset"], fields["stderr"]) == (b"3", b"")
    assert form(entry, {STDOUT: 99})["stdout_offset"] == b"10"


def test_a_form_of_output_that_was_cut(outbox: Outbox) -> None:
    text = b"".join(b"%03d\n" % number for number in range(100))
    entry = finished(outbox, stdout=text, limit=40)
    cut = text[:20] + b"[minici: 360 bytes dropped]\n" + text[-20:]
    assert form(entry)["stdout"] == cut
    later = form(entry, {STDOUT: 100})
    assert (later["stdout_offset"], later["stdout"]) == (b"20", cut[20:])


def test_quoting_is_exact() -> None:
    assert quote(b"plain-text_1.0~") == b"plain-text_1.0~"
    assert set(quote(bytes(range(256)))) <= set(b"0123456789ABCDEF%") | set(PLAIN)
    chance = random.Random(1)
    for data in (bytes(range(256)) * 3, *map(chance.randbytes, range(300))):
        assert unquote_to_bytes(quote(data)) == data


def test_a_timeline_that_is_too_long_is_left_out(outbox: Outbox) -> None:
    folder = outbox.begin(AttemptId(1, 1))
    with OutputWriter(folder, 10**6) as output:
        for number in range(6000):
            output.append(STDOUT, b"o", number)
            output.append(STDERR, b"e", number)
    assert "timeline" not in form(outbox.add(folder, AttemptId(1, 1), SUCCESS, 10**6, {}))


# Delivery.


class Delivery:
    """A delivery, its server, and what waits for it."""

    def __init__(self, data: Path) -> None:
        self.server = FakeServer()
        self.outbox = Outbox(data)
        self.inventory = Inventory(self.outbox, slots=1)
        self.inventory.restore(self.outbox.open())
        client = Client(f"http://{self.server.address}")
        self.delivery = ResultDelivery(client, client, self.inventory, self.outbox)

    def finish(self, number: int, **more: Any) -> PendingResult:
        entry = finished(self.outbox, (number, 1), **more)
        self.inventory.restore([entry])
        return entry

    @property
    def undelivered(self) -> list[int]:
        return [number for number, _ in self.inventory.snapshot()[1]]


@pytest.fixture
def delivery(tmp_path: Path) -> Iterator[Delivery]:
    delivery = Delivery(tmp_path)
    yield delivery
    delivery.server.close()


def test_in_order_and_then_gone(delivery: Delivery, tmp_path: Path) -> None:
    for number in (3, 1, 2):
        delivery.finish(number, stdout=b"of %d" % number)
    delivery.delivery.start()
    wait_for(lambda: not delivery.undelivered)
    assert [result["id"] for result in delivery.server.results] == ["3", "1", "2"]
    assert delivery.server.stream(1, STDOUT) == b"of 1"
    wait_for(lambda: files(tmp_path) == [])


def test_a_server_that_is_away_costs_one_line(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    delivery.server.close()
    delivery.finish(1)
    delivery.delivery.start()
    wait_for(lambda: "refused" in caplog.text)
    time.sleep(1)
    delivery.server.open()
    delivery.delivery.hurry()
    delivery.server.wait_result(1)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "build 1 (attempt 1)" in caplog.text


def test_hurry_does_not_wait_for_the_next_try(delivery: Delivery) -> None:
    delivery.server.script_always("/notify_build_result", (503, {"error": "full"}))
    delivery.finish(1)
    delivery.delivery.start()
    delivery.server.wait_call("/notify_build_result", 5)  # the next is seconds away
    delivery.server.script_always("/notify_build_result", None)
    begun = time.monotonic()
    delivery.delivery.hurry()
    delivery.server.wait_result(1)
    assert time.monotonic() - begun < 1


def test_a_server_that_knows_less_than_it_said(delivery: Delivery) -> None:
    delivery.server.script("/notify_build_result", (409, {STDOUT: 2, STDERR: 0}))
    delivery.server.streams[(1, 1, STDOUT)] = b"01"
    delivery.finish(1, stdout=b"0123456789", stderr=b"abc", sent={STDOUT: 8, STDERR: 3})
    delivery.delivery.start()
    delivery.server.wait_result(1)
    assert delivery.server.stream(1, STDOUT) == b"0123456789"
    assert delivery.server.stream(1, STDERR) == b"abc"
    assert len(delivery.server.made("/notify_build_result")) == 2


def test_a_server_that_never_knows_is_asked_again_later(delivery: Delivery) -> None:
    wrong = (409, {STDOUT: 0, STDERR: 0})
    delivery.server.script("/notify_build_result", *[wrong] * 7)
    delivery.finish(1, stdout=b"x")
    delivery.delivery.start()
    delivery.server.wait_result(1)
    assert not (delivery.outbox._refused / "1").exists()


@pytest.mark.parametrize("answer", [(409, {}), (409, {STDOUT: "x", STDERR: -1}), (400, b"what?")])
def test_one_that_is_refused_holds_up_no_other(
    delivery: Delivery, tmp_path: Path, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    delivery.server.script("/notify_build_result", answer)
    refused = delivery.finish(1, stdout=b"precious")
    delivery.finish(2)
    delivery.delivery.start()
    delivery.server.wait_result(2)
    aside = tmp_path / "refused" / refused.folder.name
    assert (aside / "stdout").read_bytes() == b"precious"
    assert str(aside) in caplog.text and f"HTTP {answer[0]}" in caplog.text


def test_one_whose_files_are_broken_holds_up_no_other(
    delivery: Delivery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = delivery.finish(1, stdout=b"x")
    delivery.finish(2)
    (broken.folder / "stdout").unlink()
    (broken.folder / "stdout").mkdir()
    delivery.delivery.start()
    delivery.server.wait_result(2)
    assert (tmp_path / "refused" / broken.folder.name).exists() and "set aside" in caplog.text


def test_a_large_result_is_sent_from_a_file(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled: list[Any] = []
    real = tempfile.SpooledTemporaryFile.rollover

    def note_and_roll(file: Any) -> None:
        rolled.append(file)
        real(file)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", note_and_roll)
    delivery.server.script_always("/notify_build_output", (404, {"error": "no such path"}))
    data = random.Random(2).randbytes(3_000_000)
    delivery.finish(1, stdout=data, limit=10**7)
    delivery.delivery.start()
    delivery.server.wait_result(1)
    assert delivery.server.stream(1, STDOUT) == data and rolled


def pieces(server: FakeServer) -> list[tuple[str, int]]:
    """The stream and the offset of each piece that was sent."""
    calls = server.made("/notify_build_output")
    return [(call.query["stream"], int(call.query["offset"])) for call in calls]


def test_much_output_goes_as_it_is_before_its_result(delivery: Delivery) -> None:
    """A form makes three bytes of one that is no letter."""
    out, err = random.Random(3).randbytes(2_500_000), random.Random(4).randbytes(300_000)
    delivery.server.streams[(1, 1, STDOUT)] = out[:1000]
    sent = {STDOUT: 1000, STDERR: 0}
    delivery.finish(1, stdout=out, stderr=err, limit=10**7, sent=sent)
    delivery.delivery.start()
    result = delivery.server.wait_result(1)
    assert delivery.server.stream(1, STDOUT) == out and delivery.server.stream(1, STDERR) == err
    assert result["stdout_offset"] == "2500000" and result["stdout"] == result["stderr"] == ""
    places = [1000 + number * PIECE_BYTES for number in range(3)]
    assert pieces(delivery.server) == [*((STDOUT, place) for place in places), (STDERR, 0)]


def test_much_output_goes_on_from_where_the_server_has_it(delivery: Delivery) -> None:
    """It has lost some of what it had confirmed, and has some that it could not confirm."""
    out, err = random.Random(5).randbytes(1_500_000), random.Random(6).randbytes(400_000)
    delivery.server.streams[(1, 1, STDOUT)] = out[:70_000]
    delivery.server.streams[(1, 1, STDERR)] = err[:30_000]
    sent = {STDOUT: 90_000, STDERR: 10_000}
    delivery.finish(1, stdout=out, stderr=err, limit=10**7, sent=sent)
    delivery.delivery.start()
    delivery.server.wait_result(1)
    assert delivery.server.stream(1, STDOUT) == out and delivery.server.stream(1, STDERR) == err


def test_much_output_of_an_attempt_that_was_given_up_goes_with_its_result(
    delivery: Delivery,
) -> None:
    data = random.Random(7).randbytes(600_000)
    delivery.server.script_always("/notify_build_output", (410, {"error": "it moved on"}))
    delivery.finish(1, stdout=data, limit=10**7)
    delivery.delivery.start()
    delivery.server.wait_result(1)
    assert delivery.server.stream(1, STDOUT) == data and len(pieces(delivery.server)) == 1


def test_much_output_that_was_cut_goes_with_its_result(delivery: Delivery) -> None:
    """Its marker has no place among the bytes of the command."""
    delivery.finish(1, stdout=b"a" * 400_000 + b"b" * 400_000, stderr=b"e" * 300_000, limit=600_000)
    delivery.delivery.start()
    delivery.server.wait_result(1)
    expected = b"a" * 300_000 + b"\n[minici: 200000 bytes dropped]\n" + b"b" * 300_000
    assert delivery.server.stream(1, STDOUT) == expected
    assert delivery.server.stream(1, STDERR) == b"e" * 300_000
    assert pieces(delivery.server) == [(STDERR, 0)]


def test_much_output_of_both_streams_is_not_a_call_for_each_change(outbox: Outbox) -> None:
    folder = outbox.begin(AttemptId(1, 1))
    with OutputWriter(folder, 10**6) as output:
        for number in range(500):
            output.append(STDOUT, b"o", number)
            output.append(STDERR, b"e", number)
        assert [(each.stream, each.end) for each in _segments(output, {})] == [
            (STDOUT, 500),
            (STDERR, 500),
        ]
        few = _segments(output, {STDOUT: 490, STDERR: 490})
    assert [(each.stream, each.end) for each in few[:3]] == [
        (STDOUT, 491),
        (STDERR, 491),
        (STDOUT, 492),
    ]


def written_by_git(entry: PendingResult, text: bytes) -> None:
    with CheckoutLog(entry.folder) as log:
        log.append(0, text)


def test_fault_56_what_git_said_goes_before_the_result(delivery: Delivery) -> None:
    entry = delivery.finish(1, stdout=b"out", sent={CHECKOUT: 4})
    written_by_git(entry, b"Cloning\ndone\n")
    delivery.server.streams[(1, 1, CHECKOUT)] = b"Clo"  # it has lost a byte since
    delivery.delivery.start()
    delivery.server.wait_result(1)
    assert delivery.server.stream(1, CHECKOUT) == b"Cloning\ndone\n"
    paths = [call.path for call in delivery.server.calls]
    assert paths == ["/notify_build_output", "/notify_build_output", "/notify_build_result"]


@pytest.mark.parametrize("status", [400, 404, 410])
def test_fault_56_a_server_that_does_not_take_it_gets_the_result(
    delivery: Delivery, status: int
) -> None:
    delivery.server.script_always("/notify_build_output", (status, {"error": "what?"}))
    written_by_git(delivery.finish(1, stdout=b"out"), b"Cloning\n")
    delivery.delivery.start()
    assert delivery.server.wait_result(1)["stdout"] == "out"
    assert len(pieces(delivery.server)) == 1


def test_fault_56_of_much_that_git_said_both_ends_are_sent(delivery: Delivery) -> None:
    text = random.Random(8).randbytes(1_500_000)
    written_by_git(delivery.finish(1), text)
    delivery.delivery.start()
    delivery.server.wait_result(1)
    half, dropped = 2**19, len(text) - 2**20
    line = b"\n[minici: %d bytes dropped]\n" % dropped
    assert delivery.server.stream(1, CHECKOUT) == text[:half] + line + text[-half:]
