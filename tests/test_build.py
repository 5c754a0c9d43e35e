"""A build, what becomes of it, and its record."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from minici import build as builds
from minici.build import Build
from minici.reasons import Reason

NOW = "2026-01-01T00:00:00.000Z"


def queued() -> Build:
    return Build(1, "main", "make test", "/repository", NOW)


def lost() -> Build:
    """A build whose two agents have died, the second for a reason with a reason in it."""
    build = queued()
    gone = Reason("agent_gone", agent="a", reason=Reason("silent", seconds="10.0"))
    for reason in (Reason("forgotten", agent="b"), gone):
        build = builds.assign(build, "a", "host:1", NOW)
        build = builds.requeue(build, builds.SILENT, reason, NOW, max_attempts=2)
    return build


def read_again(build: Build) -> Build:
    return builds.from_record(json.loads(json.dumps(builds.to_record(build))))


def test_a_reason_keeps_its_key_and_values_in_the_record() -> None:
    build = lost()
    record = builds.to_record(build)
    assert record["reason"] == (
        "given up after 2 attempts: attempt 1 on a: agent b no longer has it; "
        "attempt 2 on a: agent a is gone: silent for 10.0 s"
    )
    assert record["reason_key"] == "lost" and record["reason_values"]["count"] == 2
    assert record["attempts"][1]["reason_key"] == "agent_gone"
    again = read_again(build)
    assert again == build and isinstance(again.reason, Reason)
    assert again.reason.values == build.reason.values  # type: ignore[union-attr]
    assert isinstance(again.attempts[0].reason, Reason)
    assert builds.to_json(build)["reason_values"] == record["reason_values"]


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"reason_key": None, "reason_values": None},
        {"reason_key": "of_a_newer_version", "reason_values": {}},
        {"reason_key": "lost", "reason_values": {"count": 2}},
        {"reason_key": "silent", "reason_values": {"seconds": [[]]}},
        {"reason_key": 7, "reason_values": 7},
        {"reason_key": "silent", "reason_values": {"key": "silent", "seconds": 1}},
    ],
)
def test_a_reason_without_a_usable_key_is_shown_as_it_is(beside: dict[str, Any]) -> None:
    record = {**builds.to_record(lost()), "reason": "the words of an old version"}
    for name in ("reason_key", "reason_values"):
        del record[name]
    assert builds.from_record({**record, **beside}).reason == "the words of an old version"


def test_an_unreadable_record_says_why() -> None:
    record = {**builds.to_record(queued()), "status": "strange"}
    with pytest.raises(ValueError, match="not a build: a value is of the wrong kind"):
        builds.from_record(record)


def test_one_lost_attempt_is_said_as_one() -> None:
    build = builds.assign(queued(), "a", "host:1", NOW)
    build = builds.requeue(build, builds.SILENT, Reason("forgotten", agent="a"), NOW, 1)
    assert build.reason == "given up after 1 attempt: attempt 1 on a: agent a no longer has it"


def test_a_result_without_a_reason_has_one_by_its_exit_status() -> None:
    build = builds.assign(queued(), "a", "host:1", NOW)
    for status, key in ((3, "exit_status"), (-9, "killed")):
        ended = builds.finish(build, 1, builds.Result(status), builds.Kept(), NOW)
        assert isinstance(ended.reason, Reason) and ended.reason.key == key
    cancelled = dataclasses.replace(queued(), cancelled_by="ann")
    assert builds.request_cancel(cancelled, "ann", NOW).reason == "cancelled by ann"


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "1"},
        {"id": True},
        {"attempt": None},
        {"stdout_bytes": "2"},
        {"cancel_requested": "no"},
        {"reason": 7, "reason_key": None},
        {"finished_at": 7},
        {"status": []},
        {"attempts": [{"attempt": "1", "agent": "a", "address": "a:1", "started_at": NOW}]},
        {"attempts": [{"attempt": 1, "agent": "a", "address": 5, "started_at": NOW}]},
        {"attempts": [{"attempt": 1}]},
        {"attempts": 7},
        {"attempts": [7]},
    ],
)
def test_fault_44_a_record_with_a_value_of_the_wrong_kind_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a build"):
        builds.from_record({**builds.to_record(lost()), **wrong})


def test_rule_06_the_last_attempt_of_a_build_that_lost_agents_runs_alone() -> None:
    build = queued()
    alone = []
    for ending in (builds.REFUSED, builds.SILENT, builds.RETURNED, builds.UNANSWERED):
        alone.append(build.runs_alone(3))
        build = builds.assign(build, "a", "host:1", NOW)
        assert build.runs_alone(3) == alone[-1], "as when it was dispatched"
        build = builds.requeue(build, ending, Reason("cancelled"), NOW, 3)
    assert alone == [False, False, False, False] and build.runs_alone(3)
    assert not queued().runs_alone(1), "the only attempt has lost nobody"
    assert not queued().runs_alone(2)


def test_rule_21_a_return_for_trouble_is_not_one_of_the_ten() -> None:
    build = queued()
    for _ in range(50):
        build = builds.assign(build, "a", "host:1", NOW)
        build = builds.requeue(build, builds.UNABLE, Reason("returned", agent="a"), NOW, 1)
    assert build.status == builds.QUEUED and build.returns == 0 and build.last_attempt == 50
    assert len(build.attempts) == builds.KEPT_REFUSALS, "the record does not grow"
