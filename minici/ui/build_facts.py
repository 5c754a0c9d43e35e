"""The facts about a build, beside its output."""

from __future__ import annotations

from typing import Optional

from minici.timestamps import parse_time
from minici.ui.components import (
    FINAL,
    agent_name,
    duration_html,
    labels_html,
    seconds_of,
    status_of,
    time_html,
)
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, join, markup
from minici.ui.models import BuildJson, BuildView
from minici.ui.output import kept_of


def facts_of(translate: Translator, view: BuildView) -> Html:
    """Everything that is known about a build, each fact with its name."""
    build = view.build
    facts = [
        _fact(translate("duration"), _duration(translate, view)),
        _fact(translate("attempt"), build["attempt"] if (build.get("attempt") or 1) > 1 else None),
        _fact(translate("waited"), _waited(translate, view)),
        _fact(translate("agent"), agent_name(view.context, build), "row-fact"),
        _fact(translate("commit"), _code(build.get("commit")), "wide-fact"),
        _fact(translate("revision"), _code(build.get("revision")), "wide-fact"),
        _fact(
            translate("agent_labels"),
            labels_html(translate("agent_labels"), build.get("labels") or ()),
            "wide-fact",
        ),
        _fact(translate("repository"), _code(build.get("repository")), "wide-fact"),
        _fact(translate("queued_at"), _moment(translate, build, "queued_at"), "row-fact"),
        _fact(translate("started_at"), _moment(translate, build, "started_at"), "row-fact"),
        _fact(translate("finished_at"), _moment(translate, build, "finished_at"), "row-fact"),
        *_sizes(translate, view),
        _fact(translate("rebuild_of"), build_link(build.get("rebuild_of")), "row-fact"),
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
    sizes = (("stdout", stdout), ("stderr", stderr), (translate("dropped"), dropped))
    return [_fact(name, translate.size(size)) for name, size in sizes if size]


def _code(value: object) -> Optional[Html]:
    return markup("<code>$value</code>", value=value) if value else None


def build_link(number: object) -> Optional[Html]:
    """A link to the build with this number; None for None."""
    return markup('<a href="/build/$n">$n</a>', n=number) if number else None


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
