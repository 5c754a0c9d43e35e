"""The files of an attempt on the server's disk, for reading.

    files/index     a line of JSON for each file, and for each that was left out
    files/NUMBER    the content of a file
    files/0         the contents of small files, one behind the other: each would cost an fsync

A file's path stands in the index alone: whatever it is, it names nothing on this host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minici import reasons
from minici.validation import MOST_NAMED_FILES

INDEX = "index"
_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True)
class BuildFile:
    """A file of a build. `number` is its name on this host, in which it begins at byte `start`."""

    path: str
    size: int
    number: int
    start: int = 0


@dataclass(frozen=True)
class LeftOut:
    """Something that is not kept, and why."""

    path: str
    reason: str


@dataclass
class Contents:
    """The content of an index; `left_count` is the number of all that were left out."""

    files: dict[str, BuildFile] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    left_count: int = 0


class FileShelf:
    """The files that an attempt has brought, by path. Raises OSError if they can't be read."""

    def __init__(self, folder: Path) -> None:
        self.contents = read_index(folder)
        self._folder = folder

    @property
    def files(self) -> Mapping[str, BuildFile]:
        return self.contents.files

    def holds(self, file: BuildFile) -> bool:
        """Tell whether the content of a file is there: somebody may have removed it."""
        try:
            size = (self._folder / str(file.number)).stat().st_size
            return size >= file.start + file.size
        except OSError:
            return False

    def read(self, file: BuildFile, start: int, end: int) -> Iterator[bytes]:
        """The bytes of a file from `start` to `end`."""
        with open(self._folder / str(file.number), "rb") as source:
            source.seek(file.start + start)
            while start < end:
                block = source.read(min(_BLOCK_BYTES, end - start))
                if not block:
                    return
                start += len(block)
                yield block


def read_index(folder: Path) -> Contents:
    """Read an index up to the first line that is none: a crash may have cut it short."""
    contents = Contents()
    try:
        lines = (folder / INDEX).read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return contents
    for line in lines[:-1]:
        try:
            _take_in(contents, json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            break
    return contents


def _take_in(contents: Contents, record: Mapping[str, Any]) -> None:
    if "left_count" in record:
        contents.left_count = _count(record["left_count"])
    elif "left" in record:
        path, sentence = _text(record["left"]), _text(record["reason"])
        reason = reasons.from_json(sentence, record.get("key"), record.get("values"))
        contents.left_out[path] = LeftOut(path, reason or "")
    else:
        size, number = _count(record["bytes"]), _count(record["number"])
        file = BuildFile(_text(record["path"]), size, number, _count(record.get("start", 0)))
        contents.files[file.path] = file


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(reasons.Reason("wrong_kind"))
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(reasons.Reason("wrong_kind"))
    return value


def file_lines(files: Iterable[BuildFile]) -> bytes:
    """The lines of an index for files."""
    return b"".join(_line(_record(each)) for each in files)


def _record(file: BuildFile) -> dict[str, Any]:
    record = {"path": file.path, "bytes": file.size, "number": file.number}
    return {**record, "start": file.start} if file.start else record


def left_out_lines(left_out: Iterable[LeftOut]) -> bytes:
    """The lines of an index for what was left out."""
    made = []
    for each in left_out:
        key, values = reasons.to_json(each.reason)
        made.append(_line({"left": each.path, "reason": each.reason, "key": key, "values": values}))
    return b"".join(made)


def whole_index(contents: Contents) -> bytes:
    """An index in its final form: by path, with the first of what was left out."""
    left_out = sorted(contents.left_out.values(), key=lambda each: each.path)[:MOST_NAMED_FILES]
    return (
        file_lines(sorted(contents.files.values(), key=lambda each: each.path))
        + left_out_lines(left_out)
        + _line({"left_count": contents.left_count})
    )


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"
