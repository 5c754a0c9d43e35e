"""From what a command wrote to lines of HTML.

Colours and weights (SGR) become CSS classes, a carriage return starts its line again, as a
progress bar means it, addresses become links; every other control sequence is dropped, and
a control character on its own is shown as a mark. static/log.js does the same for live
output and follows this module.
"""

from __future__ import annotations

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
    r"|(\r*\n|\r)"  # 3 the end of a line, or its beginning again
    r"|([^\x1b\r\n]+|\x1b)"  # 4 text
)
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?|\r+)\Z")
_LONGEST_SEQUENCE = 4096

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


@dataclass
class Line:
    """One line being written: spans of one look each, and the raw text since its start."""

    number: int
    stream: str
    seconds: float
    spans: list[tuple[str, str]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    returned: bool = False

    def write(self, classes: str, text: str) -> None:
        """Add text; after a carriage return it takes the place of what was there."""
        if self.returned:
            self.spans.clear()
            self.returned = False
        self.spans.append((classes, text))


class _Stream:
    """The open end of a stream: its pen, its line, half a sequence."""

    def __init__(self, continued: Optional[int] = None) -> None:
        self.pen = Pen()
        self.line: Optional[Line] = None
        self.continued = continued  # the number of the line that its first text goes on with
        self.carry = ""


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
            if end or plain:
                self._write(self._line(stream, piece), stream, end, plain)
            elif final == "m":
                stream.pen.apply(parameters)
            if stream.line:
                stream.line.raw.append(match.group())

    @staticmethod
    def _write(line: Line, stream: _Stream, end: Optional[str], plain: str) -> None:
        if end and "\n" in end:
            stream.line = None
        elif end:
            line.returned = True
        else:
            line.write(stream.pen.classes(), plain)

    def _line(self, stream: _Stream, piece: OutputPiece) -> Line:
        if stream.line is None:
            name = "stderr" if piece.stream == "stderr" else "stdout"
            number, stream.continued = stream.continued or self.next, None
            stream.line = Line(number, name, piece.seconds, raw=[stream.pen.sequence()])
            self._place(stream.line)
        return stream.line

    def _place(self, line: Line) -> None:
        if line.number == self.next:
            self.next += 1
            self.lines.append(line)
            return
        before = sum(other.number < line.number for other in self.lines[: len(self._streams)])
        self.lines.insert(before, line)

    def open(self) -> dict[str, dict[str, object]]:
        """For each stream that can go on: its open line's number, or null, and raw text."""
        return {
            name: {
                "line": stream.line.number if stream.line else stream.continued,
                "text": ("".join(stream.line.raw) if stream.line else stream.pen.sequence())
                + stream.carry,
            }
            for name, stream in self._streams.items()
        }
