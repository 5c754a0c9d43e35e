"""Results on an agent's disk, what an agent has of builds, and how results are delivered."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import string
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, unquote_to_bytes

import pytest

from minici.build import STDERR, STDOUT, AttemptId, Result
from minici.executor.inventory import (
    DELIVER,
    DROP,
    GIVE_BACK,
    Inventory,
    NoSlot,
    Order,
    RunningBuild,
)
from minici.executor.outbox import Outbox, PendingResult
from minici.executor.output_streamer import PIECE_BYTES, OutputStreamer
from minici.executor.result_delivery import ResultDelivery, _segments, quote, write_form
from minici.output.checkout_log import CHECKOUT, CheckoutLog
from minici.output.writer import OutputWriter
from minici.reasons import Reason
from minici.web.client import Client
from tests.support.crashes import Crash, crash_at
from tests.support.fakes import DROP as CUT
from tests.support.fakes import HANG, Call, FakeServer
from tests.support.harness import wait_for

PLAIN = f"{string.ascii_letters}{string.digits}-._~".encode()
SUCCESS = Result(exit_status=0, revision="a" * 40, subject="Ünï & co", author="Ада")


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    outbox = Outbox(tmp_path)
    assert outbox.open() == []
    return outbox


def finished(
    outbox: Outbox,
    attempt_id: tuple[int, int] = (1, 1),
    stdout: bytes = b"",
    stderr: bytes = b"",
    result: Result = SUCCESS,
    limit: int = 1000,
    sent: Optional[dict[str, int]] = None,
) -> PendingResult:
    folder = outbox.begin(AttemptId(*attempt_id))
    with OutputWriter(folder, limit) as output:
        output.append(STDOUT, stdout, 0.1)
        output.append(STDERR, stderr, 0.2)
    return outbox.add(folder, AttemptId(*attempt_id), result, limit, sent or {STDOUT: 0, STDERR: 0})


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))


# On disk.


def test_results_survive_in_the_order_of_finishing(outbox: Outbox, tmp_path: Path) -> None:
    failure = Result(exit_status=-9, reason="killed")
    entries = [
        finished(outbox, (7, 2), b"out", b"err", sent={STDOUT: 2, STDERR: 0}),
        finished(outbox, (3, 1), result=failure),
        finished(outbox, (12, 1)),
    ]
    assert Outbox(tmp_path).open() == entries
    again = Outbox(tmp_path)
    again.open()
    later = finished(again, (1, 1))
    assert [entry.attempt_id for entry in Outbox(tmp_path).open()] == [
        (7, 2),
        (3, 1),
        (12, 1),
        (1, 1),
    ]
    assert later.folder.name > entries[-1].folder.name


def test_what_was_running_is_gone_and_what_had_ended_is_not(outbox: Outbox, tmp_path: Path) -> None:
    """A kill comes between the result's last byte and the move of its folder."""
    running = outbox.begin(AttemptId(1, 1))
    (running / "stdout").write_bytes(b"half")
    entry = finished(outbox, (2, 1), b"all of it")
    os.rename(entry.folder, tmp_path / "running" / "2-1")
    (found,) = Outbox(tmp_path).open()
    assert found.attempt_id == (2, 1) and (found.folder / "stdout").read_bytes() == b"all of it"
    assert files(tmp_path) == [f"outbox/{found.folder.name}"]


def test_a_crash_at_each_step_leaves_a_whole_result_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in range(1, 100):
        data = tmp_path / str(last)
        outbox = Outbox(data)
        outbox.open()
        with monkeypatch.context() as patch:
            crash_at(patch, last, ("open", "write", "fsync", "replace", "rename", "mkdir"))
            try:
                finished(outbox, (5, 1), b"out", b"err")
                crashed = False
            except Crash:
                crashed = True
        left = Outbox(data).open()
        for entry in left:
            assert entry.result == SUCCESS
            with OutputWriter(entry.folder, entry.output_limit) as output:
                assert output.totals == {STDOUT: 3, STDERR: 3}
        if not crashed:
            assert len(left) == 1 and last > 10
            return
    raise AssertionError("it never ended")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_everything_is_on_disk_before_it_counts(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    moved: list[int] = []
    rename = os.rename
    monkeypatch.setattr(os, "fsync", fsync)

    def note_and_rename(*names: Any) -> None:
        moved.append(len(synced))
        rename(*names)

    monkeypatch.setattr(os, "rename", note_and_rename)
    finished(outbox, (5, 1), b"out", b"err")
    assert synced == [".trial", "stdout", "stderr", "timeline", "result.json.tmp", "5-1", "outbox"]
    assert moved == [6]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"id": "x"}'])
