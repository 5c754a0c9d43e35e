"""Finished builds as an Atom feed, and the state of all of it for desktop monitors. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from minici.timestamps import parse_time
from minici.ui.components import FINAL, repository_name, short_commit, status_of
from minici.ui.i18n import Translator
from minici.ui.markup import Html, join, markup
from minici.ui.models import BuildJson, BuildView, PageContext
from minici.ui.summary import verdict_sentence

_NEVER = "1970-01-01T00:00:00Z"
_MONITORED = {"success": "Success", "failure": "Failure", "lost": "Exception"}


def atom_feed(
    translate: Translator,
    context: PageContext,
    builds: Sequence[BuildJson],
    query: str = "",
    project: Optional[str] = None,
) -> Html:
    """The final ones of `builds` as a feed (RFC 4287), last finished first.

    `query` is what they were selected by, `?status=failure` for example, or empty; `project` the
    project that they are of, if it is only one.
    """
    final = [build for build in builds if status_of(build) in FINAL]
    final.sort(key=lambda build: str(build.get("finished_at") or ""), reverse=True)
    newest = str(final[0].get("finished_at") or _NEVER) if final else _NEVER
    return markup(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="$language">\n'
        "<id>$url/feed.atom$query</id>\n<title>$title</title>\n<updated>$updated</updated>\n"
        '<link rel="self" type="application/atom+xml" href="$url/feed.atom$query"/>\n'
        '<link rel="alternate" type="text/html" href="$url/$query"/>\n'
        "<author><name>minici</name></author>\n$entries</feed>\n",
        language=translate.language,
        url=context.url,
        query=query,
        title=translate("feed_title", repository=project or repository_name(context.repository)),
        updated=newest,
        entries=join(_entry(translate, context, build) for build in final),
    )


def _entry(translate: Translator, context: PageContext, build: BuildJson) -> Html:
    url = f"{context.url}/build/{build.get('id')}"
    verdict = verdict_sentence(translate, BuildView(context, build))
    about = f"{short_commit(build)} {build.get('subject') or ''}".strip()
    return markup(
        # The time makes the id another one when a data folder is begun anew and so counts anew.
        "<entry>\n<id>$url#$queued</id>\n<title>$number: $verdict</title>\n"
        "<published>$started</published>\n<updated>$finished</updated>\n"
        '<link rel="alternate" type="text/html" href="$url"/>\n<category term="$status"/>\n'
        '<content type="text">$about\n$ $command</content>\n</entry>\n',
        url=url,
        queued=build.get("queued_at"),
        number=translate("build_number", id=build.get("id")),
        verdict=verdict,
        started=build.get("queued_at") or _NEVER,
        finished=build.get("finished_at") or _NEVER,
        status=status_of(build),
        about=about,
        command=build.get("command"),
    )


@dataclass(frozen=True)
class MonitoredProject:
    """A project as a desktop monitor shows it. `last` is its newest build that has ended and that
    nobody has cancelled."""

    name: str
    url: str
    last: Optional[BuildJson]
    building: bool


def cctray(projects: Sequence[MonitoredProject]) -> Html:
    """The format that CCMenu and BuildNotify read."""
    return markup(
        '<?xml version="1.0" encoding="utf-8"?>\n<Projects>\n$projects</Projects>\n',
        projects=join(_monitored(project) for project in projects),
    )


def _monitored(project: MonitoredProject) -> Html:
    last = project.last or {}
    return markup(
        '<Project name="$name" activity="$activity" lastBuildStatus="$status" '
        'lastBuildLabel="$label" lastBuildTime="$time" webUrl="$url"/>\n',
        name=project.name,
        activity="Building" if project.building else "Sleeping",
        status=_MONITORED.get(status_of(last), "Unknown") if last else "Unknown",
        label=last.get("id") or "",
        time=_seconds(last.get("finished_at")),
        url=project.url,
    )


def _seconds(value: object) -> str:
    """A time without its milliseconds, which some monitors can't read."""
    moment = parse_time(value)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else _NEVER
