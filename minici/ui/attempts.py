"""The attempts of a build, and how to reproduce it by hand."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from minici.ui.components import (
    agent_name,
    duration_html,
    seconds_of,
    shell,
    time_html,
)
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, fill, join, markup, phrase
from minici.ui.models import BuildJson, BuildView, PageContext
from minici.ui.reasons import reason_of, reason_text
from minici.ui.summary import (
    ending_text,
)


def attempts_section(translate: Translator, view: BuildView) -> Html:
    """The attempts of a build, each with its agent, times, ending and output.

    Nothing where there was one only and it ended with the build: the facts say it all.
    """
    attempts: Sequence[BuildJson] = view.build.get("attempts") or []
    plain = [each.get("ending") in (None, "finished") for each in attempts]
    if plain in ([], [True]):
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


def _ending(translate: Translator, attempt: BuildJson) -> str:
    """The reason for the end of an attempt or, where there is none, how it ended."""
    return reason_text(translate, reason_of(attempt)) or ending_text(translate, attempt)


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


def reproduce_section(translate: Translator, build: BuildJson) -> Html:
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
