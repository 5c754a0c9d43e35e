"""The state or the result of a build in one sentence."""

from __future__ import annotations

import signal
from typing import Callable

from minici.ui.components import agent_name, duration_html, seconds_of, status_of, status_word
from minici.ui.i18n import Translator
from minici.ui.markup import Html, escape, join, markup, phrase
from minici.ui.models import BuildJson, BuildView
from minici.ui.reasons import is_exit, reason_of, reason_text

_REASON_LENGTH = 140
_UNCOUNTED = ("refused", "returned", "unable")
_COUNTED = ("silent", "forgotten", "overdue", "unanswered")
_ENDINGS = {
    None: "ending_open",
    "finished": "ending_finished",
    "refused": "ending_refused",
    "returned": "ending_returned",
    "unable": "ending_returned",
    "silent": "ending_silent",
    "forgotten": "ending_forgotten",
    "overdue": "ending_overdue",
    "unanswered": "ending_unanswered",
    "superseded": "ending_superseded",
    "cancelled": "ending_cancelled",
}


def verdict_sentence(translate: Translator, view: BuildView) -> str:
    """The state or the result of the build in one sentence without a full stop."""
    makers: dict[str, Callable[[Translator, BuildView], str]] = {
        "queued": _verdict_queued,
        "running": _verdict_running,
        "success": _verdict_success,
        "failure": _verdict_failure,
        "lost": _verdict_lost,
        "cancelled": _verdict_cancelled,
    }
    maker = makers.get(status_of(view.build))
    return maker(translate, view) if maker else translate("verdict_damaged")


def verdict_html(translate: Translator, view: BuildView) -> Html:
    """The sentence with its first words, the status, standing out, and a running clock."""
    if status_of(view.build) == "running" and not view.build.get("cancel_requested"):
        duration = duration_html(translate, view.build, view.context.now)
        status = markup("<strong>$word</strong>", word=status_word(translate, "running"))
        running = phrase(translate, "verdict_running", status=status, duration=duration)
        return join((running, _where(translate, view)))
    sentence, word = (
        verdict_sentence(translate, view),
        status_word(translate, status_of(view.build)),
    )
    if not sentence.startswith(word):
        return escape(sentence)
    return markup("<strong>$word</strong>$rest", word=word, rest=sentence[len(word) :])


def _verdict_queued(translate: Translator, view: BuildView) -> str:
    if view.waiting is None:
        return translate("verdict_queued")
    if not view.waiting.agents:
        return translate("verdict_no_agent")
    if view.waiting.blocked:
        return translate("verdict_blocked")
    if view.waiting.position <= 1:
        return translate("verdict_next")
    return translate("verdict_place", position=view.waiting.position)


def _verdict_running(translate: Translator, view: BuildView) -> str:
    if view.build.get("cancel_requested"):
        return translate("verdict_stopping") + _where(translate, view)
    status, duration = status_word(translate, "running"), _lasted(translate, view)
    return translate("verdict_running", status=status, duration=duration) + _where(translate, view)


def _verdict_success(translate: Translator, view: BuildView) -> str:
    return translate("verdict_success", duration=_lasted(translate, view)) + _where(translate, view)


def _verdict_failure(translate: Translator, view: BuildView) -> str:
    status, reason = view.build.get("exit_status"), reason_of(view.build)
    if not is_exit(reason):
        short = _shortened(reason_text(translate, reason))
        return translate("verdict_reason", where=_where(translate, view), reason=short)
    if status is None:
        return translate("verdict_failure") + _where(translate, view)
    duration = _lasted(translate, view)
    if status < 0:
        text = translate("verdict_signal", signal=signal_name(status), duration=duration)
    else:
        text = translate("verdict_exit", exit=status, duration=duration)
    return text + _where(translate, view)


def _shortened(reason: str) -> str:
    line = reason.strip().split("\n")[0].rstrip(".")
    return line if len(line) <= _REASON_LENGTH else line[:_REASON_LENGTH] + "…"


def _verdict_lost(translate: Translator, view: BuildView) -> str:
    counted = [a for a in view.build.get("attempts") or [] if a.get("ending") not in _UNCOUNTED]
    return translate("verdict_lost", n=len(counted))


def _verdict_cancelled(translate: Translator, view: BuildView) -> str:
    by = view.build.get("cancelled_by")
    text = translate("verdict_cancelled_by", name=by) if by else translate("verdict_cancelled")
    if view.build.get("started_at"):
        text += translate("verdict_after", duration=_lasted(translate, view))
    return text


def _lasted(translate: Translator, view: BuildView) -> str:
    return translate.duration(seconds_of(view.build, view.context.now) or 0.0)


def _where(translate: Translator, view: BuildView) -> str:
    agent, attempt = agent_name(view.context, view.build), int(view.build.get("attempt") or 1)
    text = translate("verdict_agent", agent=agent) if agent else ""
    if attempt <= 1:
        return text
    uncounted = any(a.get("ending") in _UNCOUNTED for a in view.build.get("attempts") or [])
    if uncounted or attempt > view.max_attempts:
        return text + translate("verdict_attempt_only", attempt=attempt)
    return text + translate("verdict_attempt", attempt=attempt, max=view.max_attempts)


def uncounted_sentence(translate: Translator, build: BuildJson) -> str:
    """The earlier attempts that do not count, and why, in one sentence; empty without any.

    A record keeps every attempt except old refusals, so an attempt that is missing was refused.
    """
    number, attempts = int(build.get("attempt") or 0), build.get("attempts") or []
    endings = [each.get("ending") for each in attempts if int(each.get("attempt") or 0) < number]
    returned = endings.count("returned") + endings.count("unable")
    refused = number - 1 - len(endings) + endings.count("refused") if attempts else 0
    if returned + refused < 1:
        return ""
    parts = [translate("attempts_returned", n=returned)] if returned else []
    parts += [translate("attempts_refused", n=refused)] if refused else []
    text = translate("attempts_uncounted", attempt=number, parts=", ".join(parts))
    lost = sum(ending in _COUNTED for ending in endings)
    return text + (translate("attempts_lost", n=lost) if lost else "") + "."


def ending_text(translate: Translator, attempt: BuildJson) -> str:
    """The ending of an attempt in a few words; an unknown one as the record has it."""
    key = _ENDINGS.get(attempt.get("ending"))
    return translate(key) if key else str(attempt.get("ending"))


def signal_name(exit_status: int) -> str:
    """The name of the signal behind a negative exit status: "SIGKILL"."""
    try:
        return signal.Signals(-exit_status).name
    except ValueError:
        return f"signal {-exit_status}"
