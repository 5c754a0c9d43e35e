"""Fingerprints of lines: equal where two lines differ only in what differs from run to run.

That is times, dates, durations and rates, percentages, hashes and other numbers of seven digits
and more, addresses of memory and of networks, ports, process ids, temporary folders and the
folders of an agent's slots. Other numbers count: "1 failed" is not "2 failed". Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_MOST_SHAPES = 20_000  # that are remembered, of lines with digits

# The shape of a text: each digit as 0. Of two lines of one shape the same digits are by chance.
_SHAPE = bytes.maketrans(b"0123456789", b"0" * 10)

# A block as its characters' kinds, for a quick search: x hexadecimal, w in a word, - itself.
_KINDS = bytes(
    ord("x")
    if chr(code) in "0123456789abcdefABCDEF"
    else ord("w")
    if chr(code).isalnum() and code < 128 or code == ord("_")
    else ord("-")
    if code == ord("-")
    else ord(" ")
    for code in range(256)
)
_HASH = re.compile(rb"xxxxxxx(?<![xw]xxxxxxx)x*(?:-xxxx-xxxx-xxxx-xxxxxxxxxxxx)?(?![xw])")
_POINTER = re.compile(rb"0x[0-9a-fA-F]+")

_UNIT = (
    rb"(?:%|(?:[mnu]|\xc2\xb5|\xce\xbc)?s\b|sec(?:ond)?s?\b|m(?:in(?:ute)?s?)?\b|h(?:(?:ou)?rs?)?\b"
    rb"|d(?:ays?)?\b|it/s\b|[KMGTkmgt]?i?[Bb]/s\b)"
)
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_ZONE = rb"(?:Z\b|[ ]?[+-]00:?00\b|[ ](?:UTC|GMT|[A-Z]{3,4})\b)?"
_TIME = rb"00?:00(?::00)?(?:[.,]0+)?(?:[ ]?[AP]M\b)?"
# For shapes, where every digit is a 0; what was a hash is a # already.
_CHANCE = re.compile(
    rb"\[minici: 0+ bytes dropped\]"
    rb"|/(?:private/)?(?:var/)?tmp/(?:pytest-of-[\w.-]+/pytest-0+|[^\s/:;,'\"()\[\]<>]+)"
    rb"|/var/folders/[^/\s]+/[^/\s]+/T(?:/[^\s/:;,'\"()\[\]<>]+)?"
    rb"|/[^\s:;,'\"()\[\]<>]*/(?:workspaces|artifacts)/0+(?=[^0-9\w]|$)"
    rb"|(?:\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?[ ]+)?"
    rb"(?:(?<![\w.:])0000-00-00(?:[T ]" + _TIME + _ZONE + rb")?"
    rb"|\b" + _MONTH + rb"[a-z]*\.?[ ]+00?(?:,?[ ]+" + _TIME + _ZONE + rb")?(?:,?[ ]+0000\b)?"
    rb"|(?<![\w.:/])00?[ /]" + _MONTH + rb"[a-z]*[ /]0000(?:[: ]" + _TIME + _ZONE + rb")?)"
    rb"|(?<![\w.])#[T_-]0000(?:00)?Z?\b|\b00000000[T_-]0000(?:00)?Z?\b"
    rb"|(?<![\w.:/])00?/00?/00(?:00)?\b"
    rb"|(?<![\w.:])" + _TIME + _ZONE + rb"(?![\w:])"
    rb"|\b0{1,3}(?:\.0{1,3}){3}(?::0{1,5})?\b"
    rb"|\b0[xX][0-9a-fA-F]+\b"
    rb"|(?<![\w.])0+(?:[.,]0+)?[ ]?" + _UNIT + rb"(?:[ ]?0+(?:[.,]0+)?[ ]?" + _UNIT + rb")*"
    rb"|\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"
    rb"|(?<=\[)[0-9a-fA-F]{2,4}(?::[0-9a-fA-F]{0,4}){2,7}(?=[\]%])"
    rb"|\b[0-9a-fA-F]{3,4}(?::[0-9a-fA-F]{0,4}){2,7}(?!\w)"
    rb"|(?<=\[)[ ]*0+\.0+(?=\])"
    rb"|(?<=[A-Za-z]\[)0+(?=\]:)|(?<![\w\])])\[0{3,6}\]"
    rb"|\b(?i:p?pid|tid|process|port|listening[ ]on)(?:[ ]id)?[ ]?[=:#]?[ ]?0+\b"
    rb"|(?<=localhost:)0+\b|(?<=\]:)0{2,5}\b|(?<=://)([\w.-]+):0{2,5}\b|(?<=[a-z]:)0{5}\b"
)
_DIGITS = re.compile(rb"0+")
_FOLDERS = (b"/tmp/", b"/T/")  # whose names can be by chance without a digit

Spans = Sequence[tuple[int, int]]


class Fingerprints:
    """Takes the fingerprints of lines. Those of one process can be compared. For one thread."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, tuple[int, Spans]] = {}

    def of(self, block: bytes) -> list[int]:
        """The fingerprints of the lines of a block, which does not end with a line feed."""
        block = _without_hashes(block)
        folders = any(each in block for each in _FOLDERS)
        found, known = [], self._shapes
        for line, shape in zip(block.split(b"\n"), block.translate(_SHAPE).split(b"\n")):
            if b"0" not in shape and not folders:
                found.append(hash(shape))
                continue
            kept = known.get(shape)
            base, spans = kept if kept is not None else self._learn(shape)
            if spans:
                base = hash((base, *[line[start:end] for start, end in spans]))
            found.append(base)
        return found

    def _learn(self, shape: bytes) -> tuple[int, Spans]:
        """Find the digits of a shape that count, and what its lines have in common."""
        parts, spans, place = [], [], 0
        for match in [*_CHANCE.finditer(shape), None]:
            end = match.start() if match else len(shape)
            spans += [each.span() for each in _DIGITS.finditer(shape, place, end)]
            parts.append(_DIGITS.sub(b"0", shape[place:end]))
            place = match.end() if match else end
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        self._shapes[shape] = kept = (hash(b"#".join(parts)), tuple(spans))
        return kept


def _without_hashes(block: bytes) -> bytes:
    """The block with # for each hash, UUID and address of memory."""
    if b"0x" in block:
        block = _POINTER.sub(b"#", block)
    parts, place = [], 0
    for match in _HASH.finditer(block.translate(_KINDS)):
        parts.append(block[place : match.start()])
        place = match.end()
    return b"#".join((*parts, block[place:])) if parts else block
