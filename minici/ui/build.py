"""The page of one build: its verdict, everything about it, and its output."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Optional

from minici.timestamps import parse_time
from minici.ui.components import (
    FINAL,
    badge,
    frame,
    lasted,
    moment,
    panel,
    seconds_of,
    shell,
    short_commit,
    sign,
    status_of,
    status_word,
)
from minici.ui.i18n import Words
from minici.ui.markup import NOTHING, Html, escape, fill, join, markup, phrase
from minici.ui.models import BuildJson, BuildView
from minici.ui.output import output_section
from minici.ui.reasons import is_exit, said
from minici.ui.summary import ending_text, signal_name, verdict_html, verdict_sentence


def build_page(language: str, view: BuildView) -> Html:
    """The page `/build/ID`."""
    words, build = Words(language), view.build
    status = status_of(build)
    final = status in FINAL or status == "damaged"
    verdict = verdict_sentence(words, view)
    subject = build.get("subject") or ""
    content = fill(
        "build",
        words,
        id=build.get("id"),
        status=status,
        state=f"{words('build_number', id=build.get('id'))}: {status_word(words, status)}",
        attempt=build.get("attempt") or 0,
        shape=_shape(build),
        final=markup(" data-final") if final else "",
        previous=_step(words, view.previous, "prev", "previous_build", "← "),
        next=_step(words, view.next, "next", "next_build", ""),
        sign=sign(status, 40),
        verdict=verdict_html(words, view),
        short=short_commit(build),
        subject=subject,
        author=_author(build),
        origin=_origin(words, build),
        actions=_actions(words, build, status),
        notes=_notes(words, view, status),
        command=_command(words, build),
        facts=fill("facts", words, facts=_facts(words, view)),
        attempts=_attempts(words, view),
        output=output_section(words, view, status),
        repeat=_repeat(words, build),
    )
    title = f"{build.get('id')} {verdict}"
    return frame(words, "build", title, content, view.site, not final, f"icon-{status}")


def _shape(build: BuildJson) -> str:
    """What static/build.js compares to see whether the record has changed since this page."""
    keys = ("status", "attempt", "cancel_requested", "agent", "revision")
    values = [build.get(key) for key in keys]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _step(words: Words, number: Optional[int], rel: str, key: str, arrow: str) -> Html:
    if number is None:
        return NOTHING
    text = f"{arrow}{number}" if arrow else f"{number} →"
    return markup(
        '<a rel="$rel" href="/build/$number" title="$title" aria-label="$title $number">$text</a>',
        rel=rel,
        number=number,
        title=words(key),
        text=text,
    )


# Around the verdict


def _author(build: BuildJson) -> Html:
    if not build.get("author"):
        return NOTHING
    return markup(' <span class="author">$author</span>', author=build["author"])


def _origin(words: Words, build: BuildJson) -> Html:
    """Whose build it is, and what it repeats: said at the top, where there is something to say."""
    parts = []
    if build.get("rebuild_of"):
        parts.append(phrase(words, "origin_repeat", link=_build_link(build["rebuild_of"])))
    if build.get("started_by"):
        parts.append(phrase(words, "origin_person", name=_person(build["started_by"])))
    if not parts:
        return NOTHING
    return markup('<p class="origin">$parts</p>', parts=join(parts, " · "))


def _person(name: object) -> Html:
    return markup('<span class="author">$name</span>', name=name)


def _actions(words: Words, build: BuildJson, status: str) -> Html:
    if status == "damaged":
        return NOTHING
    shown = []
    if build.get("cancel_requested") and status not in FINAL:
        shown.append(markup('<span class="pending">$text</span>', text=words("cancelling")))
    elif status not in FINAL:
        shown.append(_button(build, "cancel", words("cancel")))
    shown.append(_button(build, "rebuild", words("rebuild")))
    return join(shown)


def _button(build: BuildJson, verb: str, text: str) -> Html:
    return markup(
        '<form method="post" action="/build/$id/$verb"><button type="submit" '
        'class="$verb">$text</button></form>',
        id=build.get("id"),
        verb=verb,
        text=text,
    )


def _notes(words: Words, view: BuildView, status: str) -> Html:
    if status == "damaged":
        text = words("damaged_text", reason=said(words, str(view.build.get("damaged") or "")))
        advice = words("damaged_advice", id=view.build.get("id"))
        return panel(words, text, advice, "", "panel-warn")
    if status == "queued" and view.waiting is not None:
        return _why_waits(words, view)
    reason = said(words, str(view.build.get("reason") or ""))
    if not _says_more(words, view, reason):
        return NOTHING
    return panel(words, words("reason"), reason, "", f"panel-reason panel-{status}")


def _says_more(words: Words, view: BuildView, reason: str) -> bool:
    """Whether the reason is more than what the verdict says already."""
    if is_exit(view.build.get("reason")) or status_of(view.build) == "cancelled":
        return False
    return reason.strip().rstrip(".") not in verdict_sentence(words, view)


def _why_waits(words: Words, view: BuildView) -> Html:
    waiting, title = view.waiting, words("why_waits")
    assert waiting is not None
    if not waiting.agents:
        command = view.site.start_agent_command
        return panel(words, title, words("waits_no_agent"), command, "panel-warn")
    if not waiting.full:
        return panel(words, title, words("waits_soon"))
    if waiting.position <= 1:
        return panel(words, title, words("waits_next"))
    return panel(words, title, words("waits_full", n=waiting.position - 1))


def _command(words: Words, build: BuildJson) -> Html:
    if not build.get("command"):
        return NOTHING
    return fill("command", words, command=build["command"])


# The facts


def _facts(words: Words, view: BuildView) -> Html:
    build = view.build
    facts = [
        _fact(words("status"), badge(words, status_of(build))),
        _fact(words("number"), build.get("id")),
        _fact(words("exit_status"), _exit_text(build)),
        _fact(words("duration"), _duration(words, view)),
        _fact(words("attempt"), build.get("attempt") or None),
        _fact(words("waited"), _waited(words, view)),
        _fact(words("agent"), build.get("agent"), "row-fact"),
        _fact(words("commit"), _code(build.get("commit")), "wide-fact"),
        _fact(words("revision"), _code(build.get("revision")), "wide-fact"),
        _fact(words("subject"), build.get("subject"), "wide-fact"),
        _fact(words("author"), build.get("author"), "wide-fact"),
        _fact(words("repository"), _code(build.get("repository")), "wide-fact"),
        _fact(words("queued_at"), _moment(words, build, "queued_at"), "row-fact"),
        _fact(words("started_at"), _moment(words, build, "started_at"), "row-fact"),
        _fact(words("finished_at"), _moment(words, build, "finished_at"), "row-fact"),
        _fact("stdout", _size(words, build, "stdout_bytes")),
        _fact("stderr", _size(words, build, "stderr_bytes")),
        _fact(words("dropped"), _size(words, build, "dropped_bytes", shown_from=1)),
        _fact(words("rebuild_of"), _build_link(build.get("rebuild_of")), "row-fact"),
        _fact(words("started_by"), build.get("started_by"), "row-fact"),
        _fact(words("cancelled_by"), build.get("cancelled_by"), "row-fact"),
    ]
    return join(facts)


def _fact(name: str, value: object, kind: str = "") -> Html:
    """One fact; nothing while it is not known."""
    if value is None or value == "":
        return NOTHING
    return markup(
        '<div class="fact $kind"><dt>$name</dt><dd>$value</dd></div>\n',
        kind=kind,
        name=name,
        value=value,
    )


def _moment(words: Words, build: BuildJson, key: str) -> Optional[Html]:
    return moment(words, build[key]) if build.get(key) else None


def _size(words: Words, build: BuildJson, key: str, shown_from: int = 0) -> Optional[str]:
    count = build.get(key)
    if count is None or status_of(build) not in FINAL or int(count) < shown_from:
        return None  # of one that runs, the head of the output says it as it grows
    return words.size(int(count))


def _code(value: object) -> Optional[Html]:
    return markup("<code>$value</code>", value=value) if value else None


def _build_link(number: object) -> Optional[Html]:
    return markup('<a href="/build/$n">$n</a>', n=number) if number else None


def _exit_text(build: BuildJson) -> Optional[str]:
    status = build.get("exit_status")
    if status is None:
        return None
    return f"{status} ({signal_name(status)})" if status < 0 else str(status)


def _duration(words: Words, view: BuildView) -> Optional[Html]:
    if seconds_of(view.build, view.site.now) is None:
        return None
    return lasted(words, view.build, view.site.now)


def _waited(words: Words, view: BuildView) -> Optional[str]:
    queued = parse_time(view.build.get("queued_at"))
    until = parse_time(view.build.get("started_at")) or parse_time(view.build.get("finished_at"))
    if queued is None:
        return None
    return words.duration(((until or view.site.now) - queued).total_seconds())


# The attempts


def _attempts(words: Words, view: BuildView) -> Html:
    attempts: Sequence[BuildJson] = view.build.get("attempts") or []
    if not attempts:
        return NOTHING
    return fill("attempts", words, rows=join(_attempt(words, view, one) for one in attempts))


def _attempt(words: Words, view: BuildView, attempt: BuildJson) -> Html:
    seconds = seconds_of(attempt, view.site.now)
    return fill(
        "attempt",
        words,
        attempt=attempt.get("attempt"),
        kind=attempt.get("ending") or "open",
        agent=_attempt_agent(attempt),
        started=moment(words, attempt.get("started_at")),
        finished=moment(words, attempt.get("finished_at")),
        duration="—" if seconds is None else lasted(words, attempt, view.site.now),
        ending=_ending(words, attempt),
        output=_attempt_output(words, view, attempt),
    )


def _attempt_agent(attempt: BuildJson) -> Html:
    name, address = attempt.get("agent") or "—", attempt.get("address")
    return markup('<span class="agent" title="$address">$name</span>', name=name, address=address)


def _ending(words: Words, attempt: BuildJson) -> Html:
    text = ending_text(words, attempt)
    if not attempt.get("reason"):
        return escape(text)
    reason = said(words, str(attempt["reason"]))
    return markup('$text<span class="ending-reason">$reason</span>', text=text, reason=reason)


def _attempt_output(words: Words, view: BuildView, attempt: BuildJson) -> Html:
    number = attempt.get("attempt")
    if number == (view.shown_attempt or view.build.get("attempt")):
        return markup('<a href="#output">$text</a>', text=words("shown_here"))
    return markup(
        '<a href="/build/$id?attempt=$n#output">$text</a>',
        id=view.build.get("id"),
        n=number,
        text=words("attempt_output"),
    )


# By hand


def _repeat(words: Words, build: BuildJson) -> Html:
    repository, commit = build.get("repository"), build.get("revision") or build.get("commit")
    if not repository or not commit or not build.get("command"):
        return NOTHING
    return markup(
        '<details class="repeat"><summary>$title</summary><p>$text</p>$lines</details>',
        title=words("repeat"),
        text=phrase(words, "repeat_text"),
        lines=shell(repeat_lines(build)),
    )


def repeat_lines(build: BuildJson) -> str:
    """The git and shell lines that do by hand what the agent did."""
    folder = f"build-{build.get('id')}"
    commit = shlex.quote(str(build.get("revision") or build.get("commit")))
    return "\n".join(
        (
            f"git clone --no-checkout -- {shlex.quote(str(build.get('repository')))} {folder}",
            f"cd {folder}",
            f"git checkout --detach {commit}",
            f"CI=true sh -c {shlex.quote(str(build.get('command')))} </dev/null",
        )
    )
