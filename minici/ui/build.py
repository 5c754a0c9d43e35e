"""The page of one build: its verdict, everything about it, and its output."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Optional

from minici.timestamps import parse_time
from minici.ui.checkout import checkout_section
from minici.ui.components import (
    FINAL,
    agent_name,
    duration_html,
    frame,
    panel,
    seconds_of,
    shell,
    short_commit,
    sign,
    status_badge,
    status_of,
    status_word,
    time_html,
)
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, escape, fill, join, markup, phrase
from minici.ui.models import BuildJson, BuildView, PageContext, Waiting
from minici.ui.output import kept_of, output_section
from minici.ui.reasons import is_exit, reason_of, reason_text
from minici.ui.summary import (
    ending_text,
    signal_name,
    uncounted_sentence,
    verdict_html,
    verdict_sentence,
)


def build_page(language: str, view: BuildView) -> Html:
    """The page `/build/ID`."""
    translate, build = Translator(language), view.build
    status = status_of(build)
    final = status in FINAL or status == "damaged"
    verdict = verdict_sentence(translate, view)
    subject = build.get("subject") or ""
    content = fill(
        "build",
        translate,
        id=build.get("id"),
        status=status,
        state=f"{translate('build_number', id=build.get('id'))}: {status_word(translate, status)}",
        attempt=build.get("attempt") or 0,
        shape=_shape(build),
        final=markup(" data-final") if final else "",
        previous=_step(translate, view.previous, "prev", "previous_build", "← "),
        next=_step(translate, view.next, "next", "next_build", ""),
        sign=sign(status, 40),
        verdict=verdict_html(translate, view),
        short=short_commit(build),
        subject=subject,
        author=_author(build),
        origin=_origin(translate, build),
        actions=_actions(translate, build, status),
        notes=_notes(translate, view, status),
        command=_command(translate, build),
        facts=fill("facts", translate, facts=_facts(translate, view)),
        attempts=_attempts(translate, view),
        uncounted=_uncounted(translate, build),
        checkout=checkout_section(translate, view),
        output=output_section(translate, view, status),
        repeat=_repeat(translate, build),
    )
    title = f"{build.get('id')} {verdict}"
    return frame(translate, "build", title, content, view.context, not final, f"icon-{status}")


def _shape(build: BuildJson) -> str:
    """What static/build.js compares to see whether the record has changed since this page."""
    keys = ("status", "attempt", "cancel_requested", "agent", "revision")
    values = [build.get(key) for key in keys]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _step(translate: Translator, number: Optional[int], rel: str, key: str, arrow: str) -> Html:
    if number is None:
        return NOTHING
    text = f"{arrow}{number}" if arrow else f"{number} →"
    return markup(
        '<a rel="$rel" href="/build/$number" title="$title" aria-label="$title $number">$text</a>',
        rel=rel,
        number=number,
        title=translate(key),
        text=text,
    )


# Around the verdict


def _author(build: BuildJson) -> Html:
    if not build.get("author"):
        return NOTHING
    return markup(' <span class="author">$author</span>', author=build["author"])


def _origin(translate: Translator, build: BuildJson) -> Html:
    """Whose build it is, and what it repeats: said at the top, where there is something to say."""
    parts = []
    if build.get("rebuild_of"):
        parts.append(phrase(translate, "origin_repeat", link=_build_link(build["rebuild_of"])))
    if build.get("started_by"):
        parts.append(phrase(translate, "origin_person", name=_person(build["started_by"])))
    if not parts:
        return NOTHING
    return markup('<p class="origin">$parts</p>', parts=join(parts, " · "))


def _uncounted(translate: Translator, build: BuildJson) -> Html:
    """Why the attempt's number is higher than the number of lost agents tells."""
    text = uncounted_sentence(translate, build)
    return markup('<p class="uncounted">$text</p>', text=text) if text else NOTHING


def _person(name: object) -> Html:
    return markup('<span class="author">$name</span>', name=name)


