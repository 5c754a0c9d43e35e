"""A build and what may become of it. Pure: nothing here reads a clock or touches a disk.

Every transition takes a build and returns the next one; who calls them writes the result to
disk before anyone else learns of it. Sections 1 and 5 of the contract.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union

from minici import reasons
from minici.reasons import Reason, sentence_of
from minici.validation import public

QUEUED = "queued"
RUNNING = "running"
SUCCESS = "success"
FAILURE = "failure"
LOST = "lost"
CANCELLED = "cancelled"
STATUSES = (QUEUED, RUNNING, SUCCESS, FAILURE, LOST, CANCELLED)
FINAL = frozenset((SUCCESS, FAILURE, LOST, CANCELLED))

# Why a build was started.
MANUAL = "manual"
PUSH = "push"
TAG = "tag"
REBUILD = "rebuild"

# The streams of a command's output.
STDOUT = "stdout"
STDERR = "stderr"
STREAMS = (STDOUT, STDERR)

# How an attempt ended.
FINISHED = "finished"  # it brought the build's result
REFUSED = "refused"  # the agent did not take it
RETURNED = "returned"  # the agent gave it back, because it stopped
UNABLE = "unable"  # the agent gave it back, because it can't work now: rule 21
SILENT = "silent"  # the agent is gone
FORGOTTEN = "forgotten"  # the agent lives and does not have it
OVERDUE = "overdue"  # build_timeout and a minute passed
UNANSWERED = "unanswered"  # nobody knows whether the agent took it
SUPERSEDED = "superseded"  # another attempt was faster
STOPPED = "cancelled"  # a person stopped the build

COUNTED = frozenset((SILENT, FORGOTTEN, OVERDUE, UNANSWERED))
MAX_RETURNS = 10
KEPT_REFUSALS = 10  # attempts of a record that were refused, or that an agent was unable to run


class AttemptId(NamedTuple):
    """A build's id and the number of one of its attempts."""

    build: int
    attempt: int


@dataclass(frozen=True)
class Attempt:
    """One hand-over of a build to an agent. Times are ISO 8601 in UTC, or None."""

    number: int
    agent: str
    address: str
    started_at: str
    finished_at: Optional[str] = None
    ending: Optional[str] = None
    reason: Optional[str] = None


@dataclass(frozen=True)
class Result:
    """The outcome of a finished attempt, as its agent reports it."""

    exit_status: int
    reason: Optional[str] = None
    revision: Optional[str] = None
    subject: Optional[str] = None
    author: Optional[str] = None
    author_email: Optional[str] = None


@dataclass(frozen=True)
class Kept:
    """The kept size of an attempt's output, in bytes, without the marker of a gap."""

    stdout: int = 0
    stderr: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Build:
    """One request to run one command on one commit, with all that has come of it."""

    id: int
    commit: str
    command: str
    repository: str
    queued_at: str
    status: str = QUEUED
    reason: Optional[str] = None
    revision: Optional[str] = None
    subject: Optional[str] = None
    author: Optional[str] = None
    started_at: Optional[str] = None
    finished_at: Optional[str] = None
    exit_status: Optional[int] = None
    agent: Optional[str] = None
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    dropped_bytes: int = 0
    started_by: Optional[str] = None
    rebuild_of: Optional[int] = None
    cancel_requested: bool = False
    cancelled_by: Optional[str] = None
    superseded_by: Optional[int] = None
    project: str = ""
    event: str = MANUAL
    ref: Optional[str] = None
    returns: int = 0
    last_attempt: int = 0
    file_count: int = 0
    files_left_out: int = 0
    labels: tuple[str, ...] = ()
    author_email: Optional[str] = None

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def current(self) -> Optional[Attempt]:
        """The attempt that is out with an agent now, or None."""
        if self.status == RUNNING and self.attempts and self.attempts[-1].ending is None:
            return self.attempts[-1]
        return None

    @property
    def failed_attempts(self) -> tuple[Attempt, ...]:
        """The attempts that count towards `max_attempts`: rule 6 of section 5."""
        return tuple(attempt for attempt in self.attempts if attempt.ending in COUNTED)

    def runs_alone(self, max_attempts: int) -> bool:
        """Return whether the next or present attempt has to run alone: rule 6 of section 5.

        It is the last attempt of a build that has lost its agents.
        """
        return 0 < max_attempts - 1 <= len(self.failed_attempts)

    def knows_attempt(self, number: int) -> bool:
        return 1 <= number <= self.last_attempt


def assign(build: Build, agent: str, address: str, now: str) -> Build:
    """Hand a queued build to an agent: the next attempt begins."""
    _require(build, QUEUED)
    number = build.last_attempt + 1
    attempt = Attempt(number, agent, address, started_at=now)
    return dataclasses.replace(
        build,
        status=RUNNING,
        agent=agent,
        started_at=now,
        attempt=number,
        last_attempt=number,
        attempts=(*build.attempts, attempt),
    )


