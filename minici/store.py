"""The server's data folder, and the only code that writes to it: section 4 of the contract.

    counter           the last id given out
    agents.json       the agents last known
    agents-day.json   when they were there, and how busy, in the last 24 hours
    unfinished/ID     an empty file for each build that is not final
    mark              the empty file of which those are other names
    builds/ID/        build.json, and a folder for each attempt's output and files

The order of writing a new build makes every crash harmless: the counter first, so that no id is
used twice; then the mark in `unfinished`, so that no whole build is overlooked; the record last,
so that what is there is whole. What is named "durable" here survives a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import logging
import os
import shutil
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from minici import build as builds
from minici.build import Build, Kept
from minici.durable import (
    Data,
    FolderLock,
    WritableProbe,
    sync_folder,
    write_atomic,
)
from minici.files.incoming import IncomingFiles
from minici.files.shelf import FileShelf, LeftOut
from minici.id_counter import IdCounter, id_of
from minici.output.checkout_log import CheckoutLog
from minici.output.reader import Transcript
from minici.output.writer import OutputWriter
from minici.reasons import Reason, sentence_of

log = logging.getLogger("minici.store")

_PROBE_BYTES = 4096  # the record of a build whose command is short
_REMOVED = ".removed"
_FILES = "files"
_KEPT_SHELVES = 4  # builds whose lists of files are kept in memory
# What says nothing of the one build that is written, and much of the disk or the process.
_NOBODY_CAN_WRITE = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EINTR,
    )
)
_MOST_SCANNED = 2000  # records that one page may read to find what it shows


# What a file with impossible numbers in it makes of reading it.
_DAMAGE = (struct.error, OverflowError, IndexError)


class StoreUnavailable(Exception):
    """The data folder can't be written now; nothing was acknowledged. Worth trying again."""


class StoreDamaged(Exception):
    """The data folder can't be used at all; the text is one line that says what to do."""


class NoSuchBuild(LookupError):
    """No build has this id."""


class BuildUnusable(NoSuchBuild):
    """There was such a build, and somebody has removed or damaged what was kept of it."""


@dataclass(frozen=True)
class DamagedBuild:
    """A build whose record can't be read; it is shown as such, and all others work."""

    id: int
    reason: str


Record = Union[Build, DamagedBuild]


@dataclass(frozen=True)
class Page:
    """Builds, newest first, and the id before which the next page begins, or None."""

    records: Sequence[Record]
    before: Optional[int]


@dataclass(frozen=True)
class RefsRecord:
    """The refs of a project's repository at its last look; `repository` is None in old records.

    `after` is the newest build before a look that is under way: builds above it may be those of
    refs that have moved since. None where no look is.
    """

    refs: Mapping[str, str]
    repository: Optional[str] = None
    after: Optional[int] = None