def _actions(translate: Translator, build: BuildJson, status: str) -> Html:
    if status == "damaged":
        return NOTHING
    shown = []
    if build.get("cancel_requested") and status not in FINAL:
        shown.append(markup('<span class="pending">$text</span>', text=translate("cancelling")))
    elif status not in FINAL:
        shown.append(_button(build, "cancel", translate("cancel")))
    shown.append(_button(build, "rebuild", translate("rebuild")))
    return join(shown)


def _button(build: BuildJson, verb: str, text: str) -> Html:
    return markup(
        '<form method="post" action="/build/$id/$verb"><button type="submit" '
        'class="$verb">$text</button></form>',
        id=build.get("id"),
        verb=verb,
        text=text,
    )


def _notes(translate: Translator, view: BuildView, status: str) -> Html:
    if status == "damaged":
        text = translate(
            "damaged_text", reason=reason_text(translate, view.build.get("damaged") or "")
        )
        advice = translate("damaged_advice", id=view.build.get("id"))
        return panel(translate, text, advice, "", "panel-warn")
    if status == "queued" and view.waiting is not None:
        return _why_waits(translate, view)
    reason = reason_text(translate, reason_of(view.build))
    if not _says_more(translate, view, reason):
        return NOTHING
    return panel(translate, translate("reason"), reason, "", f"panel-reason panel-{status}")


def _says_more(translate: Translator, view: BuildView, reason: str) -> bool:
    """Whether the reason is more than what the verdict says already."""
    if is_exit(reason_of(view.build)) or status_of(view.build) == "cancelled":
        return False
    return reason.strip().rstrip(".") not in verdict_sentence(translate, view)


def _why_waits(translate: Translator, view: BuildView) -> Html:
    waiting, title = view.waiting, translate("why_waits")
    assert waiting is not None
    if not waiting.agents:
        command = view.context.start_agent_command
        return panel(translate, title, translate("waits_no_agent"), command, "panel-warn")
    if waiting.troubles:
        return panel(translate, title, _troubles(translate, waiting), "", "panel-warn")
    if not waiting.full:
        return panel(translate, title, translate("waits_soon"))
    if waiting.position <= 1:
        return panel(translate, title, translate("waits_next"))
    return panel(translate, title, translate("waits_full", n=waiting.position - 1))


def _troubles(translate: Translator, waiting: Waiting) -> Html:
    """The agents that take no builds now, each with its own reason."""
    head = phrase(translate, "waits_trouble")
    each = [
        markup("<li>$name: $text</li>", name=name, text=reason_text(translate, trouble))
        for name, trouble in waiting.troubles
    ]
    return join((head, markup("<ul>$each</ul>", each=join(each))))


def _command(translate: Translator, build: BuildJson) -> Html:
    if not build.get("command"):
        return NOTHING
    return fill("command", translate, command=build["command"])


# The facts