def test_a_result_that_can_not_be_read_is_set_aside(
    outbox: Outbox, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = finished(outbox, (1, 1), b"precious"), finished(outbox, (2, 1))
    (bad.folder / "result.json").write_text(damage)
    assert Outbox(tmp_path).open() == [good]
    aside = tmp_path / "refused" / bad.folder.name
    assert (aside / "stdout").read_bytes() == b"precious" and str(aside) in caplog.text


def test_a_result_keeps_the_key_of_its_reason(outbox: Outbox, tmp_path: Path) -> None:
    inner = Reason("no_commit", commit="nope", repository="/r")
    result = Result(128, Reason("checkout_failed", reason=inner))
    entry = finished(outbox, (1, 1), result=result)
    (found,) = Outbox(tmp_path).open()
    assert isinstance(found.result.reason, Reason) and found.result.reason.key == "checkout_failed"
    assert found.result.reason.values == {"reason": inner}
    fields = form(entry)
    assert fields["reason"] == b'checkout failed: no commit "nope" in /r'
    assert fields["reason_key"] == b"checkout_failed"
    assert json.loads(fields["reason_values"])["reason"]["key"] == "no_commit"


def test_a_result_of_an_older_agent_is_read(outbox: Outbox, tmp_path: Path) -> None:
    entry = finished(outbox, (1, 1), result=Result(1, "cancelled"))
    record = json.loads((entry.folder / "result.json").read_text())
    del record["reason_key"], record["reason_values"]
    (entry.folder / "result.json").write_text(json.dumps(record))
    (found,) = Outbox(tmp_path).open()
    assert found.result == Result(1, "cancelled")
    assert "reason_key" not in form(found)


def test_what_is_discarded_is_gone_wherever_it_was_interrupted(
    outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox.discard(finished(outbox, (1, 1), b"out").folder)
    bare = outbox.add(outbox.begin(AttemptId(2, 1)), AttemptId(2, 1), SUCCESS, 1000, {})
    outbox.discard(bare.folder)
    assert files(tmp_path) == []
    bare.folder.mkdir()  # killed between the two steps
    assert Outbox(tmp_path).open() == [] and files(tmp_path) == [] and caplog.text == ""


def test_a_place_is_not_used_twice(outbox: Outbox, tmp_path: Path) -> None:
    aside = outbox.set_aside(finished(outbox, (1, 1)))
    again = Outbox(tmp_path)
    assert again.open() == []
    assert finished(again, (1, 1)).folder.name > aside.name


def test_a_build_that_begins_again_begins_empty(outbox: Outbox) -> None:
    (outbox.begin(AttemptId(1, 1)) / "stdout").write_bytes(b"old")
    assert list(outbox.begin(AttemptId(1, 1)).iterdir()) == []


# What an agent has.


def order(number: int, attempt: int = 1) -> Order:
    return Order(AttemptId(number, attempt), "/repository", "HEAD", "true", 60.0, 1000, "http://x/")


def finish(inventory: Inventory, outbox: Outbox, running: RunningBuild) -> PendingResult:
    entry = outbox.add(running.folder, running.order.attempt_id, SUCCESS, 1000, {})
    inventory.finish(running, entry)
    return entry


def test_a_build_goes_from_one_list_to_the_other(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=1)
    assert inventory.accept(order(1))
    running = inventory.take()
    assert running is not None and inventory.snapshot() == ([(1, 1)], [])
    assert not inventory.accept(order(1)), "it is here already"
    with pytest.raises(NoSlot, match="slot"):
        inventory.accept(order(1, 2))
    entry = finish(inventory, outbox, running)
    assert inventory.snapshot() == ([], [(1, 1)])
    assert not inventory.accept(order(1)), "its result waits"
    assert inventory.accept(order(2)), "the slot is free before the result is delivered"
    assert inventory.next_undelivered() == entry
    inventory.settle(entry)
    assert inventory.snapshot() == ([(2, 1)], [])


def test_stopping_a_build(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=3)
    for each in (order(1), order(1, 2), order(2)):
        inventory.accept(each)
    first, second, other = (inventory.take() for _ in range(3))
    assert first and second and other
    assert not inventory.stop(3, None, "x", DELIVER)
    assert not inventory.stop(1, 3, "x", DELIVER)
    assert inventory.stop(1, 2, "cancelled", DELIVER)
    assert (first.stop.reason, second.stop.reason) == (None, "cancelled")
    assert inventory.stop(1, None, "elsewhere", DROP)
    assert (first.stop.reason, first.if_stopped) == ("elsewhere", DROP)
    assert (second.stop.reason, second.if_stopped) == ("cancelled", DELIVER), "the first counts"
    finish(inventory, outbox, other)
    assert inventory.stop(2, 1, "x", DELIVER), "it is here, and has ended"


def test_closing_gives_everything_back_and_takes_nothing_more(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=2)
    inventory.accept(order(1))
    running = inventory.take()
    assert running is not None
    waiting: list[Any] = []
    thread = threading.Thread(target=lambda: waiting.append(inventory.take()))
    thread.start()
    inventory.close()
    thread.join(10)
    assert waiting == [None]
    assert (running.if_stopped, running.stop.reason) == (GIVE_BACK, "the agent stops")
    assert inventory.slots == 0
    with pytest.raises(NoSlot, match="stops"):
        inventory.accept(order(2))
    inventory.drop(running)
    inventory.drop(running)
    assert inventory.snapshot() == ([], []) and not running.folder.exists()


def test_no_snapshot_misses_a_build(outbox: Outbox) -> None:
    inventory = Inventory(outbox, slots=1)
    stop = threading.Event()
    seen: list[Any] = []

    def look() -> None:
        while not stop.is_set():
            seen.append(inventory.snapshot())

    thread = threading.Thread(target=look)
    inventory.accept(order(1))
    thread.start()
    for number in range(1, 50):
        running = inventory.take()
        assert running is not None
        finish(inventory, outbox, running)
        inventory.accept(order(number + 1))
        inventory.settle(inventory.next_undelivered())
    stop.set()
    thread.join()
    assert all(len(running) + len(undelivered) >= 1 for running, undelivered in seen)


def test_a_full_disk_takes_no_build(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    inventory = Inventory(outbox, slots=1)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "begin", full)
        with pytest.raises(OSError):
            inventory.accept(order(1))
    assert inventory.snapshot() == ([], []) and inventory.accept(order(1))


# The form of a result.


def form(entry: PendingResult, offsets: Optional[dict[str, int]] = None) -> dict[str, bytes]:
    body = io.BytesIO()
    length = write_form(body, entry, offsets or {})
    text = body.read()
    assert len(text) == length
    fields = parse_qs(text.decode("ascii"), keep_blank_values=True, encoding="latin-1")
    return {name: values[0].encode("latin-1") for name, values in fields.items()}


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
        self.delivery = ResultDelivery(client, self.inventory, self.outbox)

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


# Output while a build runs.

NOTHING = {CHECKOUT: 0, STDOUT: 0, STDERR: 0}


class Live:
    """A sender, and the output that it keeps."""

    def __init__(self, folder: Path, limit: int = 10**8) -> None:
        self.server = FakeServer()
        self.output = OutputWriter(folder, limit)
        self.superseded = threading.Event()
        client = Client(f"http://{self.server.address}", timeout=5)
        self.sender = OutputStreamer(
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
    live.sender.end()
    live.server.close()


def test_a_lone_line_is_there_at_once(live: Live) -> None:
    live.sender.append(STDOUT, b"first\n", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"first\n", 5)
    begun = time.monotonic()
    live.sender.append(STDOUT, b"second\n", 1.0)
    wait_for(lambda: live.stream(STDOUT) == b"first\nsecond\n", 5)
    assert time.monotonic() - begun < 0.5
    wait_for(lambda: live.sender._sent == {**NOTHING, STDOUT: 13})
    assert live.sender.end() == {**NOTHING, STDOUT: 13}


def test_fault_56_what_git_says_is_there_at_once(live: Live) -> None:
    live.sender.append_checkout(b"Cloning\n")
    wait_for(lambda: live.stream(CHECKOUT) == b"Cloning\n", 5)
    live.sender.append_checkout(b"50%\r")
    wait_for(lambda: live.stream(CHECKOUT) == b"Cloning\n50%\r", 5)
    live.sender.append(STDOUT, b"out", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"out", 5)
    wait_for(lambda: live.sender._sent[STDOUT] == 3)
    assert live.sender.end() == {CHECKOUT: 12, STDOUT: 3, STDERR: 0}


@pytest.mark.parametrize("status", [400, 404])
def test_fault_56_an_older_server_gets_the_output_all_the_same(live: Live, status: int) -> None:
    live.server.script("/notify_build_output", (status, {"error": "stdout or stderr"}))
    live.sender.append_checkout(b"Cloning\n")
    live.server.wait_call("/notify_build_output")
    live.sender.append_checkout(b"done\n")
    live.sender.append(STDOUT, b"out", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"out", 5)
    assert [stream for stream, _ in live.pieces] == [CHECKOUT, STDOUT]
    assert live.sender.end()[CHECKOUT] == 0


def test_a_short_build_needs_no_call(live: Live) -> None:
    live.sender.append(STDOUT, b"all\n", 0.0)
    assert live.sender.end() == NOTHING
    time.sleep(0.2)
    assert live.pieces == []


def test_pieces_come_in_the_order_of_both_streams(live: Live) -> None:
    pieces = [(STDOUT, b"1"), (STDERR, b"2"), (STDERR, b"3"), (STDOUT, b"4"), (STDERR, b"5")]
    for number, (stream, data) in enumerate(pieces):
        live.sender.append(stream, data, number)
    wait_for(lambda: live.stream(STDERR) == b"235")
    assert live.pieces == [(STDOUT, b"1"), (STDERR, b"23"), (STDOUT, b"4"), (STDERR, b"5")]
    seconds = [call.query["seconds"] for call in live.server.made("/notify_build_output")]
    assert seconds == ["0.000", "1.000", "3.000", "4.000"]


def test_a_flood_goes_in_large_pieces(live: Live) -> None:
    data = random.Random(3).randbytes(5 * PIECE_BYTES)
    for start in range(0, len(data), 10_000):
        live.sender.append(STDOUT, data[start : start + 10_000], 0.0)
    wait_for(lambda: live.stream(STDOUT) == data)
    assert all(len(piece) <= PIECE_BYTES for _, piece in live.pieces) and len(live.pieces) < 50


def test_many_changes_of_stream_are_not_a_call_each(live: Live) -> None:
    live.server.script("/notify_build_output", lambda call: time.sleep(0.3))
    for _ in range(5000):
        live.sender.append(STDOUT, b"o", 0.0)
        live.sender.append(STDERR, b"e", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"o" * 5000 and live.stream(STDERR) == b"e" * 5000)
    assert len(live.pieces) < 200


def test_what_was_dropped_is_left_to_the_result(tmp_path: Path) -> None:
    live = Live(tmp_path, limit=1000)
    live.server.script("/notify_build_output", lambda call: time.sleep(0.5))
    live.sender.append(STDOUT, b"x" * 100, 0.0)
    wait_for(lambda: live.pieces)
    live.sender.append(STDOUT, b"y" * 5000, 0.0)
    live.sender.append(STDERR, b"e", 0.0)
    wait_for(lambda: live.stream(STDERR) == b"e")
    assert live.stream(STDOUT) == (b"x" * 100 + b"y" * 400)
    assert live.sender.end()[STDOUT] == 500
    live.server.close()


@pytest.mark.parametrize("answer", [(503, {}), CUT, (401, {}), (500, b"oops")])
def test_trouble_is_tried_again(live: Live, answer: Any) -> None:
    live.server.script("/notify_build_output", answer, answer)
    live.sender.append(STDOUT, b"text", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"text")
    assert len(live.pieces) == 3


def test_409_says_where_to_go_on(live: Live) -> None:
    live.server.streams[(1, 1, STDOUT)] = b"012"
    live.sender.append(STDOUT, b"0123456789", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"0123456789")
    assert [piece for _, piece in live.pieces] == [b"0123456789", b"3456789"]

    def forgetful(call: Call) -> Any:
        live.server.streams[(1, 1, STDOUT)] = b"01"
        return None

    live.server.script("/notify_build_output", forgetful)
    live.sender.append(STDOUT, b"X", 0.0)
    wait_for(lambda: live.stream(STDOUT) == b"0123456789X")


@pytest.mark.parametrize("answer", [(404, {}), (400, {}), (409, {}), (409, {"next": 0})])
def test_a_server_that_takes_no_output_gets_all_of_it_with_the_result(
    live: Live, answer: Any
) -> None:
    live.server.script_always("/notify_build_output", answer)
    live.sender.append(STDOUT, b"text", 0.0)
    live.server.wait_call("/notify_build_output")
    live.sender.append(STDOUT, b"more", 0.0)
    time.sleep(0.3)
    assert live.sender.end() == NOTHING
    assert len(live.pieces) == 1 and not live.superseded.is_set()


def test_410_says_that_the_build_is_superseded(live: Live) -> None:
    live.server.script_always("/notify_build_output", (410, {}))
    live.sender.append(STDOUT, b"text", 0.0)
    assert live.superseded.wait(10)


def test_the_end_waits_for_nobody(live: Live) -> None:
    live.server.script_always("/notify_build_output", HANG)
    live.sender.append(STDOUT, b"text", 0.0)
    live.server.wait_call("/notify_build_output")
    begun = time.monotonic()
    assert live.sender.end() == NOTHING
    assert time.monotonic() - begun < 0.5


def test_the_record_is_plain_json(outbox: Outbox) -> None:
    entry = finished(outbox, (1, 2), b"x", sent={STDOUT: 1, STDERR: 0})
    record = json.loads((entry.folder / "result.json").read_text())
    assert record["id"] == 1 and record["attempt"] == 2 and record["sent"] == {STDOUT: 1, STDERR: 0}