class Store:
    """The data folder. Any thread may call it; for one build, one writer at a time.

    `output_limit` is in bytes a stream. Every method that writes raises StoreUnavailable when
    the disk refuses.
    """

    def __init__(self, folder: Path, output_limit: int, default_project: str = "") -> None:
        self.folder = folder
        self._default_project = default_project
        self.output_limit = output_limit
        self._builds = folder / "builds"
        self._unfinished = folder / "unfinished"
        self._mark = folder / "mark"
        self._lock = FolderLock(folder)
        self._counter = IdCounter(folder / "counter", (self._builds, self._unfinished))
        self._probe = WritableProbe(self._probe_files)
        self._shelf = functools.lru_cache(maxsize=_KEPT_SHELVES)(self._open_shelf)
        self._counting = threading.Lock()  # guards `newest` and `created`
        self._refused = False  # whether the disk refused the last time
        self.newest = 0  # the highest id whose build is whole
        self.first_newest = 0  # the same when this server started
        self.created = 0  # builds made since
        self.oldest = 1  # no build below it is kept

    # Starting and ending.

    def open(self) -> list[Build]:
        """Take the folder, repair what a crash left, and return the unfinished builds by id.

        Raises FolderLocked when another server has it, StoreDamaged when it can't be used.
        """
        try:
            for folder in (self.folder, self._builds, self._unfinished):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
            self._mark.touch()
            self.newest = self.first_newest = self._counter.recover()
            return self._recover_builds()
        except OSError as error:
            raise StoreDamaged(
                f"{error.filename or self.folder}: {error.strerror}; "
                "make the data folder a place where this user can write"
            ) from None

    def close(self) -> None:
        self._lock.release()

    def check_writable(self) -> None:
        """Raise StoreUnavailable unless a build could be started now, as far as the disk goes.

        Many may ask at once: they share one probe, whose result holds for a second.
        """
        with self._writing():
            self._probe.check()

    def _probe_files(self) -> None:
        """Write what the start of a build writes, under names that no build has."""
        file, mark = self.folder / "probe", self._unfinished / "probe"
        folder = self._builds / "probe"
        for path in (file, mark):
            path.unlink(missing_ok=True)  # a crash may have left it
        shutil.rmtree(folder, ignore_errors=True)
        try:
            write_atomic(file, b"1\n")
            file.unlink()  # as the counter's, which is used again: it takes no room meanwhile
            self._make_mark(mark)
            folder.mkdir()
            write_atomic(folder / "build.json", b" " * _PROBE_BYTES)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            mark.unlink(missing_ok=True)

    # Builds.

    def create(self, make: Callable[[int], Build]) -> Build:
        """Give out the next id, and make the build that `make` returns for it durable."""
        with self._writing():
            try:
                build = self._create(make)
            except OSError:
                self._probe.doubt()  # it may have held the last of the space
                build = self._create(make)
            self._probe.confirm()
        with self._counting:
            self.newest = max(self.newest, build.id)
            self.created += 1
        return build

    def _create(self, make: Callable[[int], Build]) -> Build:
        number = self._counter.next()
        folder = self._builds / str(number)
        mark = self._unfinished / str(number)
        try:
            self._make_mark(mark)
            sync_folder(self._unfinished)
            folder.mkdir()
            build = make(number)
            self._write_record(build)
            sync_folder(self._builds)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                mark.unlink()
            raise
        return build

    def _make_mark(self, path: Path) -> None:
        """All marks are names of one empty file: to make a file costs more than to name it."""
        try:
            os.link(self._mark, path)
        except OSError:  # it has as many names as it may have, or it is gone
            path.touch()

    def save(self, build: Build) -> None:
        """Make a build's new state durable. A final one is read no more when a server starts.

        Raises BuildUnusable when its folder is gone.
        """
        with self._writing(build.id):
            self._write_record(build)
            if build.final:
                # Not fsynced: a mark that comes back is taken away by the next start.
                (self._unfinished / str(build.id)).unlink(missing_ok=True)

    def prepare_attempt(self, build: Build) -> None:
        """Make the folder of the build's newest attempt, durable with the next `save`.

        Raises BuildUnusable when the build's folder is gone.
        """
        with self._writing(build.id):
            self._attempt(build.id, build.attempt).mkdir(exist_ok=True)

    def load(self, number: int) -> Record:
        """Read a build. Raises NoSuchBuild."""
        path = self._builds / str(number) / "build.json"
        try:
            build = builds.from_record(json.loads(path.read_bytes()), self._default_project)
            if build.id != number:
                raise ValueError(Reason("record_of_another", build=build.id))
            return build
        except FileNotFoundError:
            if number > self.newest or not path.parent.exists():
                raise NoSuchBuild(Reason("no_build", build=number)) from None
            return DamagedBuild(number, Reason("record_missing"))
        except (OSError, ValueError, RecursionError) as error:
            return DamagedBuild(number, Reason("record_unreadable", error=sentence_of(error)))

    def page(
        self,
        before: Optional[int],
        limit: int,
        wanted: Callable[[Record], bool] = lambda record: True,
        among: Optional[Iterable[int]] = None,
    ) -> Page:
        """The newest `limit` builds below `before` that are `wanted`; opens no others' records.

        `among` are the ids to look at, if not all. Where few are wanted it stops after some
        thousand, and the next page goes on from there.
        """
        records: list[Record] = []
        top = self.newest if before is None else min(before - 1, self.newest)
        numbers: Iterable[int] = range(top, self.oldest - 1, -1)
        if among is not None:
            numbers = [number for number in sorted(among, reverse=True) if number <= top]
        for scanned, number in enumerate(numbers):
            if len(records) == limit or scanned == _MOST_SCANNED:
                return Page(records, number + 1)
            with contextlib.suppress(NoSuchBuild):
                record = self.load(number)
                if wanted(record):
                    records.append(record)
        return Page(records, None)

    def neighbours(self, number: int) -> tuple[Optional[int], Optional[int]]:
        """The ids of the builds before and after one, as far as they are near."""
        return (
            self._first_whole(range(number - 1, max(0, number - 50), -1)),
            self._first_whole(range(number + 1, min(self.newest, number + 50) + 1)),
        )

    def _first_whole(self, numbers: range) -> Optional[int]:
        for number in numbers:
            if self.exists(number):
                return number
        return None

    def ids(self) -> Iterator[int]:
        """All ids that have a folder, in no order. Lists the whole folder: OSError."""
        with os.scandir(self._builds) as entries:
            for entry in entries:
                if entry.name.endswith(_REMOVED):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif id_of(entry.name):
                    yield id_of(entry.name)

    def exists(self, number: int) -> bool:
        """Return whether a build has a folder."""
        return (self._builds / str(number)).exists()

    def remove(self, number: int) -> None:
        """Forget a build and its output, whole or, after a crash, not at all."""
        folder = self._builds / str(number)
        with self._writing():
            removed = folder.with_name(folder.name + _REMOVED)
            os.rename(folder, removed)
            shutil.rmtree(removed, ignore_errors=True)

    # Output.

    @contextlib.contextmanager
    def output(self, number: int, attempt: int) -> Iterator[OutputWriter]:
        """An attempt's output, for writing; one at a time. Raises BuildUnusable."""
        with self._writing(number):
            folder = self._attempt(number, attempt)
            folder.mkdir(exist_ok=True)
            with _damage_found(), OutputWriter(folder, self.output_limit) as output:
                yield output

    @contextlib.contextmanager
    def checkout_log(self, number: int, attempt: int) -> Iterator[CheckoutLog]:
        """Open the checkout log of an attempt for writing; one at a time. Raises BuildUnusable."""
        with self._writing(number):
            folder = self._attempt(number, attempt)
            folder.mkdir(exist_ok=True)
            with CheckoutLog(folder) as log:
                yield log

    def read_checkout_log(self, number: int, attempt: int) -> CheckoutLog:
        """Open the checkout log of an attempt for reading; empty where there is none. Close it."""
        return CheckoutLog(self._attempt(number, attempt))

    def kept_output(self, number: int, attempt: int) -> Kept:
        """The size of what is kept of an attempt's output; nothing if it can't be read."""
        try:
            with self.transcript(number, attempt) as transcript:
                return transcript.kept
        except (OSError, *_DAMAGE) as error:
            log.error(
                "build %d: the output of attempt %d can't be read: %s", number, attempt, error
            )
            return Kept()

    def transcript(self, number: int, attempt: int, finished: bool = False) -> Transcript:
        """An attempt's output, for reading; empty where there is none. Close it.

        `finished`: nothing is written to it any more."""
        return Transcript(self._attempt(number, attempt), self.output_limit, finished)

    # Files.

    def incoming_files(self, number: int, attempt: int, limit: int) -> IncomingFiles:
        """The files of a running attempt, for writing; at most `limit` bytes.

        One at a time. Raises BuildUnusable.
        """
        with self._writing(number):
            folder = self._attempt(number, attempt)
            folder.mkdir(exist_ok=True)
            return IncomingFiles(folder / _FILES, limit)

    def add_file(
        self, number: int, files: IncomingFiles, path: str, offset: int, data: Data, last: bool
    ) -> int:
        """Add a piece of a file, as `IncomingFiles.add`. Raises BuildUnusable besides."""
        with self._writing(number):
            return files.add(path, offset, data, last)

    def close_files(
        self, number: int, files: IncomingFiles, left_out: Iterable[LeftOut], left_count: int
    ) -> tuple[int, int]:
        """Take no more files, as `IncomingFiles.close`. Raises BuildUnusable besides."""
        with self._writing(number):
            return files.close(left_out, left_count)

    def has_files(self, number: int, attempt: int) -> bool:
        """Tell whether an attempt has brought a file, or a part of one."""
        return (self._attempt(number, attempt) / _FILES).is_dir()

    def files(self, build: Build) -> FileShelf:
        """The files of a final build, for reading. Raises BuildUnusable."""
        try:
            return self._shelf(build.id, build.attempt)
        except OSError as error:
            reason = Reason("folder_unusable", error=error.strerror or str(error))
            raise BuildUnusable(reason) from error

    def _open_shelf(self, number: int, attempt: int) -> FileShelf:
        return FileShelf(self._attempt(number, attempt) / _FILES)

    def files_json(self, build: Build, most: Optional[int] = None) -> list[Mapping[str, Any]]:
        """The files of a build for its JSON, at most `most`; none if they can't be read."""
        if not build.file_count:
            return []
        with contextlib.suppress(BuildUnusable):
            files = itertools.islice(self.files(build).files.values(), most)
            return [{"path": each.path, "bytes": each.size} for each in files]
        return []

    def _attempt(self, number: int, attempt: int) -> Path:
        return self._builds / str(number) / str(attempt)

    # Refs.

    def save_refs(self, project: str, record: RefsRecord) -> None:
        """Remember where a project's refs are: `data/refs/NAME.json`. Raises StoreUnavailable."""
        with self._writing():
            folder = self.folder / "refs"
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                sync_folder(self.folder)
            text = json.dumps({**vars(record), "refs": dict(record.refs)})  # quick: in one line
            write_atomic(folder / f"{project}.json", text.encode("ascii"))

    def load_refs(self, project: str) -> Optional[RefsRecord]:
        """The refs last remembered; None if they never were, or can't be read."""
        path = self.folder / "refs" / f"{project}.json"
        try:
            record = json.loads(path.read_bytes())
            refs = {str(ref): str(revision) for ref, revision in record["refs"].items()}
            after = record.get("after")
            return RefsRecord(refs, record.get("repository"), after and int(after))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("%s can't be read (%s): the next look starts no build", path, error)
            return None

    # Agents.

    def save_agents(self, agents: Sequence[Mapping[str, Any]]) -> None:
        """Remember the agents, for the next start."""
        with self._writing():
            text = json.dumps({"agents": list(agents)})  # thousands of them: quick, in one line
            write_atomic(self.folder / "agents.json", text.encode("ascii"))

    def load_agents(self) -> list[Mapping[str, Any]]:
        """The agents last known; none if nobody can tell: they will announce themselves."""
        try:
            agents = json.loads((self.folder / "agents.json").read_bytes())["agents"]
            return [agent for agent in agents if isinstance(agent, dict)]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("agents.json can't be read (%s): waiting for agents to register", error)
            return []

    def save_agent_history(self, at: str, days: Mapping[str, Sequence[str]]) -> None:
        """Remember what the agents did of late, by address; for people to look at, no more."""
        with self._writing():
            write_atomic(self.folder / "agents-day.json", _json({"saved_at": at, "days": days}))

    def load_agent_history(self) -> tuple[str, Mapping[str, Sequence[str]]]:
        """Return the time when it was saved last, and the days; empty if they can't be read."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads((self.folder / "agents-day.json").read_bytes())
            if isinstance(found, dict) and isinstance(found.get("days"), dict):
                return str(found.get("saved_at")), found["days"]
        return "", {}

    # Unfinished builds.

    def _recover_builds(self) -> list[Build]:
        found = []
        for number in sorted(id_of(name) for name in os.listdir(self._unfinished)):
            build = self._recover_build(number) if number else None
            if build is not None:
                found.append(build)
        return found

    def _recover_build(self, number: int) -> Optional[Build]:
        folder, mark = self._builds / str(number), self._unfinished / str(number)
        if not (folder / "build.json").exists() and self._holds_no_output(folder):
            log.info("build %d was never acknowledged: forgotten", number)
            shutil.rmtree(folder, ignore_errors=True)
            mark.unlink(missing_ok=True)
            return None
        record = self.load(number)
        if isinstance(record, DamagedBuild):
            log.error("build %d is damaged (%s): left as it is", number, record.reason)
            return None
        if record.final:
            mark.unlink(missing_ok=True)
            return None
        return record

    @staticmethod
    def _holds_no_output(folder: Path) -> bool:
        return not folder.is_dir() or not any(each.is_dir() for each in folder.iterdir())

    @contextlib.contextmanager
    def _writing(self, number: Optional[int] = None) -> Iterator[None]:
        """Sort what the disk refuses, and say once when it begins to refuse and when it ends."""
        try:
            yield
        except OSError as error:
            if number is not None and error.errno not in _NOBODY_CAN_WRITE:
                reason = Reason("folder_unusable", error=error.strerror or str(error))
                raise BuildUnusable(reason) from error
            self._note_refusal(error)
            reason = Reason("data_unwritable", error=error.strerror or str(error))
            raise StoreUnavailable(reason) from error
        if self._refused:
            self._refused = False
            log.warning("the data folder can be written again: going on")

    def _note_refusal(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            log.error(
                "the data folder can't be written (%s): new builds get 503, agents keep their "
                "results, and it goes on by itself when there is space",
                error.strerror or error,
            )

    def _write_record(self, build: Build) -> None:
        record = _json(builds.to_record(build))
        write_atomic(self._builds / str(build.id) / "build.json", record)


@contextlib.contextmanager
def _damage_found() -> Iterator[None]:
    """Raise BuildUnusable where an attempt's files have impossible numbers in them."""
    try:
        yield
    except _DAMAGE as error:
        raise BuildUnusable(Reason("output_damaged", error=str(error))) from error


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
