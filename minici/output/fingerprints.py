"""Fingerprints of lines: equal where two lines differ only in what differs from run to run.

That is times, dates, durations and rates, percentages, hashes and other numbers of seven digits
and more, addresses of memory and of networks, ports, process ids, temporary folders and the
folders of an agent's slots. Other numbers count: "1 failed" is not "2 failed". Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Callable

_MOST_SHAPES = 10_000  # that are remembered

_Parts = Callable[[bytes], Any]  # takes from a line what counts
_WHOLE: _Parts = itemgetter(slice(None))

# The shape of a text: each digit as 0. Of two lines of one shape the same places are by chance.
_SHAPE = bytes.maketrans(b"0123456789", b"0" * 10)

# A block as its characters' kinds, for a quick search: x hexadecimal, w in a word, - and : as is.
_KINDS = bytes(
    ord("x")
    if chr(code) in "0123456789abcdefABCDEF"
    else ord("w")
    if chr(code).isalnum() and code < 128 or code == ord("_")
    else code
    if chr(code) in "-:"
    else ord(" ")
    for code in range(256)
)
_HASH = re.compile(rb"xxxxxxx(?<![xw]xxxxxxx)x*(?:-xxxx-xxxx-xxxx-xxxxxxxxxxxx)?(?![xw])")
_GROUPS = rb"(?::x{1,4})"
_ADDRESS = re.compile(
    rb"xx(?<![xw:]xx)(?:(?::xx){5}"  # of a network card
    rb"|x{0,2}(?:" + _GROUPS + rb"{7}|" + _GROUPS + rb"{0,6}::(?:x{1,4}" + _GROUPS + rb"{0,6})?)"
    rb")(?![xw:])"
)
_POINTER = re.compile(rb"0x[0-9a-fA-F]+")


def _begun(words: str) -> bytes:
    """A pattern for words of which the first letter has been read."""
    each = (word.encode() for word in words.split())
    return b"(?:" + b"|".join(b"(?<=%s)%s" % (word[:1], word[1:]) for word in each) + b")"


def _after(words: str, separators: Sequence[str]) -> bytes:
    """A pattern for the first digit after one of some words, in whichever case."""
    groups = []
    for separator in (each.encode() for each in separators):
        before = (word.encode() + separator for word in words.split(","))
        each = b"|".join(rb"(?<=%s0)(?<!\w%s0)" % (text, text) for text in before)
        groups.append(b"(?<=%s0)(?:%s)" % (separator, each))
    return b"(?i:" + b"|".join(groups) + b")"


_PROCESS = _after(
    "pid,ppid,tid,process,port,listening on", ("", *" =:#", ": ", "= ", " = ", " id ")
)
_DAY = _begun("Mon Tue Wed Thu Fri Sat Sun") + rb"[a-z]*,?[ ]+"
_BEGUN_MONTH = _begun("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = (
    rb"00?:00(?::00)?(?:[.,]0+)?(?:[ ]?[AP]M\b)?"
    rb"(?:Z\b|[ ]?[+-]00:?00\b|[ ](?:UTC|GMT|[A-Z]{3,4})\b)?"
)
_OF_MONTH = rb"[a-z]*\.?[ ]+00?(?:,?[ ]+" + _TIME + rb")?(?:,?[ ]+0000\b)?"
_ISO_DATE = rb"0000-00-00(?:[T ]" + _TIME + rb")?"
_DAY_MONTH = rb"00?[ /]" + _MONTH + rb"[a-z]*[ /]0000(?:[: ]" + _TIME + rb")?"
_DURATION = (
    rb"0+(?:[.,]0+)?[ ]?"
    rb"(?:%|(?:[mnu]|\xc2\xb5|\xce\xbc)?s\b|sec(?:ond)?s?\b|m(?:in(?:ute)?s?)?\b|h(?:(?:ou)?rs?)?\b"
    rb"|d(?:ays?)?\b|it/s\b|[KMGTkmgt]?i?[Bb]/s\b)"
)
_NAME = rb"[^\s/:;,'\"()\[\]<>]+"
_FOLDER = (
    rb"(?:private/)?(?:var/)?tmp/(?:pytest-of-[\w.-]+/pytest-0+|" + _NAME + rb")"
    rb"|var/folders/[^/\s]+/[^/\s]+/T(?:/" + _NAME + rb")?"
    rb"|(?<![\w.~/-]/)[^\s:;,'\"()\[\]<>]*/(?:workspaces|artifacts)/0+(?=[^0-9\w]|$)"
)
# What is by chance in a shape. It begins with a character that is quickly found; a word or a
# number is tried at its beginning alone.
_CHANCE = re.compile(
    rb"[0/\[:MTWFSJAOND](?<!00)(?:"
    rb"(?<=0)(?:(?<!\w0)(?:"
    rb"(?<![.:]0)(?:" + _ISO_DATE[1:] + rb"|" + _TIME[1:] + rb"(?![\w:]))"
    rb"|(?<![.:/]0)(?:" + _DAY_MONTH[1:] + rb"|0?/00?/00(?:00)?\b)"
    rb"|0000000[T_-]0000(?:00)?Z?\b"
    rb"|0{0,2}(?:\.0{1,3}){3}(?::0{1,5})?\b"
    rb"|(?<!\.0)" + rb"0*" + _DURATION[2:] + rb"(?:[ ]?" + _DURATION + rb")*"
    rb"|(?<=localhost:0)0*\b|(?<=\]:0)0{1,4}\b|(?<=[a-z]:0)0{4}\b"
    rb")|" + _PROCESS + rb"0*\b|(?<=#[T_-]0)000(?:00)?Z?\b)"
    rb"|(?<=\[)(?:[ ]*0+\.0+(?=\])|(?<=[A-Za-z]\[)0+(?=\]:)|(?<![\w\])]\[)0{3,6}\]"
    rb"|minici:[ ]0+[ ]bytes[ ]dropped\])"
    rb"|(?<=/)(?:" + _FOLDER + rb")"
    rb"|(?<=:)//[\w.-]{1,255}:0{2,5}\b"
    rb"|(?<=[A-Za-z])(?<!\w.)(?:"
    + (_DAY + rb"(?:" + _ISO_DATE + rb"|" + _MONTH + _OF_MONTH + rb"|" + _DAY_MONTH + rb")")
    + (rb"|" + _BEGUN_MONTH + _OF_MONTH)
    + rb"))"
)


class Fingerprints:
    """Takes the fingerprints of lines. Those of one process can be compared. For one thread."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, _Parts] = {}

    def of(self, block: bytes) -> list[int]:
        """The fingerprints of the lines of a block, which does not end with a line feed."""
        block = _without_hashes(block)
        lines, shapes = block.split(b"\n"), block.translate(_SHAPE).split(b"\n")
        known, learn = self._shapes.get, self._learn
        return [hash((known(shape) or learn(shape))(line)) for line, shape in zip(lines, shapes)]

    def _learn(self, shape: bytes) -> _Parts:
        """Find what counts of the lines of a shape."""
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        self._shapes[shape] = parts = _parts(shape)
        return parts


