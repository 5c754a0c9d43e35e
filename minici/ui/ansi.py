"""From what a command wrote to lines of HTML.

Colours and weights (SGR) become CSS classes, addresses become links. What moves the cursor within
its line or up (carriage return, backspace, CSI A to G) and what erases (CSI J, K) is followed, so
that progress bars are shown as a terminal leaves them; every other control sequence is dropped,
and a control character on its own is shown as a mark. static/log.js does the same for live output
and follows this module.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Optional

from minici.ui.models import OutputPiece
from minici.ui.palette import nearest

_TOKEN = re.compile(
    r"\x1b\[([0-?]*)[ -/]*([@-~])"  # CSI: 1 parameters, 2 final
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS and the like
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"  # other escapes
    r"|(\r*\n|\r|\x08)"  # 3 the end of a line, its beginning again, or one character back
    r"|([^\x1b\r\n\x08]+|\x1b)"  # 4 text
)
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?|\r+)\Z")
_LONGEST_SEQUENCE = 4096
_MOST_ROWS = 200  # that the cursor can go up
_MOST_COLUMNS = 1000  # that it can go to the right of what is there
_MOST_SPANS = 500  # of a line that is written over; a longer one begins anew

NO_LINES: Mapping[str, int] = MappingProxyType({})

_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike"}
_OFF = {21: "bold", 22: "bold", 23: "italic", 24: "underline", 27: "inverse", 29: "strike"}


EXACT = 1 << 24


@dataclass
class Pen:
    """The look of the text being written: two colours or None, and a set of weights.

    A colour is its number in the palette, 0 to 255, or EXACT and its red, green and blue.
    """

    front: Optional[int] = None
    back: Optional[int] = None
    weights: tuple[str, ...] = ()

    def apply(self, parameters: str) -> None:
        """Change as one SGR sequence says; what is not understood changes nothing."""
        codes = [int(part) if part.isdigit() else 0 for part in re.split("[;:]", parameters[:200])]
        while codes:
            code = codes.pop(0)
            if code in (38, 48):
                self._set(code == 38, _extended(codes))
            else:
                self._simple(code)

    def _simple(self, code: int) -> None:
        if code == 0:
            self.front, self.back, self.weights = None, None, ()
        elif code in _ON:
            self.weights = tuple(sorted({*self.weights, _ON[code]}))
        elif code in _OFF:
            gone = {_OFF[code], "dim"} if code == 22 else {_OFF[code]}
            self.weights = tuple(weight for weight in self.weights if weight not in gone)
        elif code in (39, 49):
            self._set(code == 39, None)
        elif 30 <= code <= 37 or 40 <= code <= 47:
            self._set(code < 40, code % 10)
        elif 90 <= code <= 97 or 100 <= code <= 107:
            self._set(code < 100, code % 10 + 8)

    def _set(self, front: bool, colour: Optional[int]) -> None:
        if front:
            self.front = colour
        else:
            self.back = colour

    def classes(self) -> str:
        """The CSS classes, the empty text where nothing is special."""
        front, back = self.front, self.back
        names = [weight for weight in self.weights if weight != "inverse"]
        if "inverse" in self.weights:
            front, back = (0 if back is None else back), (7 if front is None else front)
        if front is not None:
            names += _colour_classes("f", front)
        if back is not None:
            names += ["on", *_colour_classes("b", back)]
        return " ".join(names)

    def sequence(self) -> str:
        """The SGR sequence that takes a fresh pen to this state."""
        codes = [str(code) for code, weight in _ON.items() if weight in self.weights]
        codes += [f"38;{_colour_code(self.front)}"] if self.front is not None else []
        codes += [f"48;{_colour_code(self.back)}"] if self.back is not None else []
        return f"\x1b[{';'.join(codes)}m" if codes else ""


def _extended(codes: list[int]) -> Optional[int]:
    """Take the rest of a 38 or 48 from `codes`: `5;N` or `2;R;G;B`; all if it is neither."""
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        return min(codes.pop(0), 255)
    if kind == 2 and len(codes) >= 3:
        red, green, blue = (min(codes.pop(0), 255) for _ in range(3))
        return EXACT | red << 16 | green << 8 | blue
    codes.clear()
    return None


def _channels(colour: int) -> tuple[int, int, int]:
    return colour >> 16 & 255, colour >> 8 & 255, colour & 255


def _colour_classes(side: str, colour: int) -> list[str]:
    """The class of a colour, `f` or `b` and its number. One that is not in the palette has the
    nearest that is, and a class that names it, from which static/log.js makes its rule."""
    if colour < EXACT:
        return [f"{side}{colour}"]
    return [f"{side}{nearest(*_channels(colour))}", f"{side}x{colour - EXACT:06x}"]


def _colour_code(colour: int) -> str:
    if colour < EXACT:
        return f"5;{colour}"
    return "2;" + ";".join(map(str, _channels(colour)))


Span = tuple[str, str]  # the sequence that makes its look, and its text


@functools.lru_cache(maxsize=4096)
def classes_of(sequence: str) -> str:
    """The CSS classes of a look, given as `Pen.sequence` returns it."""
    pen = Pen()
    if sequence:
        pen.apply(sequence[2:-1])
    return pen.classes()


@dataclass
class Line:
    """One line being written, in spans of one look each."""

    number: int
    stream: str
    seconds: float
    spans: list[Span] = field(default_factory=list)

    @property
    def width(self) -> int:
        return sum(len(text) for _, text in self.spans)

    def write(self, column: Optional[int], look: str, text: str) -> None:
        """Write over what stands at a column, or at the end for None."""
        if column is not None and len(self.spans) > _MOST_SPANS:
            self.spans.clear()
        if column is None:
            self.spans.append((look, text))
            return
        before, rest = _split(self.spans, column)
        gap = column - sum(len(part) for _, part in before)
        if gap > 0:
            before.append(("", " " * gap))
        self.spans = [*before, (look, text), *_split(rest, len(text))[1]]

    def erase(self, column: Optional[int], kind: str) -> None:
        """Erase to the end of the line, for `1` from its beginning, for `2` all of it."""
        if kind == "1" and column is not None:
            self.spans = [("", " " * (column + 1)), *_split(self.spans, column + 1)[1]]
        elif kind in ("1", "2"):
            self.spans = []
        elif column is not None:
            self.spans = _split(self.spans, column)[0]


def _split(spans: list[Span], column: int) -> tuple[list[Span], list[Span]]:
    """The spans before and after a column."""
    for index, (look, text) in enumerate(spans):
        if column < len(text):
            before = [(look, text[:column])] if column else []
            return [*spans[:index], *before], [(look, text[column:]), *spans[index + 1 :]]
        column -= len(text)
    return list(spans), []


class _Stream:
    """A stream as a terminal shows it: its pen, its last lines, and the cursor among them.

    At row `len(rows)` the next line begins; a `column` of None is the end of the row. `begun` says
    whether the line of output that is being read has its number already.
    """

    def __init__(self, continued: Optional[int] = None) -> None:
        self.pen = Pen()
        self.look = ""
        self.rows: list[Line] = []
        self.row = 0
        self.column: Optional[int] = None
        self.begun = False
        self.continued = continued  # the number of the line that its first text goes on with
        self.carry = ""

    @property
    def line(self) -> Optional[Line]:
        return self.rows[self.row] if self.row < len(self.rows) else None

    def go_to(self, row: int, column: Optional[int]) -> None:
        """Move the cursor; above what is known are lines that no page shows."""
        missing = min(max(0, -row), _MOST_ROWS)
        self.rows[:0] = [Line(0, "", 0.0) for _ in range(missing)]
        self.row = min(max(0, row), len(self.rows))
        self.column = column

    def place(self) -> int:
        """The column of the cursor as a number."""
        if self.column is None:
            return self.line.width if self.line else 0
        return self.column

    def forget(self) -> None:
        """Let go of lines that the cursor will not reach any more."""
        if len(self.rows) > 2 * _MOST_ROWS:
            del self.rows[:_MOST_ROWS]
            self.row -= _MOST_ROWS


class Log:
    """Output turned into lines. A line stands where its first character arrived."""

    def __init__(self, first_line: int = 1, continued: Mapping[str, int] = NO_LINES) -> None:
        """`first_line` is the number of the first line that begins here; `continued` has those,
        by stream, that began before, and whose end may come here."""
        self.lines: list[Line] = []
        self.next = first_line
        self._streams = {name: _Stream(continued.get(name)) for name in ("stdout", "stderr")}

    def write(self, piece: OutputPiece) -> None:
        """Add a piece; a sequence or a line may go on in a later one."""
        stream = self._streams["stderr" if piece.stream == "stderr" else "stdout"]
        text = stream.carry + piece.text
        unfinished = _UNFINISHED.search(text)
        stream.carry = unfinished.group() if unfinished else ""
        if len(stream.carry) > _LONGEST_SEQUENCE:
            stream.carry = ""
        self._feed(stream, piece, text[: len(text) - len(stream.carry)])

    def _feed(self, stream: _Stream, piece: OutputPiece, text: str) -> None:
        for match in _TOKEN.finditer(text):
            parameters, final, end, plain = match.groups()
            if plain:
                self._begin(stream, piece).write(stream.column, stream.look, plain)
                if stream.column is not None:
                    stream.column += len(plain)
            elif end == "\x08":
                stream.column = max(0, stream.place() - 1)
            elif end == "\r":
                stream.column = 0
            elif end:
                self._end_line(stream, piece)
            elif final == "m":
                stream.pen.apply(parameters)
                stream.look = stream.pen.sequence()
            elif final:
                if stream.continued is not None and final in "ABEF":
                    self._begin(stream, piece)  # the line that the cursor leaves
                _move(stream, parameters, final)

    def _end_line(self, stream: _Stream, piece: OutputPiece) -> None:
        self._begin(stream, piece)
        stream.go_to(stream.row + 1, 0)
        if stream.line is None:
            stream.column = None
        stream.begun = False
        stream.forget()

    def _begin(self, stream: _Stream, piece: OutputPiece) -> Line:
        """The line at the cursor. Each line of output takes a number, also one that is written
        over others: so a line has the same number on every page."""
        if stream.line is None:
            name = "stderr" if piece.stream == "stderr" else "stdout"
            number, stream.continued = stream.continued or self.next, None
            stream.rows.append(Line(number, name, piece.seconds))
            self._place(stream.rows[-1])
        elif not stream.begun:
            self.next += 1
        stream.begun = True
        return stream.rows[stream.row]

    def _place(self, line: Line) -> None:
        if line.number == self.next:
            self.next += 1
            self.lines.append(line)
            return
        before = sum(other.number < line.number for other in self.lines[: len(self._streams)])
        self.lines.insert(before, line)

    def open(self) -> dict[str, dict[str, object]]:
        """For each stream that can go on: the number of its last line if that is open, or null,
        whether the line of output has its number, and the text that leads to the cursor."""
        return {name: _state(stream) for name, stream in self._streams.items()}


def _move(stream: _Stream, parameters: str, final: str) -> None:
    """Do what a control sequence says of the cursor, or to what stands there."""
    count = max(1, int(parameters)) if parameters.isdigit() and len(parameters) < 6 else 1
    column = stream.place()
    if final in "AF":
        stream.go_to(stream.row - min(count, _MOST_ROWS), 0 if final == "F" else column)
    elif final in "BE":
        stream.go_to(stream.row + count, 0 if final == "E" else column)
    elif final == "C":
        stream.column = min(column + count, column + _MOST_COLUMNS)
    elif final == "D":
        stream.column = max(0, column - count)
    elif final == "G":
        stream.column = min(count - 1, _MOST_COLUMNS)
    elif final == "K" and stream.line:
        stream.line.erase(stream.column, parameters)
    elif final == "J" and parameters in ("", "0") and stream.line:
        stream.line.erase(stream.column, parameters)
        for below in stream.rows[stream.row + 1 :]:
            below.spans = []


def _state(stream: _Stream) -> dict[str, object]:
    below, text, line = len(stream.rows) - stream.row, "", stream.continued
    if below:
        last = stream.rows[-1]
        line = last.number
        text = "".join(f"\x1b[m{look}{part}" for look, part in last.spans) + "\x1b[m"
        if below > 1:
            text += f"\x1b[{below - 1}A"
    if below > 1 or stream.column is not None:
        text += f"\x1b[{stream.place() + 1}G"
    return {"line": line, "begun": stream.begun, "text": text + stream.look + stream.carry}
