"""The output on a build's page, with what stands around it."""

from __future__ import annotations

import json
import urllib.parse
from typing import Optional

from minici.ui.ansi import Log
from minici.ui.components import FINAL, status_of
from minici.ui.i18n import Translator
from minici.ui.log_html import render
from minici.ui.markup import NOTHING, Html, fill, join, markup
from minici.ui.models import BuildJson, BuildView, FoundLine
from minici.ui.reasons import is_exit, reason_of, reason_text
from minici.ui.summary import ending_text, signal_name


def output_section(translate: Translator, view: BuildView, status: str) -> Html:
    if status == "damaged" and not view.output:
        return NOTHING
    log = Log(view.first_line, view.continued)
    for piece in view.output:
        log.write(piece)
    stdout, stderr, dropped = kept_of(view)
    return fill(
        "output",
        translate,
        title=_output_title(translate, view),
        size=translate.size(stdout + stderr),
        base=_base(view),
        damage=_damage(translate, view),
        id=view.build.get("id"),
        query=f"?attempt={view.shown_attempt}" if view.shown_attempt else "",
        state=_state(view),
        to_end=_to_end(translate, view) if stdout + stderr else NOTHING,
        failure=_first_failure(translate, view),
        attempt=_attempt_field(view),
        find=view.find,
        found=_found(translate, view),
        dropped=_dropped(translate, dropped),
        earlier=_earlier(translate, view),
        later=_later(translate, view),
        next=log.next,
        open=json.dumps(log.open()),
        lines=render(log, translate("line", n="{n}")),
        foot=_foot(translate, view, status),
    )


def _base(view: BuildView) -> str:
    return f"/build/{view.build.get('id')}"


def _state(view: BuildView) -> Html:
    """The attributes that the script reads: where live output is, that this is a part, that there
    is nothing to search, and that the checkout's log says all."""
    status, empty = status_of(view.build), not sum(kept_of(view)[:2])
    final = status in FINAL
    bare = markup(" data-bare") if empty and status != "running" else NOTHING
    unneeded = final and view.checkout and not command_has_begun(view)
    hidden = markup(" hidden") if unneeded else NOTHING
    live = markup(' data-live="$url"', url=view.live) if view.live else NOTHING
    partial = markup(" data-partial") if view.earlier or view.later else NOTHING
    return join((live, partial, bare, hidden, _failures(view)))


def _failures(view: BuildView) -> Html:
    if view.failures is None:
        return NOTHING
    return markup(' data-failures="$lines"', lines=" ".join(map(str, view.failures)))


def _first_failure(translate: Translator, view: BuildView) -> Html:
    """A link to the first line that looks like the failure; the script makes more of it."""
    if not view.failures:
        return NOTHING
    first = view.failures[0]
    return markup(
        '<a class="first-failure" href="$url#L$line">$text</a>',
        url=address_of(view, line=first) if view.earlier or view.later else "",
        line=first,
        text=translate("first_failure", line=first),
    )


def _is_other_attempt(view: BuildView) -> bool:
    """Return True if the shown output is not that of the current attempt."""
    return view.shown_attempt not in (None, view.build.get("attempt"))


def _output_title(translate: Translator, view: BuildView) -> str:
    if _is_other_attempt(view):
        return translate("output_of_attempt", attempt=view.shown_attempt)
    return translate("output")


def kept_of(view: BuildView) -> tuple[int, int, int]:
    """The size of the shown output in bytes: of stdout, of stderr and dropped."""
    names = ("stdout_bytes", "stderr_bytes", "dropped_bytes")
    stdout, stderr, dropped = (int(view.build.get(name) or 0) for name in names)
    return view.kept or (stdout, stderr, dropped)


def command_has_begun(view: BuildView) -> bool:
    """Return True once the command has written a byte, or the build has ended with its result."""
    stdout, stderr, _ = kept_of(view)
    if stdout + stderr or view.shown_attempt not in (None, view.build.get("attempt")):
        return True
    status = status_of(view.build)
    if status not in FINAL:
        return False
    ran = view.build.get("exit_status") is not None and is_exit(reason_of(view.build))
    return status == "success" or ran


def _to_end(translate: Translator, view: BuildView) -> Html:
    """To the end of the output: of what the page shows or, where that ends before, of all of it."""
    return markup(
        '<a class="to-end" href="$url#log-end">$text <span aria-hidden="true">↓</span></a>',
        url=address_of(view) if view.later else "",
        text=translate("to_end"),
    )


