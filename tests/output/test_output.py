"""Random lives of one attempt's output, from the command to what people read.

What an agent keeps, what the server keeps of it, and what is read back are compared with what was
written, whatever the limit, the pieces, the repeats and the reopenings.
"""

from __future__ import annotations

import io
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minici.build import STREAMS, Kept
from minici.output.format import RECORD, TIMELINE, OffsetGap, Overrun, StreamTail, marker
from minici.output.reader import BOTH, Piece, Transcript
from minici.output.writer import OutputWriter

LIVES = 1500


@pytest.fixture
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield made
    shutil.rmtree(made)


def promised(written: bytes, limit: int) -> bytes:
    """Section 2 of the contract, `output_limit`, word by word."""
    if len(written) <= limit:
        return written
    half = limit // 2
    head, tail = written[:half], written[len(written) - (limit - half) :]
    line = b"[minici: %d bytes dropped]\n" % (len(written) - limit)
    return head + (b"" if not head or head.endswith(b"\n") else b"\n") + line + tail


def seen(folder: Path, limit: int, view: str, start: int = 0, end: int = 10**9) -> bytes:
    with Transcript(folder, limit) as transcript:
        return b"".join(transcript.read(view, start, end))


class Life:
    """An agent and a server that keep the same output, by a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.limit = self.chance.choice([1, 2, 3, 10, 50, 100, 1000])
        self.there, self.here = folder / "agent", folder / "server"
        self.there.mkdir()
        self.here.mkdir()
        self.written = dict.fromkeys(STREAMS, b"")
        self.order = b""
        self.sent = dict.fromkeys(STREAMS, 0)
        self.lost = dict.fromkeys(STREAMS, False)
        self.seconds = 0.0
        self.agent = OutputWriter(self.there, self.limit)

    def write(self) -> None:
        stream = self.chance.choice(STREAMS)
        some = self.limit // 3 + 1
        size = self.chance.choice([1, 2, some, some, some, 3 * self.limit])
        data = bytes(self.chance.choice(b"ab\n") for _ in range(size))
        self.seconds += self.chance.choice([0, 0.001, 0.02])
        self.agent.append(stream, data, self.seconds)
        self.written[stream] += data
        self.order += data
        if self.chance.random() < 0.3:
            self.agent.close()
            self.agent = OutputWriter(self.there, self.limit)

    def send(self) -> None:
        for stream in STREAMS:
            while not self.lost[stream] and self.sent[stream] < self.agent.total(stream):
                try:
                    piece = self.agent.read(stream, self.sent[stream], self.chance.choice([5, 100]))
                except Overrun:
                    self.lost[stream] = True
                    break
                with OutputWriter(self.here, self.limit) as server:
                    assert server.total(stream) == self.sent[stream]
                    server.append(stream, piece, self.seconds)
                self.sent[stream] += len(piece)

    def deliver(self, with_timeline: bool) -> Kept:
        rests = {}
        for stream in STREAMS:
            offset, length, blocks = self.agent.rest(stream, self.sent[stream])
            text = b"".join(blocks)
            assert len(text) == length
            rests[stream] = StreamTail(offset, length, io.BytesIO(text))
        timeline = list(self.agent.timeline()) if with_timeline else None
        with OutputWriter(self.here, self.limit) as server:
            return server.finish(rests, self.seconds, timeline)


def test_what_is_kept_is_what_was_promised(folder: Path) -> None:
    for seed in range(LIVES):
        place = folder / str(seed)
        place.mkdir()
        life = Life(place, seed)
        keeping_up = life.chance.choice([0.1, 0.5, 0.95])
        for _ in range(life.chance.randint(0, 30)):
            life.write()
            if life.chance.random() < keeping_up:
                life.send()
        with_timeline = life.chance.random() < 0.7
        check(life, life.deliver(with_timeline), with_timeline, seed)
        check(life, life.deliver(with_timeline), with_timeline, seed)  # a repeat changes nothing
        life.agent.close()
        shutil.rmtree(place)


def check(life: Life, kept: Kept, with_timeline: bool, seed: int) -> None:
    sizes = {stream: len(written) for stream, written in life.written.items()}
    dropped = sum(max(0, size - life.limit) for size in sizes.values())
    assert kept == Kept(
        min(life.limit, sizes["stdout"]), min(life.limit, sizes["stderr"]), dropped
    ), seed
    for stream, written in life.written.items():
        assert seen(life.here, life.limit, stream) == promised(written, life.limit), (seed, stream)
        size = len(promised(written, life.limit))
        assert size == 0 or (life.here / stream).stat().st_size == size, (seed, stream)
    whole = seen(life.here, life.limit, BOTH)
    if with_timeline and not dropped:
        assert whole == life.order, seed
    start = life.chance.randint(0, len(whole))
    end = life.chance.randint(start, len(whole))
    assert seen(life.here, life.limit, BOTH, start, end) == whole[start:end], seed
    with Transcript(life.here, life.limit) as transcript:
        assert transcript.size(BOTH) == len(whole)
        place = transcript.place_of(start)
        assert b"".join(piece.data for piece in transcript.pieces(place)) == whole[start:], seed


def test_while_it_grows_the_dropped_middle_is_skipped(folder: Path) -> None:
    with OutputWriter(folder, 10) as output:
        output.append("stdout", b"0123456789", 0.1)
        assert seen(folder, 10, "stdout") == b"0123456789"
        output.append("stdout", b"abc", 0.2)
    assert seen(folder, 10, "stdout") == b"0123489abc"
    with Transcript(folder, 10) as transcript:
        assert transcript.kept == Kept(10, 0, 3)


def test_who_follows_sees_all_that_came_or_how_much_was_dropped(folder: Path) -> None:
    """A reader of a growing output, however slow: between markers, exactly what was written."""
    for seed in range(LIVES):
        place = folder / str(seed)
        place.mkdir()
        life = Life(place, seed)
        reader = Follower(life)
        for _ in range(life.chance.randint(0, 30)):
            life.write()
            life.send()
            if life.chance.random() < 0.6:
                reader.read()
        life.deliver(with_timeline=life.chance.random() < 0.5)
        reader.read()
        for stream, written in life.written.items():
            assert reader.seen[stream] == len(written), (seed, stream)
            late = Follower(life)
            late.read()
            assert late.text[stream] == promised(written, life.limit), (seed, stream)
        life.agent.close()
        shutil.rmtree(place)


class Follower:
    """A reader of a life's output on the server, who checks each piece."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.seen = dict.fromkeys(STREAMS, 0)
        self.text = dict.fromkeys(STREAMS, b"")

    def read(self) -> None:
        with Transcript(self.life.here, self.life.limit) as transcript:
            place = (self.seen["stdout"], self.seen["stderr"])
            for piece in transcript.follow(place):
                self._take(piece)
            assert transcript.raw_place(transcript.end) == tuple(self.seen.values())

    def _take(self, piece: Piece) -> None:
        begun, end = self.seen[piece.stream], piece.place[STREAMS.index(piece.stream)]
        if piece.marker:
            assert piece.data.strip() == b"[minici: %d bytes dropped]" % (end - begun)
            assert piece.data.startswith(b"\n") or self.text[piece.stream][-1:] in (b"", b"\n")
        else:
            assert piece.data == self.life.written[piece.stream][begun:end]
        self.seen = dict(zip(STREAMS, piece.place))
        self.text[piece.stream] += piece.data


