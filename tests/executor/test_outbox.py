"""Results on an agent's disk."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from minici.build import STDERR, STDOUT, AttemptId, Result
from minici.executor.outbox import Outbox
from minici.output.writer import OutputWriter
from minici.reasons import Reason
from tests.support.crashes import Crash, crash_at
from tests.support.results import SUCCESS, files, finished, form


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
    assert synced == ["stdout", "stderr", "timeline", "result.json.tmp", "5-1", "outbox"]
    assert moved == [5]


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


def test_the_record_is_plain_json(outbox: Outbox) -> None:
    entry = finished(outbox, (1, 2), b"x", sent={STDOUT: 1, STDERR: 0})
    record = json.loads((entry.folder / "result.json").read_text())
    assert record["id"] == 1 and record["attempt"] == 2 and record["sent"] == {STDOUT: 1, STDERR: 0}
