"""The page of one build: its verdict, everything about it, and its output."""

from __future__ import annotations

import json
from typing import Optional

from minici.ui.attempts import attempts_section, reproduce_section
from minici.ui.build_facts import build_link, facts_of
from minici.ui.checkout import checkout_section
from minici.ui.components import (
    FINAL,
    as_sentence,
    commit_html,
    frame,
    panel,
    sign,
    status_of,
    status_word,
)
from minici.ui.files import files_section
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, fill, join, markup, phrase
from minici.ui.models import BuildJson, BuildView
from minici.ui.output import output_section
from minici.ui.reasons import is_exit, reason_of, reason_text
from minici.ui.refs import project_link, ref_link
from minici.ui.summary import (
    uncounted_sentence,
    verdict_html,
    verdict_sentence,
)


def build_page(language: str, view: BuildView) -> Html:
    """The page `/build/ID`."""
    translate, build = Translator(language), view.build
    status = status_of(build)
    final = status in FINAL or status == "damaged"
    notes = _notes(translate, view, status), _hook_failure(translate, view)
    content = fill(
        "build",
        translate,
        id=build.get("id"),
        project=_project(translate, view),
        status=status,
        state=f"{translate('build_number', id=build.get('id'))}: {status_word(translate, status)}",
        attempt=build.get("attempt") or 0,
        shape=_shape(build),
        final=markup(" data-final") if final else "",
        previous=_step(translate, view.previous, "prev", "previous_build", "← "),
        next=_step(translate, view.next, "next", "next_build", ""),
        sign=sign(status, 40),
        verdict=verdict_html(translate, view),
        commit=commit_html(build),
        subject=build.get("subject") or "",
        author=_author(build),
        origin=_origin(translate, view),
        actions=_actions(translate, build, status),
        notes=join((*notes, files_section(translate, view))),
        command=_command(translate, build),
        facts=fill("facts", translate, facts=facts_of(translate, view)),
        attempts=attempts_section(translate, view),
        uncounted=_uncounted(translate, build),
        checkout=checkout_section(translate, view),
        output=output_section(translate, view, status),
        repeat=reproduce_section(translate, build),
    )
    title = f"{build.get('id')} {verdict_sentence(translate, view)}"
    return frame(translate, "build", title, content, view.context, not final, f"icon-{status}")


def _shape(build: BuildJson) -> str:
    """The values that static/build.js compares to notice a change of the record."""
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


def _project(translate: Translator, view: BuildView) -> Html:
    """The project between the list and the number, where there are several."""
    if not (view.context.several_projects and view.build.get("project")):
        return NOTHING
    link = project_link(translate, view.build)
    return markup('$link <span aria-hidden="true">/</span> ', link=link)


def _origin(translate: Translator, view: BuildView) -> Html:
    """Whose build it is, and what it repeats: said at the top, where there is something to say."""
    build, parts = view.build, []
    project = build.get("project") if view.context.several_projects else None
    if build.get("ref"):
        key = "origin_tag" if build.get("event") == "tag" else "origin_push"
        link = ref_link(translate, build, project)
        if build.get("event") in ("push", "tag"):
            parts.append(phrase(translate, key, ref=link))
        else:
            parts.append(link)
    if build.get("rebuild_of"):
        parts.append(phrase(translate, "origin_repeat", link=build_link(build["rebuild_of"])))
    if build.get("started_by"):
        parts.append(phrase(translate, "origin_person", name=_person(build["started_by"])))
    if not parts:
        return NOTHING
    return markup('<p class="origin">$parts</p>', parts=join(parts, " · "))


def _uncounted(translate: Translator, build: BuildJson) -> Html:
    """The line about attempts that do not count, if there are any."""
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
    return panel(translate, translate("reason"), as_sentence(reason), "", f"panel-{status}")


def _hook_failure(translate: Translator, view: BuildView) -> Html:
    failure = view.hook_failure
    if failure is None:
        return NOTHING
    title = translate("hook_failed", status=failure.exit_status)
    text = translate("hook_again" if failure.again else "hook_given_up")
    return panel(translate, title, text, failure.output, "panel-warn")


def _says_more(translate: Translator, view: BuildView, reason: str) -> bool:
    """Return True if the reason adds something to the verdict."""
    if is_exit(reason_of(view.build)) or status_of(view.build) == "cancelled":
        return False
    return reason.strip().rstrip(".") not in verdict_sentence(translate, view)


def _why_waits(translate: Translator, view: BuildView) -> Html:
    waiting = view.waiting
    assert waiting is not None
    text = as_sentence(reason_text(translate, waiting.reason))
    command = "" if waiting.agents else view.context.start_agent_command
    kind = "panel-warn" if waiting.blocked else ""
    return panel(translate, translate("why_waits"), text, command, kind)


def _command(translate: Translator, build: BuildJson) -> Html:
    if not build.get("command"):
        return NOTHING
    return fill("command", translate, command=build["command"])
