"""Lines of output as HTML, with their numbers, times and links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from minici.ui.ansi import Line, Log, Span, classes_of
from minici.ui.markup import Html, escape, join, markup

_URL = re.compile(r"https?://[^\s<>\"'`\x00-\x1f\x7f-\x9f\u200b-\u206f\ufeff]+")
_TRAILING = ".,;:!?)]}"


def render(log: Log, numbered: str) -> Html:
    """The lines as HTML; `numbered` is the text that names a line, with `{n}` in it."""
    return join(_line_html(line, numbered) for line in log.lines)


def render_unnumbered(log: Log) -> Html:
    """The lines as HTML without numbers, times and links to themselves."""
    return join(
        markup(
            '<div class="line" id="C$n"><span class="text">$text</span></div>\n',
            n=line.number,
            text=join(_span(classes, text) for classes, text in _merged(line.spans)),
        )
        for line in log.lines
    )


def _line_html(line: Line, numbered: str) -> Html:
    return markup(
        '<div class="line $stream" id="L$n"><a class="n" href="#L$n" title="$name">$n</a>'
        '<span class="at">$at</span><span class="text">$text</span></div>\n',
        stream=line.stream,
        n=line.number,
        name=numbered.format(n=line.number),
        at=format_offset(line.seconds),
        text=join(_span(classes, text) for classes, text in _merged(line.spans)),
    )


def _merged(spans: Sequence[Span]) -> Iterator[tuple[str, str]]:
    """Neighbours of the same look as one, so that an address in two pieces is one link."""
    look, texts = "", [""]
    for sequence, text in spans:
        classes = classes_of(sequence)
        if classes != look:
            yield look, "".join(texts)
            look, texts = classes, []
        texts.append(text)
    yield look, "".join(texts)


def _span(classes: str, text: str) -> Html:
    linked = join(_linked(text)) if "://" in text else escape(text)
    if not classes or not text:
        return linked
    return markup('<span class="$classes">$text</span>', classes=classes, text=linked)


def _linked(text: str) -> Iterable[Html]:
    place = 0
    for match in _URL.finditer(text):
        url = match.group().rstrip(_TRAILING)
        yield escape(text[place : match.start()])
        yield markup('<a href="$url" rel="noreferrer nofollow noopener">$url</a>', url=url)
        place = match.start() + len(url)
    yield escape(text[place:])


def format_offset(seconds: float) -> str:
    """Seconds since the start, as a log has them: "4.2", "1:04.2", "1:00:04.2"."""
    tenths = int(max(0.0, seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    if not minutes:
        return f"{rest // 10}.{rest % 10}"
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
