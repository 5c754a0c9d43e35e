"""An agent's results on disk, from the end of a build until the server has answered.

    running/ID-ATTEMPT           the output of a running build, and of git before it
    outbox/PLACE-ID-ATTEMPT      a result that waits to be delivered; PLACE rises
    refused/PLACE-ID-ATTEMPT     a result that the server does not take

A folder moves from one to the next in one step, after its content has reached the disk: a result
is there as a whole or not at all, and its build has then never ended. Section 5, rule 10.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minici import reasons
from minici.build import STREAMS, AttemptId, Result
from minici.durable import sync, sync_file, sync_folder, write_all, write_atomic
from minici.output.format import TIMELINE

_RESULT = "result.json"
_TRIAL = ".trial"
_TRIAL_BYTES = 64 * 1024  # less free space than that is none

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingResult:
    """A result with its output. `sent` is what the server has confirmed of each stream, in raw
    bytes, and `output_limit` how much of stdout and stderr is kept, in bytes."""

    folder: Path
    attempt_id: AttemptId
    result: Result
    output_limit: int
    sent: Mapping[str, int]


class Outbox:
    """The folders of results. Any thread may call it, one for each folder. Raises OSError."""

    def __init__(self, data: Path) -> None:
        self._running = data / "running"
        self._waiting = data / "outbox"
        self._refused = data / "refused"
        self._places = itertools.count(1)

    def open(self) -> list[PendingResult]:
        """Find what an earlier life has left: the results that wait, in order of finishing."""
        for folder in (self._running, self._waiting, self._refused):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        last = max((_place(each) for each in self._stored()), default=0)
        self._places = itertools.count(last + 1)
        for folder in sorted(self._running.iterdir()):
            if folder.name == _TRIAL:
                folder.unlink()
            elif (folder / _RESULT).exists():
                self._move(folder)
            else:
                self.discard(folder)  # the server will learn from a ping that it is gone
        for folder in self._waiting.iterdir():
            with suppress(OSError):  # an empty one was about to be discarded
                folder.rmdir()
        return [
            pending for folder in sorted(self._waiting.iterdir()) for pending in self._read(folder)
        ]

    def begin(self, attempt_id: AttemptId) -> Path:
        """Make the folder in which a build that begins now keeps its output.

        Raises OSError, and leaves nothing, where there is no space for what it will write.
        """
        folder = self._running / _name(attempt_id)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # an earlier life of the agent was given this attempt
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        try:
            _try_to_write(folder, durable=False)  # an fsync would cost each build some time
        except OSError:
            self.discard(folder)
            raise
        return folder

    def check_writable(self) -> None:
        """Raise OSError if a build could not begin now, or its result not be kept."""
        for folder in (self._running, self._waiting):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _try_to_write(folder, durable=True)

    def add(
        self,
        folder: Path,
        attempt_id: AttemptId,
        result: Result,
        output_limit: int,
        sent: Mapping[str, int],
    ) -> PendingResult:
        """Put a result in order; when this returns, it survives a power cut. The text of git
        survives a kill."""
        key, values = reasons.to_json(result.reason)
        record = {
            "id": attempt_id.build,
            "attempt": attempt_id.attempt,
            **vars(result),
            "reason_key": key,
            "reason_values": values,
            "output_limit": output_limit,
            "sent": dict(sent),
        }
        for name in (*STREAMS, TIMELINE):
            with suppress(FileNotFoundError):
                sync_file(folder / name)
        write_atomic(folder / _RESULT, json.dumps(record).encode())
        return PendingResult(self._move(folder), attempt_id, result, output_limit, sent)

    def discard(self, folder: Path) -> None:
        """Remove a folder and what is in it."""
        try:  # most have nothing but a result, and that is quicker
            os.unlink(folder / _RESULT)
            os.rmdir(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)

    def set_aside(self, pending: PendingResult) -> Path:
        """Keep a result that the server does not take for a person to look at."""
        self._refused.mkdir(mode=0o700, exist_ok=True)
        target = self._refused / pending.folder.name
        os.rename(pending.folder, target)
        sync_folder(self._waiting)
        return target

    def _move(self, folder: Path) -> Path:
        self._waiting.mkdir(mode=0o700, exist_ok=True)
        target = self._waiting / f"{next(self._places):010d}-{folder.name}"
        os.rename(folder, target)
        sync_folder(self._waiting)
        return target

    def _stored(self) -> list[Path]:
        return [*self._waiting.iterdir(), *self._refused.iterdir()]

    def _read(self, folder: Path) -> list[PendingResult]:
        try:
            record = json.loads((folder / _RESULT).read_bytes())
            return [_pending_result(folder, record)]
        except (OSError, ValueError, TypeError, KeyError) as error:
            target = self._refused / folder.name
            os.rename(folder, target)
            log.error("a result can't be read and is set aside as %s: %s", target, error)
            return []


def _pending_result(folder: Path, record: Mapping[str, Any]) -> PendingResult:
    result = Result(
        exit_status=record["exit_status"],
        reason=reasons.from_json(
            record["reason"], record.get("reason_key"), record.get("reason_values")
        ),
        revision=record["revision"],
        subject=record["subject"],
        author=record["author"],
        author_email=record.get("author_email"),
    )
    attempt_id = AttemptId(int(record["id"]), int(record["attempt"]))
    return PendingResult(
        folder, attempt_id, result, int(record["output_limit"]), dict(record["sent"])
    )


def _name(attempt_id: AttemptId) -> str:
    return f"{attempt_id.build}-{attempt_id.attempt}"


def _try_to_write(folder: Path, durable: bool) -> None:
    """Write a file, to disk if `durable`, and remove it. Raises OSError."""
    trial = folder / _TRIAL
    descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(descriptor, bytes(_TRIAL_BYTES))
        if durable:
            sync(descriptor)
    finally:
        os.close(descriptor)
        with suppress(OSError):
            trial.unlink()


def _place(folder: Path) -> int:
    place = folder.name.partition("-")[0]
    return int(place) if place.isdigit() else 0
