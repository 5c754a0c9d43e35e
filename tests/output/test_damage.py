"""Outputs whose files somebody, or the disk, has changed: what is there is read, in little time."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from minici.build import STDERR, STDOUT, STREAMS
from minici.output.excerpt import Excerpt, Selection, find_lines
from minici.output.format import RECORD, TIMELINE, StreamTail
from minici.output.lines import Lines
from minici.output.reader import BOTH, VIEWS, Transcript
from minici.output.writer import OutputWriter

LIMIT = 400


def written(folder: Path, lines: int, finished: bool = True) -> Path:
    folder.mkdir()
    with OutputWriter(folder, LIMIT) as output:
        for number in range(lines):
            stream = STREAMS[number % 3 == 0]
            output.append(stream, b"%s %d\n" % (stream.encode(), number), number / 10)
        if finished:
            ends = {s: StreamTail(output.total(s), 0, io.BytesIO()) for s in STREAMS}
            output.finish(ends, 9.0)
    return folder


def read_all(folder: Path, finished: bool = True) -> tuple[bool, dict[str, bytes]]:
    """Read an output in every way that there is; what each view shows, and is it damaged."""
    begun = time.monotonic()
    with Transcript(folder, LIMIT, finished) as transcript:
        sizes = {view: transcript.size(view) for view in VIEWS}
        shown = {view: b"".join(transcript.read(view, 0, sizes[view])) for view in VIEWS}
        there = sum((folder / s).stat().st_size for s in STREAMS if (folder / s).exists())
        assert sizes[BOTH] <= there
        for view in VIEWS:
            assert len(shown[view]) == sizes[view], view
        assert b"".join(piece.data for piece in transcript.pieces()) == shown[BOTH]
        for start in (0, 1, 57, 10**30):
            part = b"".join(transcript.read(BOTH, start, min(start + 20, sizes[BOTH])))
            assert part == shown[BOTH][start : start + 20]
        for _ in transcript.follow((3, 2**63)):
            pass
        for selection in (Selection(), Selection(at=9), Selection(to=99), Selection(line=5)):
            assert len(list(Excerpt(transcript, selection).pieces)) <= 200
        Lines(transcript).place_of(10**9)
        find_lines(transcript, "std", 100)
        assert sum((transcript.kept.stdout, transcript.kept.stderr)) <= sizes[BOTH]
        damaged = transcript.damaged
    assert time.monotonic() - begun < 1
    return damaged, shown


@pytest.fixture(params=["whole", "cut"])
def output(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A finished output; of the one that is cut, the middle was dropped."""
    return written(tmp_path / "output", 20 if request.param == "whole" else 90)


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    chance = random.Random(len(data))
    for bit in chance.sample(range(len(data) * 8), 300):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def test_what_is_sound_is_not_called_damaged(output: Path, tmp_path: Path) -> None:
    assert not read_all(output)[0]
    for lines in (1, 20, 90):
        assert not read_all(written(tmp_path / f"growing{lines}", lines, False), False)[0]
    assert not read_all_of_nothing(tmp_path)


def read_all_of_nothing(folder: Path) -> bool:
    with Transcript(folder / "none", LIMIT, True) as transcript:
        return transcript.damaged


def test_fault_62_any_bit_of_a_timeline(output: Path) -> None:
    sound, timeline = read_all(output)[1], (output / TIMELINE).read_bytes()
    for bit, changed in flips(timeline):
        (output / TIMELINE).write_bytes(changed)
        damaged, shown = read_all(output)
        assert {s: shown[s] for s in STREAMS} == {s: sound[s] for s in STREAMS}, bit
        assert damaged or sorted(shown[BOTH]) == sorted(sound[BOTH]), bit


def extra(data: bytes) -> bytes:
    return data + RECORD.pack(10**8, 10**8, 5)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a record too many": extra,
    "an empty record too many": lambda data: data + bytes(24),
    "all ones": lambda data: b"\xff" * len(data),
    "all zeros": lambda data: bytes(len(data)),
    "ones behind": lambda data: data + b"\xff" * 24,
    "half": lambda data: data[: len(data) // 48 * 24],
    "one record": lambda data: data[:24],
    "nothing": lambda data: b"",
    "reversed": lambda data: b"".join(data[at : at + 24] for at in range(len(data) - 24, -1, -24)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fault_62_a_timeline_that_is_not_that_of_its_streams(output: Path, change: str) -> None:
    sound, path = read_all(output)[1], output / TIMELINE
    path.write_bytes(CHANGES[change](path.read_bytes()))
    damaged, shown = read_all(output)
    assert damaged
    assert {s: shown[s] for s in STREAMS} == {s: sound[s] for s in STREAMS}
    assert shown[BOTH] == shown[STDOUT] + shown[STDERR]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("change", ["cut", "grown", "missing", "empty", "huge"])
def test_fault_62_a_stream_that_is_not_that_of_its_timeline(
    output: Path, stream: str, change: str
) -> None:
    path = output / stream
    data = path.read_bytes()
    if change == "missing":
        path.unlink()
    elif change == "huge":
        with open(path, "r+b") as file:
            file.truncate(10**12)
    else:
        path.write_bytes({"cut": data[:-7], "grown": data + b"more\n", "empty": b""}[change])
    damaged, shown = read_all(output)
    assert damaged
    there = path.read_bytes() if change not in ("missing", "huge") else b""
    if change != "huge":
        assert shown[stream] == there[: LIMIT + 64]


@pytest.mark.parametrize("seed", range(40))
def test_fault_62_a_growing_output_at_random(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = written(tmp_path / "output", chance.choice([3, 30, 90]), finished=False)
    for name in (TIMELINE, STDOUT, STDERR):
        data = bytearray((folder / name).read_bytes())
        for _ in range(chance.choice([0, 1, 3])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        cut = chance.choice([len(data), len(data), chance.randrange(len(data))])
        (folder / name).write_bytes(bytes(data[:cut]) + bytes(chance.choice([0, 0, 24])))
    for finished in (False, True):
        read_all(folder, finished)
    with OutputWriter(folder, LIMIT) as output:
        for stream in STREAMS:
            assert 0 <= output.total(stream) < 2**63
            output.append(stream, b"more\n", 10.0)
    read_all(folder, False)