def test_a_gap_before_the_rest_changes_nothing(folder: Path) -> None:
    with OutputWriter(folder, 100) as output:
        output.append("stdout", b"abc", 0.1)
        with pytest.raises(OffsetGap) as gap:
            output.finish({"stdout": StreamTail(4, 1, io.BytesIO(b"e"))}, 0.2)
    assert gap.value.have == {"stdout": 3, "stderr": 0}
    assert seen(folder, 100, "stdout") == b"abc"


def test_pieces_of_one_stream_that_come_together_are_one_record(folder: Path) -> None:
    with OutputWriter(folder, 1000) as output:
        for _ in range(50):
            output.append("stdout", b"x", 0.5)
        assert len(list(output.timeline())) == 1
        output.append("stderr", b"y", 0.5)
        output.append("stdout", b"z", 0.6)
        assert [record[2] for record in output.timeline()] == [500, 500, 600]


def test_a_timeline_ahead_of_its_bytes_is_cut_back(folder: Path) -> None:
    """A power cut may keep the record and lose what it speaks of, which nobody acknowledged."""
    with OutputWriter(folder, 1000) as output:
        output.append("stdout", b"abc", 0.1)
        output.append("stderr", b"def", 0.2)
    with open(folder / "stderr", "r+b") as file:
        file.truncate(1)
    with OutputWriter(folder, 1000) as output:
        assert output.totals == {"stdout": 3, "stderr": 0}
        output.append("stderr", b"DEF", 0.3)
    assert seen(folder, 1000, BOTH) == b"abcDEF"


def test_a_torn_record_is_no_record(folder: Path) -> None:
    with OutputWriter(folder, 1000) as output:
        output.append("stdout", b"abc", 0.1)
    with open(folder / TIMELINE, "ab") as file:
        file.write(b"\x01" * (RECORD.size - 1))
    with OutputWriter(folder, 1000) as output:
        assert output.totals == {"stdout": 3, "stderr": 0}
        output.append("stdout", b"def", 0.2)
    assert seen(folder, 1000, BOTH) == b"abcdef"


def test_a_crash_while_the_final_form_takes_its_place_is_made_good(folder: Path) -> None:
    """The new files are complete under `sealed`; some have moved when the server dies."""
    with OutputWriter(folder, 10) as output:
        output.append("stdout", b"0123456789abcdef", 0.1)
        output.append("stderr", b"err", 0.2)
        kept = output.finish({}, 0.3)
    final = {name: (folder / name).read_bytes() for name in (*STREAMS, TIMELINE)}
    (folder / "sealed").mkdir()
    for name in ("stderr", TIMELINE):
        (folder / name).rename(folder / "sealed" / name)
    with OutputWriter(folder, 10) as output:
        assert output.finish({}, 0.3) == kept
    assert {name: (folder / name).read_bytes() for name in (*STREAMS, TIMELINE)} == final
    assert not (folder / "sealed").exists()


def test_an_agent_that_cut_its_stream_itself_is_believed(folder: Path) -> None:
    text = b"01234\n" + marker(1000, after_line=True) + b"vwxyz\n"
    with OutputWriter(folder, 12) as output:
        kept = output.finish({"stdout": StreamTail(0, len(text), io.BytesIO(text))}, 0.1)
    assert kept == Kept(12, 0, 1000)
    assert seen(folder, 12, "stdout") == text


def test_a_marker_in_what_is_too_long_anyway_is_text(folder: Path) -> None:
    text = b"01234\n" + marker(1000, after_line=True) + b"much more than half of the limit"
    with OutputWriter(folder, 12) as output:
        kept = output.finish({"stdout": StreamTail(0, len(text), io.BytesIO(text))}, 0.1)
    assert kept == Kept(12, 0, len(text) - 12)
    found = re.search(rb"\[minici: (\d+) bytes dropped\]", seen(folder, 12, "stdout"))
    assert found and int(found[1]) == len(text) - 12
