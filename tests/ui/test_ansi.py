"""From output to lines: colours, carriage returns, links, and nothing else."""

from __future__ import annotations

import html
import random
import re
import time

import pytest

from minici.ui.ansi import Log, Pen
from minici.ui.log_html import format_offset, render
from minici.ui.models import OutputPiece
from minici.ui.palette import nearest


def lines_of(*pieces: tuple[str, str]) -> list[str]:
    """The HTML of the texts of the lines, for pieces of (stream, text)."""
    log = Log()
    for stream, text in pieces:
        log.write(OutputPiece(stream, 0.0, text))
    return texts(str(render(log, "{n}")))


def texts(source: str) -> list[str]:
    return re.findall(r'<span class="text">(.*?)</span></div>\n', source, re.S)


def line(text: str) -> str:
    found = lines_of(("stdout", text))
    assert len(found) == 1, found
    return found[0]


def plain_text(source: str) -> str:
    return html.unescape(re.sub("<[^>]*>", "", source))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("\x1b[31mred\x1b[0m off", '<span class="f1">red</span> off'),
        ("\x1b[91mbright", '<span class="f9">bright</span>'),
        ("\x1b[42mground", '<span class="on b2">ground</span>'),
        ("\x1b[102mground", '<span class="on b10">ground</span>'),
        ("\x1b[1;4mboth", '<span class="bold underline">both</span>'),
        ("\x1b[1mb\x1b[22mn", '<span class="bold">b</span>n'),
        ("\x1b[4mu\x1b[24mn", '<span class="underline">u</span>n'),
        ("\x1b[31mr\x1b[39mn", '<span class="f1">r</span>n'),
        ("\x1b[41mr\x1b[49mn", '<span class="on b1">r</span>n'),
        ("\x1b[31mr\x1b[mn", '<span class="f1">r</span>n'),
        ("\x1b[38;5;208mx", '<span class="f208">x</span>'),
        ("\x1b[48;5;17mx", '<span class="on b17">x</span>'),
        ("\x1b[38:5:208mx", '<span class="f208">x</span>'),
        ("\x1b[38;5;999mx", '<span class="f255">x</span>'),
        ("\x1b[38;2;255;0;0mx", '<span class="f196 fxff0000">x</span>'),
        ("\x1b[48;2;8;8;9;1mx", '<span class="bold on b232 bx080809">x</span>'),
        ("\x1b[38;2;1;2;999;7mx", '<span class="f0 on b21 bx0102ff">x</span>'),
        ("\x1b[7mx", '<span class="f0 on b7">x</span>'),
        ("\x1b[31;7mx\x1b[27my", '<span class="f0 on b1">x</span><span class="f1">y</span>'),
        ("\x1b[3;9;2mx", '<span class="dim italic strike">x</span>'),
        ("\x1b[38mx", "x"),
        ("\x1b[38;2;1mx", "x"),
        ("\x1b[58;73mx", "x"),
    ],
)
def test_colours_become_classes(text: str, expected: str) -> None:
    assert line(text) == expected


@pytest.mark.parametrize(
    "sequence",
    [
        "\x1b[2J",
        "\x1b[H",
        "\x1b[10;20H",
        "\x1b[K",
        "\x1b[?25l",
        "\x1b[>c",
        "\x1b]0;a title\x07",
        "\x1b]8;;javascript:alert(1)\x1b\\",
        "\x1bP1$r0m\x1b\\",
        "\x1b_G\x1b\\",
        "\x1b(B",
        "\x1b7",
        "\x1bc",
        "\x1b=",
        "\x1b[1 q",
    ],
)
def test_other_sequences_do_nothing(sequence: str) -> None:
    assert line(f"a{sequence}b") == "ab"


def test_a_lone_control_character_is_a_mark() -> None:
    assert line("a\x00b\x07\x1b") == "a&lt;U+0000&gt;b&lt;U+0007&gt;"
    assert line("a\x1b\u00e9b") == "a&lt;U+001B&gt;éb"
    assert line("a\u202eb") == "a&lt;U+202E&gt;b"


