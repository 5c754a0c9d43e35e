"""The terminal: colours, times in the reader's zone, a line of progress, tables.

Where a stream is no terminal it gets no decoration, so that it can be piped.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from minici.timestamps import parse_time

_COLOURS = {
    "success": "32",
    "failure": "31",
    "lost": "35",
    "cancelled": "33",
    "running": "36",
    "queued": "2",
}
_SHORT_HASH = 10  # digits


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def coloured(stream: TextIO) -> bool:
    """Tell if a stream takes colours: a terminal, and neither NO_COLOR nor TERM=dumb is set."""
    dull = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return is_terminal(stream) and not dull


def status_text(stream: TextIO, status: str) -> str:
    """A status, in its colour where the stream takes colours."""
    text = plain(status)
    return f"\x1b[{_COLOURS.get(status, '0')}m{text}\x1b[0m" if coloured(stream) else text


def plain(value: object) -> str:
    """Text of others for one line of a terminal: what could steer the terminal is escaped."""
    text = str(value).replace("\n", "; ").replace("\t", " ")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def local_time(text: object) -> str:
    """A time of the API in the reader's zone; empty for none."""
    moment = parse_time(text)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def duration(start: object, end: object) -> str:
    """The time between two times of the API; empty unless there are both."""
    first, last = parse_time(start), parse_time(end)
    if not first or not last:
        return ""
    seconds = max(0.0, (last - first).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def short_commit(build: Any) -> str:
    """A commit for people: its revision, else what was typed, hashes cut short."""
    text = build.get("revision") or build.get("commit") or ""
    is_hash = len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text)
    return plain(text[:_SHORT_HASH] if is_hash else text)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns with heads on a terminal; fields between tabs elsewhere."""
    out = sys.stdout
    if not is_terminal(out):
        for row in rows:
            print("\t".join(row))
        return
    columns = shutil.get_terminal_size().columns
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    for row in (heads, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        line = "  ".join(cells).rstrip()
        if len(line) > columns:
            line = line[: columns - 1] + "…"
        if coloured(out):
            for status, colour in _COLOURS.items():
                if status in row:
                    line = line.replace(status, f"\x1b[{colour}m{status}\x1b[0m", 1)
        print(line)


class Progress:
    """Lines on stderr, and one that is written over on a terminal."""

    def __init__(self) -> None:
        self._shown = ""
        self.live = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"

    def show(self, text: str) -> None:
        """Show a line in place of the last one; nothing where stderr is no terminal."""
        if self.live and text != self._shown:
            cut = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{plain(text)[:cut]}")
            sys.stderr.flush()
            self._shown = text

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = ""

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        print(f"minici: {text}", file=sys.stderr, flush=True)