def _facts(translate: Translator, view: BuildView) -> Html:
    build = view.build
    facts = [
        _fact(translate("status"), status_badge(translate, status_of(build))),
        _fact(translate("number"), build.get("id")),
        _fact(translate("exit_status"), _exit_text(build)),
        _fact(translate("duration"), _duration(translate, view)),
        _fact(translate("attempt"), build.get("attempt") or None),
        _fact(translate("waited"), _waited(translate, view)),
        _fact(translate("agent"), agent_name(view.context, build), "row-fact"),
        _fact(translate("commit"), _code(build.get("commit")), "wide-fact"),
        _fact(translate("revision"), _code(build.get("revision")), "wide-fact"),
        _fact(translate("subject"), build.get("subject"), "wide-fact"),
        _fact(translate("author"), build.get("author"), "wide-fact"),
        _fact(translate("repository"), _code(build.get("repository")), "wide-fact"),
        _fact(translate("queued_at"), _moment(translate, build, "queued_at"), "row-fact"),
        _fact(translate("started_at"), _moment(translate, build, "started_at"), "row-fact"),
        _fact(translate("finished_at"), _moment(translate, build, "finished_at"), "row-fact"),
        *_sizes(translate, view),
        _fact(translate("rebuild_of"), _build_link(build.get("rebuild_of")), "row-fact"),
        _fact(translate("started_by"), build.get("started_by"), "row-fact"),
        _fact(translate("cancelled_by"), build.get("cancelled_by"), "row-fact"),
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


def _moment(translate: Translator, build: BuildJson, key: str) -> Optional[Html]:
    return time_html(translate, build[key]) if build.get(key) else None


def _sizes(translate: Translator, view: BuildView) -> list[Html]:
    """The sizes of the output, once it has ended; before, its head shows them as they grow."""
    if status_of(view.build) not in FINAL or view.build.get("stdout_bytes") is None:
        return []
    stdout, stderr, dropped = kept_of(view)
    facts = [
        _fact("stdout", translate.size(stdout)),
        _fact("stderr", translate.size(stderr)),
    ]
    if dropped:
        facts.append(_fact(translate("dropped"), translate.size(dropped)))
    return facts


def _code(value: object) -> Optional[Html]:
    return markup("<code>$value</code>", value=value) if value else None


def _build_link(number: object) -> Optional[Html]:
    return markup('<a href="/build/$n">$n</a>', n=number) if number else None


def _exit_text(build: BuildJson) -> Optional[str]:
    status = build.get("exit_status")
    if status is None:
        return None
    return f"{status} ({signal_name(status)})" if status < 0 else str(status)


def _duration(translate: Translator, view: BuildView) -> Optional[Html]:
    if seconds_of(view.build, view.context.now) is None:
        return None
    return duration_html(translate, view.build, view.context.now)


def _waited(translate: Translator, view: BuildView) -> Optional[str]:
    queued = parse_time(view.build.get("queued_at"))
    until = parse_time(view.build.get("started_at")) or parse_time(view.build.get("finished_at"))
    if queued is None:
        return None
    return translate.duration(((until or view.context.now) - queued).total_seconds())


# The attempts


def _attempts(translate: Translator, view: BuildView) -> Html:
    attempts: Sequence[BuildJson] = view.build.get("attempts") or []
    if not attempts:
        return NOTHING
    return fill(
        "attempts", translate, rows=join(_attempt(translate, view, one) for one in attempts)
    )


def _attempt(translate: Translator, view: BuildView, attempt: BuildJson) -> Html:
    seconds = seconds_of(attempt, view.context.now)
    return fill(
        "attempt",
        translate,
        attempt=attempt.get("attempt"),
        kind=attempt.get("ending") or "open",
        agent=_attempt_agent(view.context, attempt),
        started=time_html(translate, attempt.get("started_at")),
        finished=time_html(translate, attempt.get("finished_at")),
        duration="—" if seconds is None else duration_html(translate, attempt, view.context.now),
        ending=_ending(translate, attempt),
        output=_attempt_output(translate, view, attempt),
    )


def _attempt_agent(context: PageContext, attempt: BuildJson) -> Html:
    name, address = agent_name(context, attempt) or "—", attempt.get("address")
    return markup('<span class="agent" title="$address">$name</span>', name=name, address=address)


def _ending(translate: Translator, attempt: BuildJson) -> Html:
    text = ending_text(translate, attempt)
    if not attempt.get("reason"):
        return escape(text)
    reason = reason_text(translate, reason_of(attempt))
    return markup('$text<span class="ending-reason">$reason</span>', text=text, reason=reason)


def _attempt_output(translate: Translator, view: BuildView, attempt: BuildJson) -> Html:
    number = attempt.get("attempt")
    if number == (view.shown_attempt or view.build.get("attempt")):
        return markup('<a href="#output">$text</a>', text=translate("shown_here"))
    return markup(
        '<a href="/build/$id?attempt=$n#output">$text</a>',
        id=view.build.get("id"),
        n=number,
        text=translate("attempt_output"),
    )


# By hand


def _repeat(translate: Translator, build: BuildJson) -> Html:
    repository, commit = build.get("repository"), build.get("revision") or build.get("commit")
    if not repository or not commit or not build.get("command"):
        return NOTHING
    return markup(
        '<details class="repeat"><summary>$title</summary><p>$text</p>$lines</details>',
        title=translate("repeat"),
        text=phrase(translate, "repeat_text"),
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