def test_what_looks_like_html_is_text() -> None:
    assert line('<b class="x">&amp;') == "&lt;b class=&quot;x&quot;&gt;&amp;amp;"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("10%\r20%\r100%", "100%"),
        ("10%\rdone\n", "done"),
        ("10%\r\n", "10%"),
        ("10%\r\r\n", "10%"),
        ("10%\r", "10%"),
        ("a\rbb\r\x1b[32m", "bb"),
        ("\x1b[31mlong line\rx", "xong line"),
        ("long line\r\x1b[Kx", "x"),
    ],
)
def test_a_carriage_return_begins_its_line_again(text: str, shown: str) -> None:
    assert plain_text(line(text)) == shown


@pytest.mark.parametrize(
    "text, shown",
    [
        ("ab\x08c", ["ac"]),
        ("\x08\x08ab", ["ab"]),
        ("spin |\x08/\x08-\x08 \n", ["spin  "]),
        ("a\nb\n\x1b[2Ac\nd\ne", ["c", "d", "e"]),
        ("a\nb\n\x1b[1A\x1b[2KB\n", ["a", "B"]),
        ("a: 1\nb: 1\n\x1b[2A\x1b[3C2\x1b[1E\x1b[3C3\n", ["a: 2", "b: 3"]),
        ("one\ntwo\nthree\n\x1b[3A\x1b[Jnew\n", ["new", "", ""]),
        ("one\ntwo\x1b[1F1\n", ["1ne", "two"]),
        ("a\x1b[4Gb", ["a  b"]),
        ("abcd\x1b[2D\x1b[1Kx", ["  xd"]),
        ("abcd\x1b[3D\x1b[K", ["a"]),
        ("a\x1b[9999999Cb", ["a b"]),
        ("é🎉x\x08y\r1", ["1🎉y"]),
    ],
)
def test_the_cursor_is_where_a_terminal_has_it(text: str, shown: list[str]) -> None:
    assert [plain_text(each) for each in lines_of(("stdout", text))] == shown


def test_a_line_that_is_written_over_others_takes_a_number_all_the_same() -> None:
    log = Log()
    log.write(OutputPiece("stdout", 0.0, "a\nb\n\x1b[2Ac\nd\nlast"))
    assert [(line.number, line.spans[0][1]) for line in log.lines] == [
        (1, "c"),
        (2, "d"),
        (5, "last"),
    ]


def test_the_cursor_goes_above_what_a_page_holds() -> None:
    log = Log(8)
    log.write(OutputPiece("stdout", 0.0, "a\n\x1b[3Agone\ngone\nhere\nlast\n"))
    assert [line.spans[0][1] for line in log.lines] == ["here", "last"]


def test_a_line_that_is_written_over_and_over_costs_no_more_for_it() -> None:
    log = Log()
    begun = time.perf_counter()
    log.write(OutputPiece("stdout", 0.0, "".join(f"\x1b[3{n % 8}ma" for n in range(20000))))
    log.write(OutputPiece("stdout", 0.0, "\rx\x1b[5Cy\x1b[3A" * 20000))
    assert time.perf_counter() - begun < 5


def test_lines_and_where_they_stand() -> None:
    assert lines_of(("stdout", "a\n\nb\n")) == ["a", "", "b"]
    assert lines_of(("stdout", "a")) == ["a"]
    assert lines_of(("stdout", "\n")) == [""]
    assert lines_of() == []
    mixed = lines_of(("stdout", "out "), ("stderr", "err\n"), ("stdout", "goes on\n"))
    assert mixed == ["out goes on", "err"], "a line stands where it began"


def test_the_streams_have_pens_of_their_own() -> None:
    found = lines_of(("stdout", "\x1b[31m"), ("stderr", "plain\n"), ("stdout", "red\n"))
    assert found == ["plain", '<span class="f1">red</span>'], "a colour alone begins no line"


def test_a_colour_lasts_over_lines() -> None:
    assert lines_of(("stdout", "\x1b[31ma\nb")) == [
        '<span class="f1">a</span>',
        '<span class="f1">b</span>',
    ]


