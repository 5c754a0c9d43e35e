"""The page of one build: its verdict, everything about it, and its output."""

from __future__ import annotations

import json
import shlex
import signal
from typing import Callable, Dict, List, Optional, Sequence

from minici.ansi import Log, render
from minici.markup import NOTHING, Html, escape, fill, join, markup, phrase
from minici.parts import (
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
from minici.texts import Words, parse_time
from minici.views import BuildJson, BuildView

_ENDINGS = {
    None: "ending_open",
    "finished": "ending_finished",
    "refused": "ending_refused",
    "returned": "ending_returned",
    "silent": "ending_silent",
    "forgotten": "ending_forgotten",
    "overdue": "ending_overdue",
    "unanswered": "ending_unanswered",
    "superseded": "ending_superseded",
    "cancelled": "ending_cancelled",
}
_REASON_LENGTH = 140
_HEAD_LENGTH = 16
_UNCOUNTED = ("refused", "returned")


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
        verdict=_verdict_html(words, view),
        short=short_commit(build),
        subject=subject,
        author=_author(build),
        actions=_actions(words, build, status),
        notes=_notes(words, view, status),
        command=_command(words, build),
        facts=fill("facts", words, facts=_facts(words, view)),
        attempts=_attempts(words, view),
        output=_output(words, view, status),
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


# The verdict


def verdict_sentence(words: Words, view: BuildView) -> str:
    """What became of the build, or where it stands, in one sentence without a full stop."""
    makers: Dict[str, Callable[[Words, BuildView], str]] = {
        "queued": _verdict_queued,
        "running": _verdict_running,
        "success": _verdict_success,
        "failure": _verdict_failure,
        "lost": _verdict_lost,
        "cancelled": _verdict_cancelled,
    }
    maker = makers.get(status_of(view.build))
    return maker(words, view) if maker else words("verdict_damaged")


def _verdict_html(words: Words, view: BuildView) -> Html:
    """The sentence with its first words, the status, standing out, and a running clock."""
    if status_of(view.build) == "running" and not view.build.get("cancel_requested"):
        duration = lasted(words, view.build, view.site.now)
        running = phrase(words, "verdict_running", duration=duration)
        return join((running, _where(words, view)))
    head, colon, rest = verdict_sentence(words, view).partition(":")
    if not colon or len(head) > _HEAD_LENGTH:
        return escape(head + colon + rest)
    return markup("<strong>$head</strong>:$rest", head=head, rest=rest)


def _verdict_queued(words: Words, view: BuildView) -> str:
    if view.waiting is None:
        return words("verdict_queued")
    if not view.waiting.agents:
        return words("verdict_no_agent")
    if view.waiting.position <= 1:
        return words("verdict_next")
    return words("verdict_place", position=view.waiting.position)


def _verdict_running(words: Words, view: BuildView) -> str:
    if view.build.get("cancel_requested"):
        return words("verdict_stopping") + _where(words, view)
    return words("verdict_running", duration=_lasted(words, view)) + _where(words, view)


def _verdict_success(words: Words, view: BuildView) -> str:
    return words("verdict_success", duration=_lasted(words, view)) + _where(words, view)


def _verdict_failure(words: Words, view: BuildView) -> str:
    status, reason = view.build.get("exit_status"), view.build.get("reason")
    if reason and (status is None or status <= 0):
        return words("verdict_reason", reason=_shortened(str(reason))) + _where(words, view)
    if status is None:
        return words("verdict_failure") + _where(words, view)
    duration = _lasted(words, view)
    if status < 0:
        text = words("verdict_signal", signal=signal_name(status), duration=duration)
    else:
        text = words("verdict_exit", exit=status, duration=duration)
    return text + _where(words, view)


def _shortened(reason: str) -> str:
    line = reason.strip().split("\n")[0].rstrip(".")
    return line if len(line) <= _REASON_LENGTH else line[:_REASON_LENGTH] + "…"


def _verdict_lost(words: Words, view: BuildView) -> str:
    counted = [a for a in view.build.get("attempts") or [] if a.get("ending") not in _UNCOUNTED]
    return words("verdict_lost", n=len(counted))


def _verdict_cancelled(words: Words, view: BuildView) -> str:
    by = view.build.get("cancelled_by")
    text = words("verdict_cancelled_by", name=by) if by else words("verdict_cancelled")
    if view.build.get("started_at"):
        text += words("verdict_after", duration=_lasted(words, view))
    return text


def _lasted(words: Words, view: BuildView) -> str:
    return words.duration(seconds_of(view.build, view.site.now) or 0.0)


def _where(words: Words, view: BuildView) -> str:
    agent, attempt = view.build.get("agent"), int(view.build.get("attempt") or 1)
    text = words("verdict_agent", agent=agent) if agent else ""
    if attempt <= 1:
        return text
    uncounted = any(a.get("ending") in _UNCOUNTED for a in view.build.get("attempts") or [])
    if uncounted or attempt > view.max_attempts:
        return text + words("verdict_attempt_only", attempt=attempt)
    return text + words("verdict_attempt", attempt=attempt, max=view.max_attempts)


def signal_name(exit_status: int) -> str:
    """The name of the signal behind a negative exit status: "SIGKILL"."""
    try:
        return signal.Signals(-exit_status).name
    except ValueError:
        return f"signal {-exit_status}"


# Around the verdict


def _author(build: BuildJson) -> Html:
    if not build.get("author"):
        return NOTHING
    return markup(' <span class="author">$author</span>', author=build["author"])


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
        text = words("damaged_text", reason=view.build.get("damaged") or "")
        advice = words("damaged_advice", id=view.build.get("id"))
        return panel(words, text, advice, "", "panel-warn")
    if status == "queued" and view.waiting is not None:
        return _why_waits(words, view)
    reason = str(view.build.get("reason") or "")
    if not reason or reason.strip().rstrip(".") in verdict_sentence(words, view):
        return NOTHING
    return panel(words, words("reason"), reason, "", f"panel-reason panel-{status}")


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
        _fact(words("dropped"), _size(words, build, "dropped_bytes")),
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


def _size(words: Words, build: BuildJson, key: str) -> Optional[str]:
    count = build.get(key)
    return words.size(int(count)) if count is not None else None


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
    key = _ENDINGS.get(attempt.get("ending"))
    text = words(key) if key else str(attempt.get("ending"))
    if not attempt.get("reason"):
        return markup("$text", text=text)
    return markup(
        '$text<span class="ending-reason">$reason</span>', text=text, reason=attempt["reason"]
    )


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


# The output


def _output(words: Words, view: BuildView, status: str) -> Html:
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
    parts: List[Html] = []
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
            f"CI=true sh -c {shlex.quote(str(build.get('command')))}",
        )
    )