def requeue(build: Build, ending: str, reason: str, now: str, max_attempts: int) -> Build:
    """End the current attempt and put the build back, or end the build where rule 6 says so.

    A build that a person has cancelled is not put back: its end has come.
    """
    _require(build, RUNNING)
    if ending == RETURNED and build.returns >= MAX_RETURNS:
        ending = SILENT
    build = dataclasses.replace(
        _end_attempt(build, ending, reason, now),
        returns=build.returns + (ending == RETURNED),
    )
    if build.cancel_requested:
        return _finish(build, CANCELLED, _cancel_reason(build), now)
    if len(build.failed_attempts) >= max_attempts:
        return _finish(build, LOST, _lost_reason(build), now)
    return dataclasses.replace(
        _without_old_refusals(build), status=QUEUED, started_at=None, agent=None
    )


def reject(build: Build, sentence: str, now: str) -> Build:
    """The agent says that the build can't be run at all (400): a failure."""
    _require(build, RUNNING)
    return _finish(_end_attempt(build, REFUSED, sentence, now), FAILURE, sentence, now)


def finish(
    build: Build, number: int, result: Result, kept: Kept, now: str, files: tuple[int, int] = (0, 0)
) -> Build:
    """Record the result that attempt `number` brought: the first to arrive is the build's.

    `files` is how many files it has brought, and how many were left out.
    """
    if build.final or not build.knows_attempt(number):
        raise ValueError(f"build {build.id} takes no result of attempt {number}")
    status, reason = _verdict(build, result)
    attempts = tuple(_closed(attempt, number, now) for attempt in build.attempts)
    source = next((attempt for attempt in attempts if attempt.number == number), None)
    return dataclasses.replace(
        with_kept(build, kept),
        status=status,
        reason=reason,
        exit_status=result.exit_status,
        revision=result.revision or build.revision,
        subject=result.subject or build.subject,
        author=result.author or build.author,
        author_email=result.author_email or build.author_email,
        attempt=number,
        attempts=attempts,
        file_count=files[0],
        files_left_out=files[1],
        agent=source.agent if source else build.agent,
        started_at=source.started_at if source else build.started_at or now,
        finished_at=now,
    )


def request_cancel(
    build: Build, by: Optional[str], now: str, superseded_by: Optional[int] = None
) -> Build:
    """Cancel the build for a person, or for a newer one that takes its place (rule 17).

    A queued build ends at once, a running one when its agent has ended it.
    """
    if build.final or build.cancel_requested:
        return build
    build = dataclasses.replace(
        build, cancel_requested=True, cancelled_by=by, superseded_by=superseded_by
    )
    if build.status == QUEUED:
        return _finish(build, CANCELLED, _cancel_reason(build), now)
    return build


def abandon(build: Build, now: str) -> Build:
    """End a cancelled build whose agent did not say in time that it has ended."""
    _require(build, RUNNING)
    return _finish(_end_attempt(build, STOPPED, None, now), CANCELLED, _cancel_reason(build), now)


def with_kept(build: Build, kept: Kept) -> Build:
    """Count what is kept of the output of a build that ends without a result."""
    return dataclasses.replace(
        build,
        stdout_bytes=kept.stdout,
        stderr_bytes=kept.stderr,
        dropped_bytes=kept.dropped,
    )


def _require(build: Build, status: str) -> None:
    if build.status != status:
        raise ValueError(f"build {build.id} is {build.status}, not {status}")


def _finish(build: Build, status: str, reason: str, now: str) -> Build:
    return dataclasses.replace(build, status=status, reason=reason, finished_at=now)


def _end_attempt(build: Build, ending: str, reason: Optional[str], now: str) -> Build:
    last = dataclasses.replace(build.attempts[-1], ending=ending, reason=reason, finished_at=now)
    return dataclasses.replace(build, attempts=(*build.attempts[:-1], last))


def _closed(attempt: Attempt, winner: int, now: str) -> Attempt:
    if attempt.number == winner:
        return dataclasses.replace(attempt, ending=FINISHED, reason=None, finished_at=now)
    if attempt.ending is None:
        return dataclasses.replace(attempt, ending=SUPERSEDED, finished_at=now)
    return attempt


def _without_old_refusals(build: Build) -> Build:
    """An agent may refuse for days; the record keeps the last few and does not grow."""
    refusals = [a.number for a in build.attempts if a.ending in (REFUSED, UNABLE)]
    refusals = refusals[:-KEPT_REFUSALS]
    if not refusals:
        return build
    kept = tuple(a for a in build.attempts if a.number not in refusals)
    return dataclasses.replace(build, attempts=kept)


