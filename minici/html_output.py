"""The output on a build's page, with what stands around it."""

from __future__ import annotations

import json
from typing import Optional

from minici.ansi import Log, render
from minici.markup import NOTHING, Html, fill, join, markup
from minici.texts import Words
from minici.verdict import signal_name
from minici.views import BuildJson, BuildView


def output_section(words: Words, view: BuildView, status: str) -> Html:
    if status == "damaged" and not view.output:
        return NOTHING
    log = Log(view.first_line)
    for piece in view.output:
        log.write(piece)
    base = f"/build/{view.build.get('id')}"
    live = markup(' data-live="$url"', url=view.live) if view.live else NOTHING
    return fill(
        "output",
        words,
        title=_output_title(words, view),
        size=words.size(_kept(view.build)),
        base=base,
        query=f"?attempt={view.shown_attempt}" if view.shown_attempt else "",
        live=live,
        to_end=_to_end(words, log),
        dropped=_dropped(words, view.build),
        earlier=_part_link(view.earlier, words("output_earlier")),
        later=_part_link(view.later, words("output_later")),
        first=view.first_line,
        open=json.dumps(log.open()),
        lines=render(log, words("line", n="{n}")),
        foot=_foot(words, view, log, status),
    )


def _output_title(words: Words, view: BuildView) -> str:
    if view.shown_attempt and view.shown_attempt != view.build.get("attempt"):
        return words("output_of_attempt", attempt=view.shown_attempt)
    return words("output")


def _to_end(words: Words, log: Log) -> Html:
    if not log.lines:
        return NOTHING
    return markup(
        '<a class="to-end" href="#log-end">$text <span aria-hidden="true">↓</span></a>',
        text=words("to_end"),
    )


def _kept(build: BuildJson) -> int:
    return int(build.get("stdout_bytes") or 0) + int(build.get("stderr_bytes") or 0)


def _dropped(words: Words, build: BuildJson) -> Html:
    count = int(build.get("dropped_bytes") or 0)
    if not count:
        return NOTHING
    return markup('<p class="dropped">$text</p>', text=words("dropped_note", n=count))


def _part_link(url: Optional[str], text: str) -> Html:
    if not url:
        return NOTHING
    return markup('<p class="part"><a href="$url">$text</a></p>', url=url, text=text)


def _foot(words: Words, view: BuildView, log: Log, status: str) -> Html:
    parts: list[Html] = []
    if not log.lines:
        key = {"queued": "no_output_queued", "running": "no_output_yet"}.get(status, "no_output")
        parts.append(markup('<p class="log-empty">$text</p>', text=words(key)))
    exit_status = view.build.get("exit_status")
    if exit_status is not None and not view.later:
        kind = "ok" if exit_status == 0 else "bad"
        text = words("log_end_exit", exit=exit_status)
        if exit_status < 0:
            text = words("log_end_signal", signal=signal_name(exit_status))
        parts.append(markup('<p class="log-end log-end-$kind">$text</p>', kind=kind, text=text))
    if any(line.stream == "stderr" for line in log.lines):
        parts.append(markup('<p class="log-note">$text</p>', text=words("stderr_mark")))
    return join(parts)