def _parts(shape: bytes) -> _Parts:
    """The parts of a line of this shape that are not by chance."""
    if b"0" not in shape and b"/tmp/" not in shape and b"/T/" not in shape:
        return _WHOLE
    spans = _addresses(shape)
    for start, end in spans:
        shape = shape[:start] + b"#" * (end - start) + shape[end:]
    spans += [match.span() for match in _CHANCE.finditer(shape)]
    if not spans:
        return _WHOLE
    places = [place for span in sorted(spans) for place in span]
    pairs = zip([0, *places[1::2]], [*places[::2], None])
    return itemgetter(*(slice(*pair) for pair in pairs))


def _addresses(shape: bytes) -> list[tuple[int, int]]:
    kinds = shape.translate(_KINDS)
    if b"::" in kinds or b":xx:xx:xx:" in kinds or b":xxxx:x" in kinds:
        return [match.span() for match in _ADDRESS.finditer(kinds)]
    return []


def _without_hashes(block: bytes) -> bytes:
    """The block with # for each hash, UUID and address of memory."""
    if b"0x" in block:
        block = _POINTER.sub(b"#", block)
    parts, place = [], 0
    for match in _HASH.finditer(block.translate(_KINDS)):
        parts.append(block[place : match.start()])
        place = match.end()
    return b"#".join((*parts, block[place:])) if parts else block