def _verdict(build: Build, result: Result) -> tuple[str, Optional[str]]:
    if build.cancel_requested:
        return CANCELLED, _cancel_reason(build)
    if result.exit_status == 0:
        return SUCCESS, result.reason
    return FAILURE, result.reason or _exit_reason(result.exit_status)


def _exit_reason(status: int) -> Reason:
    if status < 0:
        return Reason("killed", signal=-status)
    return Reason("exit_status", status=status)


def _cancel_reason(build: Build) -> Reason:
    if build.cancelled_by:
        return Reason("cancelled_by", name=build.cancelled_by)
    if build.superseded_by:
        return Reason("superseded", build=build.superseded_by)
    return Reason("cancelled")


def _lost_reason(build: Build) -> Reason:
    failed = build.failed_attempts
    names = Counter(name for name, _ in {(each.agent, each.address) for each in failed})
    shared = {name for name, count in names.items() if count > 1}
    each = [
        Reason(
            "lost_attempt",
            attempt=attempt.number,
            agent=attempt.agent + (f" ({attempt.address})" if attempt.agent in shared else ""),
            reason=attempt.reason or "",
        )
        for attempt in failed
    ]
    return Reason("lost" if len(each) > 1 else "lost_once", count=len(each), reasons=each)


# A build as JSON: section 3 of the contract, and in build.json.

_STORED_ONLY = ("returns", "last_attempt")
_BUILD_KEYS = tuple(field.name for field in dataclasses.fields(Build))
_KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "Optional[int]": (int, type(None)),
    "Optional[str]": (str, type(None)),
    "tuple[Attempt, ...]": (tuple,),
    "tuple[str, ...]": (tuple,),
}
_ATTEMPT_KEYS = tuple(f.name for f in dataclasses.fields(Attempt) if f.name != "number")


def to_record(build: Build) -> dict[str, Any]:
    """The build as it stands in build.json; `reason` has its key and values beside it."""
    record = _fields(build, _BUILD_KEYS)
    record["attempts"] = [_attempt_record(attempt) for attempt in build.attempts]
    return record


def to_json(
    build: Build,
    url: Optional[str] = None,
    files: Iterable[Mapping[str, Any]] = (),
    waiting: Optional[str] = None,
) -> dict[str, Any]:
    """The build as people's programs see it; `url` is the address of its page, `waiting` says why
    it waits."""
    record = to_record(build)
    record["files"] = list(files)
    record["waiting"] = waiting
    record["repository"] = public(build.repository)
    for name in _STORED_ONLY:
        del record[name]
    if url is not None:
        record["url"] = url
    return record


def from_record(record: Mapping[str, Any], default_project: str = "") -> Build:
    """Read a build from build.json. Raises ValueError when it is not one.

    `default_project` is that of builds from before there were projects.

    Keys that this version does not know are left out, and those that it misses take their
    defaults: a server may be replaced by an older or a newer one.
    """
    try:
        attempts = tuple(_attempt_from(each) for each in record.get("attempts", ()))
        values = {**_values(record, _BUILD_KEYS), "attempts": attempts}
        values["labels"] = tuple(values.get("labels", ()))
        values["project"] = values.get("project") or default_project
        build = Build(**values)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(Reason("not_a_build", error=sentence_of(error))) from None
    if (
        build.status not in STATUSES
        or not _is_of_its_kinds(build)
        or not all(_is_of_its_kinds(each) for each in attempts)
        or not all(isinstance(each, str) for each in build.labels)
    ):
        raise ValueError(Reason("not_a_build", error=Reason("wrong_kind")))
    return build


def _is_of_its_kinds(value: Union[Build, Attempt]) -> bool:
    """Return whether every field has a value of its type."""
    return all(
        isinstance(getattr(value, field.name), _KINDS[str(field.type)])
        and (field.type == "bool" or not isinstance(getattr(value, field.name), bool))
        for field in dataclasses.fields(value)
    )


def _attempt_record(attempt: Attempt) -> dict[str, Any]:
    return {"attempt": attempt.number, **_fields(attempt, _ATTEMPT_KEYS)}


def _attempt_from(record: Mapping[str, Any]) -> Attempt:
    return Attempt(number=record["attempt"], **_values(record, _ATTEMPT_KEYS))


def _fields(source: object, names: Iterable[str]) -> dict[str, Any]:
    record = {}
    for name in names:
        record[name] = getattr(source, name)
        if name == "reason":
            record["reason_key"], record["reason_values"] = reasons.to_json(record[name])
    return record


def _values(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    values = {name: record[name] for name in names if name in record}
    if "reason" in values:
        values["reason"] = reasons.from_json(
            values["reason"], record.get("reason_key"), record.get("reason_values")
        )
    return values
