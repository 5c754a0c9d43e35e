"""The lines of an output: numbers that are the same on every part, and what is found in them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minici.html import OutputPiece
from minici.output import excerpt as passage_module
from minici.output import lines as lines_module
from minici.output.excerpt import Excerpt, Selection, find_lines
from minici.output.lines import Lines
from minici.output.reader import BOTH, Transcript
from minici.output.writer import OutputWriter
from minici.ui.ansi import Log
from minici.ui.log_html import render
from tests.support.fakes import FakeAgent
from tests.support.harness import Place

LIMIT = 1 << 24


def written(folder: Path, *pieces: tuple[str, str]) -> Path:
    """A folder with these pieces of (stream, text), each a tick after the one before."""
    folder.mkdir()
    with OutputWriter(folder, LIMIT) as output:
        for tick, (stream, text) in enumerate(pieces):
            output.append(stream, text.encode(), tick)
    return folder


def numbered(passage: Excerpt) -> list[tuple[int, str]]:
    """The lines of a part as its page numbers them."""
    log = Log(passage.position.begun + 1, passage.position.open)
    for piece in passage.pieces:
        log.write(OutputPiece(*piece))
    return [(line.number, "".join(text for _, text in line.spans)) for line in log.lines]


def chance_pieces(chance: random.Random) -> list[tuple[str, str]]:
    words = ("a", "bb\n", "\n", "ccc")
    return [
        (
            chance.choice(("stdout", "stderr")),
            "".join(chance.choice(words) for _ in range(chance.randrange(1, 8))),
        )
        for _ in range(chance.randrange(1, 12))
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and parts so small that a few words have many of them."""
    monkeypatch.setattr(lines_module, "_BLOCK", 7)
    monkeypatch.setattr(passage_module, "PART", 40)
    monkeypatch.setattr(passage_module, "LINES", 5)
    monkeypatch.setattr(passage_module, "_CONTEXT", 2)


@pytest.fixture(params=range(60))
def transcript(request: pytest.FixtureRequest, tmp_path: Path, small: None) -> Iterator[Transcript]:
    pieces = chance_pieces(random.Random(request.param))
    with Transcript(written(tmp_path / "output", *pieces), LIMIT) as transcript:
        yield transcript


def whole_log(transcript: Transcript, end: int) -> Log:
    log = Log()
    for piece in transcript.pieces():
        data = piece.data[: max(0, end)]
        end -= len(piece.data)
        if data:
            log.write(OutputPiece(piece.stream, 0, data.decode()))
    return log


def test_what_has_begun_before_a_place(transcript: Transcript) -> None:
    for offset in range(transcript.size(BOTH) + 1):
        log = whole_log(transcript, offset)
        standing = Lines(transcript).position(transcript.place_of(offset))
        assert standing.begun == len(log.lines), offset
        still_open = {name: state["line"] for name, state in log.open().items() if state["line"]}
        assert standing.open == still_open, offset


def test_where_a_line_begins(transcript: Transcript) -> None:
    lines, count = Lines(transcript), len(whole_log(transcript, transcript.size(BOTH)).lines)
    for number in range(1, count + 1):
        place = lines.place_of(number)
        assert place is not None and lines.position(place).begun == number - 1
        assert transcript.place_of(sum(place)) == place
    assert lines.place_of(count + 1) is None and lines.place_of(0) is None


def test_parts_follow_each_other_and_number_lines_as_the_whole_does(
    transcript: Transcript,
) -> None:
    whole = [
        (line.number, "".join(text for _, text in line.spans))
        for line in whole_log(transcript, transcript.size(BOTH)).lines
    ]
    for forwards in (True, False):
        passage = Excerpt(transcript, Selection(at=0) if forwards else Selection())
        parts = [numbered(passage)]
        while (passage.later if forwards else passage.earlier) is not None:
            if forwards:
                passage = Excerpt(transcript, Selection(at=passage.later))
            else:
                passage = Excerpt(transcript, Selection(to=passage.earlier))
            parts.append(numbered(passage))
            assert len(parts) < 200, "each part is shorter than what is left"
        together: dict[int, str] = {}
        for part in parts if forwards else reversed(parts):
            for number, text in part:
                together[number] = together.get(number, "") + text
        assert sorted(together.items()) == whole


def test_the_part_around_a_line_has_it(transcript: Transcript) -> None:
    count = len(whole_log(transcript, transcript.size(BOTH)).lines)
    for number in range(1, count + 1):
        assert number in dict(numbered(Excerpt(transcript, Selection(line=number))))
    ending = numbered(Excerpt(transcript, Selection()))
    assert numbered(Excerpt(transcript, Selection(line=count + 1))) == ending


def test_an_empty_output_has_a_part(tmp_path: Path) -> None:
    with Transcript(tmp_path, LIMIT) as transcript:
        for wanted in (Selection(), Selection(at=0), Selection(to=9), Selection(line=4)):
            passage = Excerpt(transcript, wanted)
            assert not list(passage.pieces) and passage.position.begun == 0
            assert passage.earlier is None and passage.later is None
        assert not find_lines(transcript, "x", 5).lines


def test_a_line_that_goes_on_stands_before_those_that_began_later() -> None:
    log = Log(8, {"stdout": 3, "stderr": 5})
    for stream, text in (("stderr", "z\nnew\n"), ("stdout", "y\nnewer")):
        log.write(OutputPiece(stream, 0, text))
    assert [line.number for line in log.lines] == [3, 5, 8, 9] and log.next == 10
    assert 'id="L3"' in render(log, "{n}")
    assert log.open()["stdout"]["line"] == 9 and log.open()["stderr"]["line"] is None
    assert Log(8, {"stdout": 3}).open()["stdout"] == {"line": 3, "begun": False, "text": ""}