def address_of(view: BuildView, file: str = "", **places: object) -> str:
    """The address of the page with this output, of a part of it, or of one of its files."""
    values = {"attempt": view.shown_attempt, **places}
    query = urllib.parse.urlencode({k: v for k, v in values.items() if v not in (None, "")})
    path = _base(view) + file
    return f"{path}?{query}" if query else path


def _attempt_field(view: BuildView) -> Html:
    if not view.shown_attempt:
        return NOTHING
    return markup('<input type="hidden" name="attempt" value="$n">', n=view.shown_attempt)


def _found(translate: Translator, view: BuildView) -> Html:
    """The lines that hold the searched text, for a browser without JavaScript."""
    if not view.find:
        return NOTHING
    head = translate("found", n=len(view.found)) if view.found else translate("found_nothing")
    lines = join(_found_line(view, line) for line in view.found)
    return markup(
        '<noscript><div class="found" id="found"><p>$head</p><ol>$lines</ol></div></noscript>',
        head=head,
        lines=lines,
    )


def _found_line(view: BuildView, line: FoundLine) -> Html:
    return markup(
        '<li><a href="$url#L$n">$n</a> <code>$text</code></li>\n',
        url=address_of(view, line=line.number, find=view.find),
        n=line.number,
        text=line.text,
    )


def _dropped(translate: Translator, count: int) -> Html:
    if not count:
        return NOTHING
    return markup('<p class="dropped">$text</p>', text=translate("dropped_note", n=count))


def _damage(translate: Translator, view: BuildView) -> Html:
    if not view.damage:
        return NOTHING
    text = translate("output_damaged", reason=reason_text(translate, view.damage))
    return markup('<p class="damage" role="alert">$text</p>', text=text)


def _earlier(translate: Translator, view: BuildView) -> Html:
    if not view.earlier:
        return NOTHING
    return markup(
        '<p class="part"><a rel="nofollow" id="earlier" href="$url">$text</a> '
        '<a class="part-far" href="$first">$far</a></p>',
        url=view.earlier,
        text=translate("output_earlier"),
        first=address_of(view, at="0"),
        far=translate("output_first"),
    )


def _later(translate: Translator, view: BuildView) -> Html:
    if not view.later:
        return NOTHING
    return markup(
        '<p class="part"><a rel="nofollow" id="later" href="$url">$text</a> '
        '<a class="part-far" href="$last#log-end">$far</a></p>',
        url=view.later,
        text=translate("output_later"),
        last=address_of(view),
        far=translate("output_last"),
    )


# Below the last line


def _foot(translate: Translator, view: BuildView, status: str) -> Html:
    stdout, stderr, _ = kept_of(view)
    parts: list[Html] = []
    if not stdout + stderr:
        text = translate(_why_empty(view, status))
        parts.append(markup('<p class="log-empty">$text</p>', text=text))
    if not view.later:
        parts.append(_end(translate, view, status))
    if stderr:
        parts.append(markup('<p class="log-note">$text</p>', text=translate("stderr_mark")))
    return join(parts)


def _why_empty(view: BuildView, status: str) -> str:
    if _is_other_attempt(view):
        return "no_output_ended"
    if status in ("queued", "running"):
        return "no_output_queued" if status == "queued" else "no_output_yet"
    ran = view.build.get("exit_status") is not None and is_exit(reason_of(view.build))
    return "no_output" if ran else "no_output_ended"


def _end(translate: Translator, view: BuildView, status: str) -> Html:
    """The last line of an output: how the command ended, or what ended the attempt."""
    text, kind = None, "bad"
    if _is_other_attempt(view):
        text = _end_of_attempt(translate, view)
    elif status in FINAL:
        text, kind = _end_of_build(translate, view), "ok" if status == "success" else "bad"
    if text is None:
        return NOTHING
    return markup('<p class="log-end log-end-$kind">$text</p>', kind=kind, text=text)


def _end_of_build(translate: Translator, view: BuildView) -> Optional[str]:
    """The exit status, unless the verdict says it."""
    exit_status = view.build.get("exit_status")
    told = view.build.get("status") == "failure" and is_exit(reason_of(view.build))
    if exit_status is None or told:
        return translate("log_end") if any(kept_of(view)) else None
    if exit_status < 0:
        return translate("log_end_signal", signal=signal_name(exit_status))
    return translate("log_end_exit", exit=exit_status)


def _end_of_attempt(translate: Translator, view: BuildView) -> Optional[str]:
    attempts: list[BuildJson] = view.build.get("attempts") or []
    shown = next((a for a in attempts if a.get("attempt") == view.shown_attempt), None)
    if shown is None or shown.get("ending") is None:
        return None
    return translate(
        "log_end_attempt", attempt=view.shown_attempt, ending=ending_text(translate, shown)
    )