@pytest.mark.parametrize(
    "text, url, rest",
    [
        ("see https://example.org/a?b=c&d#e.", "https://example.org/a?b=c&d#e", "."),
        ("(http://example.org/)", "http://example.org/", ")"),
        ('"https://example.org"x', "https://example.org", '"x'),
        ("https://example.org<script>", "https://example.org", "<script>"),
        ("https://example.org/\u202egpj", "https://example.org/", "<U+202E>gpj"),
    ],
)
def test_addresses_are_links(text: str, url: str, rest: str) -> None:
    shown = line(text)
    link = f'<a href="{html.escape(url)}" rel="noreferrer nofollow noopener">{html.escape(url)}</a>'
    assert link in shown
    assert plain_text(shown.split("</a>")[1]) == rest


@pytest.mark.parametrize("text", ["javascript:alert(1)", "data:text/html,x", "ftp://x", "https://"])
def test_nothing_else_is_a_link(text: str) -> None:
    assert "<a" not in line(text)


SAMPLE = (
    "plain \x1b[1;31mred\x1b[0m\r\n10%\r20%\x1b[K\r\x1b[32m100%\n"
    "\x1b]0;title\x07\x1b[38;2;1;2;3mtrue\x1b[7m\ninverse https://example.org/a. \x1b(B<&>\n"
    "\x1b[4mopen"
)


@pytest.mark.parametrize("cut", range(1, len(SAMPLE)))
def test_a_cut_anywhere_changes_nothing(cut: int) -> None:
    whole = lines_of(("stdout", SAMPLE))
    assert lines_of(("stdout", SAMPLE[:cut]), ("stdout", SAMPLE[cut:])) == whole


@pytest.mark.parametrize("cut", range(1, len(SAMPLE)))
def test_what_was_open_can_be_taken_up_again(cut: int) -> None:
    """static/log.js goes on from what the page says is open: the same lines must come out."""
    log = Log()
    log.write(OutputPiece("stdout", 0.0, SAMPLE[:cut]))
    state = log.open()["stdout"]
    done = len(log.lines) - (state["line"] is not None)
    later = Log(done + 1)
    later.write(OutputPiece("stdout", 0.0, str(state["text"])))
    later.write(OutputPiece("stdout", 0.0, SAMPLE[cut:]))
    shown = texts(str(render(log, "{n}")))[:done] + texts(str(render(later, "{n}")))
    assert shown == lines_of(("stdout", SAMPLE))


def test_an_endless_sequence_does_not_hold_memory() -> None:
    log = Log()
    log.write(OutputPiece("stdout", 0.0, "\x1b]0;"))
    for _ in range(50):
        log.write(OutputPiece("stdout", 0.0, "x" * 1000))
    log.write(OutputPiece("stdout", 0.0, "\nafter\n"))
    assert texts(str(render(log, "{n}")))[-1] == "after"


def test_random_bytes_never_become_markup() -> None:
    chance = random.Random(5)
    alphabet = "\x1b[]m;0123456789\r\n<>&\"'ab \x07\x9b\u202e\\PX^_?38" + "\x1b[38;5;"
    for _ in range(300):
        text = "".join(chance.choice(alphabet) for _ in range(80))
        for shown in lines_of(("stdout", text), ("stderr", text[::-1])):
            rest = re.sub(r'<span class="[a-z0-9 ]*">|</span>', "", shown)
            assert not re.search("[<>\"'\x00-\x08\x0b-\x1f\u202e]", rest), (text, shown)


def test_the_pen_says_how_to_get_there() -> None:
    pen = Pen()
    pen.apply("1;4;38;5;200;48;5;20;7")
    other = Pen()
    other.apply(pen.sequence()[2:-1])
    assert other == pen
    pen.apply("38;2;1;20;255;48;2;0;0;7")
    other.apply(pen.sequence()[2:-1])
    assert other == pen and pen.front != pen.back
    assert Pen().sequence() == ""


def test_the_nearest_colour() -> None:
    assert nearest(255, 255, 255) == 231
    assert nearest(0, 0, 0) == 16
    assert nearest(118, 118, 118) == 243
    assert nearest(95, 135, 175) == 67


@pytest.mark.parametrize(
    "seconds, shown",
    [(0, "0.0"), (9.99, "9.9"), (59.9, "59.9"), (64.2, "1:04.2"), (3600, "1:00:00.0"), (-1, "0.0")],
)
def test_seconds_since_the_start(seconds: float, shown: str) -> None:
    assert format_offset(seconds) == shown