# Search


def found(folder: Path, text: str, most: int = 100) -> list[tuple[int, str]]:
    with Transcript(folder, LIMIT) as transcript:
        return [(line.number, line.text) for line in find_lines(transcript, text, most).lines]


def test_lines_are_found_as_a_page_shows_them(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "output",
        ("stdout", "first\n\x1b[31mnee\x1b[0mdle\x1b]0;needle\x07 one\n"),
        ("stderr", "a Needle in stderr\n"),
        (
            "stdout",
            "needle 10%\rneedle\r100%\n10%\rneedle\r\nПИРОГ, die Ärzte\nneed\nle\nneedle needle",
        ),
    )
    assert found(folder, "needle") == [
        (2, "needle one"),
        (3, "a Needle in stderr"),
        (5, "needle"),
        (9, "needle needle"),
    ]
    assert found(folder, "NEEDLE ONE") == [(2, "needle one")]
    assert found(folder, "пирог, DIE ä") == [(6, "ПИРОГ, die Ärzte")]
    assert found(folder, "31m") == [] and found(folder, ".") == []
    assert found(folder, "") == [] and found(folder, " ") == []
    assert found(folder, "le\nneedle") == found(folder, "le"), "the first line of it counts"


def test_so_many_are_found_and_no_more(tmp_path: Path) -> None:
    text = "".join(f"line {n}\n" for n in range(1, 101))
    folder = written(tmp_path / "output", ("stdout", text), ("stderr", text))
    with Transcript(folder, LIMIT) as transcript:
        some, all_of_it = (find_lines(transcript, "LINE", most) for most in (30, 200))
    assert [line.number for line in some.lines] == list(range(1, 31)) and some.more
    assert [line.number for line in all_of_it.lines] == list(range(1, 201)) and not all_of_it.more


@pytest.mark.parametrize("block", [16, 64, 1 << 20])
def test_search_over_the_edges_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(lines_module, "_SEARCHED", block)
    text = "".join(f"{'x' * (n % 13)}needle{n}\n" for n in range(300))
    folder = written(tmp_path / "output", ("stdout", text))
    assert [number for number, _ in found(folder, "needle", 1000)] == list(range(1, 301))
    assert found(folder, "needle299") == [(300, "needle299")]


@pytest.mark.parametrize("sign", ["\r", "\x1b", "\x1b]", "\x1b[", "x"])
def test_no_line_makes_a_search_long(tmp_path: Path, sign: str) -> None:
    """Whatever a command writes, the time grows with its length alone."""
    folder = written(
        tmp_path / "output", ("stdout", sign * (4_000_000 // len(sign)) + "\nneedle\n")
    )
    assert [number for number, _ in found(folder, "needle")] == [2]


def test_a_flood_that_writes_over_what_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted a moment ago is no longer there: the search ends all the same."""
    limit = 4096
    (tmp_path / "output").mkdir()
    with OutputWriter(tmp_path / "output", limit) as output:
        output.append("stdout", b"\n" * limit + b"needle\n", 0)
        with Transcript(tmp_path / "output", limit) as transcript:
            lines, read, flooded = Lines(transcript), transcript.read, []

            def read_and_flood(view: str, start: int, end: int) -> Iterator[bytes]:
                yield from read(view, start, end)
                if not flooded:
                    flooded.append(True)
                    output.append("stdout", b"x" * limit, 0)

            monkeypatch.setattr(transcript, "read", read_and_flood)
            assert len(list(lines.search("needle", 5))) == 1 and flooded


def test_search_over_http(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"one\ntwo\n")

    def lines(query: str) -> object:
        return server.get(f"/build/{number}/find?{query}").json()

    assert lines("text=TWO") == {"lines": [2], "more": False}, "also while it runs"
    agent.result(build, 0, "one again\n", stdout_offset=8)
    assert lines("text=one") == {"lines": [1, 3], "more": False}
    assert lines("text=one&attempt=1") == {"lines": [1, 3], "more": False}
    assert lines("text=") == {"lines": [], "more": False} == lines("")
    assert server.get(f"/build/{number}/find?text=x&attempt=2").status == 404
    assert server.get("/build/99/find?text=x").status == 404
    page = server.get(f"/build/{number}?find=One").text
    assert "2 строки" in page and f'href="/build/{number}?line=3&amp;find=One#L3"' in page
    assert "Ничего не найдено." in server.get(f"/build/{number}?find=nothing").text


def test_many_lines_are_found_among_very_many_in_little_time(tmp_path: Path) -> None:
    """Each that is found costs some readings of a block, and not a step for each line of it."""
    folder = written(tmp_path / "output", ("stdout", ("ok\n" * 20_000 + "needle\n" * 10) * 100))
    with Transcript(folder, LIMIT) as transcript:
        begun = time.process_time()
        found = find_lines(transcript, "needle", 1000).lines
        spent = time.process_time() - begun
        begun = time.process_time()
        for _ in range(1000):
            b"".join(transcript.read("stdout", 0, 65536)).count(b"\n")
        once = time.process_time() - begun
    assert [line.number for line in found[:11]] == [*range(20_001, 20_011), 40_011]
    assert len(found) == 1000 and spent < 20 * once
