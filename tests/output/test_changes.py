"""What is new in an output: lines that an earlier one did not have, but for what is by chance."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from minici.output import changes as changes_module
from minici.output.changes import new_lines
from minici.output.fingerprints import Fingerprints
from minici.output.lines import Lines
from minici.output.reader import BOTH, Transcript
from minici.output.writer import OutputWriter

LIMIT = 1 << 24
Pieces = list[tuple[str, str]]


def written(folder: Path, pieces: Pieces, limit: int = LIMIT) -> Path:
    folder.mkdir()
    with OutputWriter(folder, limit) as output:
        for tick, (stream, text) in enumerate(pieces):
            output.append(stream, text.encode(), tick)
        output.finish({}, 1.0)
    return folder


def new(folder: Path, now: Pieces, before: Pieces, limit: int = LIMIT) -> list[int]:
    paths = written(folder / "now", now, limit), written(folder / "before", before, limit)
    with Transcript(paths[0], limit, True) as output, Transcript(paths[1], limit, True) as earlier:
        return [number for number in new_lines(output, earlier) if number is not None]


SAME = [
    ("done at 2026-11-28 22:52:12,123", "done at 2025-01-02 03:04:05,999"),
    ("2026-11-28T22:52:12.5Z start", "2026-01-01T00:00:00.123Z start"),
    ("Sat Nov 28 22:52:12 UTC 2026", "Sun Dec  6 02:02:02 UTC 2026"),
    ("[28/Nov/2026:22:52:12 +0000] GET /", "[01/Dec/2026:02:02:02 +0000] GET /"),
    ("it is 22:52", "it is 03:04"),
    ("42 passed in 2.31s", "42 passed in 12.1s"),
    ("took 1 min 2 s", "took 14 min 33 s"),
    ("Finished in 59s", "Finished in 1m 02s"),
    ("ok (12 ms)", "ok (7 ms)"),
    ("at 12.5 MB/s", "at 3 MB/s"),
    ("coverage 87.5%", "coverage 9%"),
    ("HEAD is now at 6c1f0a93d2", "HEAD is now at a04d77c"),
    ("sha256:" + "ab12" * 16, "sha256:" + "0f9e" * 16),
    ("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-aaaa-bbbb-cccc-0123456789ab"),
    ("<Roof object at 0x7f3a10>", "<Roof object at 0x55deadbeef10>"),
    ("connect 10.0.0.7:41234", "connect 192.168.1.20:80"),
    ("peer [fe80::1]:8080", "peer [fe80::a2:3]:9000"),
    ("mac de:ad:be:ef:00:01", "mac 00:11:22:33:44:55"),
    ("gateway 2001:db8:0:85a3::7334 is up", "gateway fe80::8a2e:370 is up"),
    ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "2001:0db8:85a3:1111:2222:8a2e:fefe:1"),
    ("pid 1234 started", "pid 7 started"),
    ("PID=1234", "PID=7"),
    ("worker (ppid: 12)", "worker (ppid: 9999)"),
    ("at [   12.345678] usb", "at [ 1234.5] usb"),
    ("log of 20261128T225212Z", "log of 20250101T000000Z"),
    ("in /private/tmp/x1y/a", "in /tmp/zzz/a"),
    ("in /var/folders/ab/cd_1/T/tmpabc/a", "in /var/folders/zz/q/T/tmpxyz/a"),
    ("process 999 ended", "process 12345 ended"),
    ("sshd[812]: hello", "sshd[22]: hello"),
    ("listening on port 41234", "listening on port 80"),
    ("http://localhost:41234/x", "http://localhost:5000/x"),
    ("open /tmp/tmpab_x9/roof.txt", "open /tmp/tmpqqqqq/roof.txt"),
    ("open /tmp/abcdef/roof", "open /tmp/ghijkl/roof"),
    ("in /tmp/pytest-of-ada/pytest-12/t0", "in /tmp/pytest-of-ada/pytest-3/t0"),
    ("cd /srv/agent-a/workspaces/0", "cd /srv/b/workspaces/11"),
    ("\x1b[32mgreen\x1b[0m", "green"),
    ("10%\r50%\rdone", "1%\rdone"),
    ("line\r", "line"),
    ("[minici: 12345 bytes dropped]", "[minici: 9 bytes dropped]"),
]
OTHER = [
    ("1 failed", "2 failed"),
    ("assert 3 == 2", "assert 2 == 2"),
    ("test_7 ok", "test_8 ok"),
    ("roof.py:31: AssertionError", "roof.py:32: AssertionError"),
    ("exit status 1", "exit status 0"),
    ("Failures: 1, Errors: 0", "Failures: 0, Errors: 0"),
    ("case [3] passed", "case [4] passed"),
    ("two lines", "two  words"),
    ("v1.2.3", "v1.2.4"),
    ("support 12 things", "support 13 things"),
    ("std::vector<3>", "std::vector<4>"),
    ("abc:12: error", "abc:13: error"),
    ("May be 5", "May be 6"),
]


def fingerprint(text: str) -> int:
    return Fingerprints().of(changes_module.as_shown(text.encode()))[0]


@pytest.mark.parametrize("one, other", SAME)
def test_what_is_by_chance_makes_no_line_new(one: str, other: str) -> None:
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("one, other", OTHER)
def test_other_numbers_and_words_count(one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    "part",
    ["/a", "/tmp/", "0", "0:", "0.", "f", "ff:", "Mon ", "Nov 1 ", "[0", "1s", "\x1b[", "://a:"],
)
def test_no_line_is_a_burden(part: str) -> None:
    """A search that goes back and forth in it would take hours, and hold up all others."""
    begun = time.process_time()
    Fingerprints().of(part.encode() * (1_000_000 // len(part)))
    assert time.process_time() - begun < 20


def test_new_lines_are_numbered_as_on_the_page(tmp_path: Path) -> None:
    before = [("stdout", "start 10:00:01\nok\nend\n")]
    now = [("stdout", "start 11:22:33\nok\nFAILED\n"), ("stderr", "boom\n"), ("stdout", "end")]
    assert new(tmp_path, now, before) == [3, 4]


def test_a_line_in_two_pieces_stands_where_it_began(tmp_path: Path) -> None:
    now = [("stdout", "FAI"), ("stderr", "boom\n"), ("stdout", "LED\nok\nmore")]
    assert new(tmp_path, now, [("stdout", "ok\n")]) == [1, 2, 4]


def test_it_does_not_matter_which_stream_had_a_line(tmp_path: Path) -> None:
    assert new(tmp_path, [("stderr", "a\nb\n")], [("stdout", "a\n")]) == [2]
    (tmp_path / "x").mkdir()
    assert new(tmp_path / "x", [], [("stdout", "a\n")]) == []


@pytest.mark.parametrize("seed", range(20))
def test_by_chance_it_is_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Against a plain reckoning, with so few lines in memory that most are in the file."""
    monkeypatch.setattr(changes_module, "_CHUNK_LINES", 3)
    monkeypatch.setattr(changes_module, "_IN_MEMORY_BYTES", 40)
    monkeypatch.setattr(changes_module, "_READ_BYTES", 16)
    chance = random.Random(seed)

    def pieces() -> Pieces:
        lines = [f"word {chance.choice('abcdefghijklmnop')}\n" for _ in range(30)]
        return [(chance.choice(("stdout", "stderr")), line) for line in lines]

    now, before = pieces(), pieces()
    known = {text for _, text in before}
    expected = [n for n, (_, text) in enumerate(now, 1) if text not in known]
    assert new(tmp_path, now, before) == expected


def test_what_was_dropped_is_not_new(tmp_path: Path) -> None:
    flood = "".join(f"row {n} of a flood\n" for n in range(200))
    shorter = "".join(f"row {n} of a flood\n" for n in range(190))
    found = new(tmp_path, [("stdout", flood)], [("stdout", shorter + "x\n" * 40)], 1000)
    with Transcript(tmp_path / "now", 1000, True) as output:
        text = b"".join(output.read(BOTH, 0, output.size(BOTH))).decode().splitlines()
        assert Lines(output).place_of(len(text)) is not None
    assert any("bytes dropped" in line for line in text)
    assert not [line for number in found if "bytes dropped" in (line := text[number - 1])]
