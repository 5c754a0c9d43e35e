"""The common parts of pages: their frame, statuses as word and sign, times, panels."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Optional

from minici.timestamps import parse_time
from minici.ui.i18n import Translator
from minici.ui.markup import (
    NOTHING,
    Html,
    escape,
    fill,
    join,
    markup,
    phrase,
    resource,
)
from minici.ui.models import BuildJson, PageContext
from minici.ui.palette import palette_css

FINAL = ("success", "failure", "lost", "cancelled")
STATUSES = ("queued", "running") + FINAL

_STATUS_TEXTS = {
    "queued": "status_queued",
    "running": "status_running",
    "success": "status_success",
    "failure": "status_failure",
    "lost": "status_lost",
    "cancelled": "status_cancelled",
    "damaged": "status_damaged",
}

# One shape for each status, so that none is told by its colour alone. 16 x 16.
_SHAPES = {
    "queued": markup('<circle cx="8" cy="8" r="6.75"/><path d="M8 4.5V8l2.5 1.75"/>'),
    "running": markup(
        '<circle class="track" cx="8" cy="8" r="6.75"/>'
        '<path class="arc" d="M8 1.25A6.75 6.75 0 0 1 14.75 8"/>'
    ),
    "success": markup(
        '<circle class="solid" cx="8" cy="8" r="7.5"/>'
        '<path class="cut" d="M4.75 8.25 7 10.5l4.25-4.75"/>'
    ),
    "failure": markup(
        '<path class="solid" d="M5 .5h6L15.5 5v6L11 15.5H5L.5 11V5z"/>'
        '<path class="cut" d="m5.5 5.5 5 5m0-5-5 5"/>'
    ),
    "lost": markup(
        '<circle cx="8" cy="8" r="6.75" stroke-dasharray="3 2.3"/>'
        '<path d="M6.2 6.3a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.8.6-.8 1.3M8 11.5v.1"/>'
    ),
    "cancelled": markup('<circle cx="8" cy="8" r="6.75"/><path d="m3.5 12.5 9-9"/>'),
    "damaged": markup('<path d="M8 1.5 15 14H1zM8 6.25v3.5M8 11.9v.1"/>'),
    "ready": markup('<circle class="solid" cx="8" cy="8" r="5"/>'),
    "busy": markup('<circle class="solid" cx="8" cy="8" r="7"/><path class="cut" d="M5 8h6"/>'),
    "gone": markup('<circle cx="8" cy="8" r="6.25" stroke-dasharray="2.5 2.4"/>'),
    "search": markup('<circle cx="7" cy="7" r="4.75"/><path d="m10.5 10.5 4 4"/>'),
    "trouble": markup('<path d="M8 1.5 15 14H1zM8 6.25v3.5M8 11.9v.1"/>'),
    "paused": markup('<circle cx="8" cy="8" r="6.75"/><path d="M6.25 5.5v5m3.5-5v5"/>'),
    "refusing": markup('<circle cx="8" cy="8" r="6.75"/><path d="M8 4.5V9M8 11.4v.1"/>'),
}

_REFRESH = markup('<noscript><meta http-equiv="refresh" content="5"></noscript>\n')
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_SCRIPTS = (
    *("minici.js", "log.js", "search.js", "way.js"),
    *("failures.js", "changes.js", "build.js"),
)
_TEXT_FILES = ("style.css", "palette.css", *_SCRIPTS)
_ICONS = ("icon", "icon-running", "icon-success", "icon-failure", "icon-queued")


def sign(shape: str, size: int = 16) -> Html:
    """The drawn sign of a status or of an agent's state."""
    return markup(
        '<svg class="sign sign-$shape" viewBox="0 0 16 16" width="$size" height="$size" '
        'aria-hidden="true" focusable="false">$drawing</svg>',
        shape=shape,
        size=size,
        drawing=_SHAPES[shape],
    )


def status_badge(translate: Translator, status: str) -> Html:
    """A status as sign and word."""
    return sign_and_word(status, status_word(translate, status))


def sign_and_word(shape: str, word: str) -> Html:
    """A sign with its word beside it."""
    return markup(
        '<span class="badge badge-$shape">$sign<span class="word">$word</span></span>',
        shape=shape,
        sign=sign(shape),
        word=word,
    )


def status_word(translate: Translator, status: str) -> str:
    """The status as people are shown it."""
    return translate(_STATUS_TEXTS[status])


def status_of(build: BuildJson) -> str:
    """The build's status; "damaged" where its record can't be read or says nothing known."""
    status = build.get("status")
    return str(status) if "damaged" not in build and status in STATUSES else "damaged"


def time_html(translate: Translator, value: object) -> Html:
    """A time of a record, in full and in UTC; the script adds the reader's own zone."""
    time = parse_time(value)
    if time is None:
        return markup('<span class="none">—</span>')
    return markup(
        '<time datetime="$iso" data-zone>$date</time>',
        iso=time.isoformat(),
        date=translate.date(time),
    )


def ago(translate: Translator, value: object, now: datetime) -> Html:
    """A time of a record as its age, with the full date behind it."""
    time = parse_time(value) if not isinstance(value, datetime) else value
    if time is None:
        return markup('<span class="none">—</span>')
    return markup(
        '<time datetime="$iso" title="$date" data-age>$age</time>',
        iso=time.isoformat(),
        date=translate.date(time),
        age=translate.age(time, now),
    )


def seconds_of(build: BuildJson, now: datetime) -> Optional[float]:
    """The duration of a build in seconds, up to `now` while it runs; None if it never began."""
    started, finished = parse_time(build.get("started_at")), parse_time(build.get("finished_at"))
    if started is None:
        return None
    return max(0.0, ((finished or now) - started).total_seconds())


def duration_html(translate: Translator, build: BuildJson, now: datetime) -> Html:
    """The duration of a build as HTML; the script keeps that of a running one up to date."""
    text = translate.duration(seconds_of(build, now) or 0.0)
    started = parse_time(build.get("started_at"))
    if build.get("finished_at") or started is None:
        return escape(text)
    return markup('<span data-since="$at">$text</span>', at=started.isoformat(), text=text)


def elapsed_html(translate: Translator, value: object, now: datetime) -> Html:
    """The time since something began that still goes on, with the date behind it."""
    began = parse_time(value)
    if began is None:
        return markup('<span class="none">—</span>')
    return markup(
        '<time datetime="$iso" title="$date" data-age data-since="$iso">$text</time>',
        iso=began.isoformat(),
        date=translate.date(began),
        text=translate.duration((now - began).total_seconds()),
    )


def short_commit(build: BuildJson) -> str:
    """The commit where room is scarce: a name whole, a hash by 10 digits."""
    commit = str(build.get("commit") or "")
    is_hash = len(commit) >= 40 and all(digit in "0123456789abcdefABCDEF" for digit in commit)
    return commit[:10] if is_hash else commit[:80]


def agent_name(context: PageContext, record: BuildJson) -> str:
    """The name of the agent of a build or an attempt, with its address if others have it too."""
    name = str(record.get("agent") or "")
    if name not in context.shared_names:
        return name
    attempts = [each for each in record.get("attempts") or [record] if each.get("agent") == name]
    address = attempts[-1].get("address") if attempts else None
    return f"{name} ({address})" if address else name


def labels_html(name: str, labels: Sequence[str]) -> Html:
    """Labels of an agent or a build as a list with a name; nothing for none."""
    if not labels:
        return NOTHING
    each = join(markup("<li>$label</li>", label=label) for label in labels)
    return markup('<ul class="tags" aria-label="$name">$each</ul>', name=name, each=each)


def repository_name(repository: str) -> str:
    """The name of a repository: the last part of its address, without `.git`."""
    last = re.split("[/:]", repository.rstrip("/"))[-1]
    return (last[:-4] if last.endswith(".git") else last) or repository


def commit_html(build: BuildJson) -> Html:
    """The commit as it was typed, unless the ref beside it says that, and its short hash."""
    typed, revision = short_commit(build), str(build.get("revision") or "")
    names = [typed] if typed != short_ref(build.get("ref") or "") or not revision else []
    if revision and not revision.startswith(typed or " "):
        names.append(revision[:10])
    return join((markup('<code class="commit">$name</code>', name=name) for name in names), " ")


def short_ref(ref: object) -> str:
    """The short name of a ref: `main` for `refs/heads/main`."""
    parts = str(ref).split("/", 2)
    return parts[2] if len(parts) == 3 else str(ref)


def as_sentence(text: str) -> str:
    """A reason, which begins small, as a sentence that stands alone."""
    end = "" if not text or text[-1] in ".!?…" else "."
    return text[:1].upper() + text[1:] + end


def panel(translate: Translator, title: str, text: object, lines: str = "", kind: str = "") -> Html:
    """A boxed message, with shell lines to copy where there are any."""
    return fill("panel", translate, title=title, text=text, more=shell(lines), kind=kind)


def shell(lines: str) -> Html:
    """Lines for a shell, to be copied; nothing for none."""
    if not lines:
        return NOTHING
    return markup(
        '<pre class="shell" data-copy tabindex="0"><code>$lines</code></pre>', lines=lines
    )


def summary(translate: Translator, context: PageContext) -> Html:
    """One line: free slots, builds waiting, the oldest wait."""
    if context.agents_total:
        free = phrase(translate, "slots_free", free=context.slots_free, total=context.slots_total)
        agents = join((phrase(translate, "agent_count", n=context.agents_total), free), ", ")
    else:
        agents = phrase(translate, "no_agents_short")
    for key, count in (
        ("paused_count", context.agents_paused),
        ("gone_count", context.agents_gone),
    ):
        if count:
            link = markup('<a href="/agents">$text</a>', text=translate(key, n=count))
            agents = join((agents, link), ", ")
    waiting = phrase(translate, "waiting_count", n=context.queued)
    parts = [agents, waiting if context.queued else phrase(translate, "nothing_waits")]
    if context.queued and context.oldest_wait is not None:
        duration = translate.duration(context.oldest_wait)
        parts.append(phrase(translate, "oldest_wait", duration=duration))
    return join(parts, " · ")


def frame(
    translate: Translator,
    page: str,
    title: str,
    content: Html,
    context: Optional[PageContext] = None,
    refresh: bool = False,
    icon: str = "icon",
    head: Html = NOTHING,
    narrowed: str = "",
) -> Html:
    """The whole page. `refresh` makes a browser without JavaScript load it again; `head` is
    what the page's own head holds beside what all have; `narrowed` is the query of the links to
    feed and badge."""
    current = {page: markup(' aria-current="page"')}
    return fill(
        "frame",
        translate,
        language=translate.language,
        page=page,
        title=title,
        content=content,
        bar=_bar(translate, context),
        icon=asset(f"{icon if icon in _ICONS else 'icon'}.svg"),
        style=asset("style.css"),
        palette=asset("palette.css"),
        scripts=_scripts(page),
        now=context.now.isoformat() if context else "",
        texts=_script_texts(translate.language),
        refresh=_REFRESH if refresh else "",
        head=head,
        foot=fill("foot", translate, narrowed=narrowed) if context else "",
        builds_current=current.get("index", ""),
        agents_current=current.get("agents", ""),
    )


def _scripts(page: str) -> Html:
    names = _SCRIPTS if page == "build" else _SCRIPTS[:1]
    return join(markup('<script src="$url" defer></script>', url=asset(name)) for name in names)


def _bar(translate: Translator, context: Optional[PageContext]) -> Html:
    if context is None:
        return NOTHING
    user = NOTHING
    if context.user:
        signed_in = phrase(translate, "signed_in", name=markup("<b>$name</b>", name=context.user))
        user = markup('<span class="user">$text</span>', text=signed_in)
    return fill("bar", translate, repository=context.repository, user=user)


@cache
def _script_texts(language: str) -> Html:
    return escape(json.dumps(Translator(language).group("js_"), ensure_ascii=False, sort_keys=True))


@cache
def asset(name: str) -> str:
    """The address of a static file; it changes when the file does, so it may be kept for ever."""
    return f"/static/{name}?v={hashlib.sha256(_static_bytes(name)).hexdigest()[:12]}"


def static_file(name: str) -> Optional[tuple[bytes, str]]:
    """The bytes and the content type of /static/NAME; None for a name that is not served."""
    kind = _static_kinds().get(name)
    return None if kind is None else (_static_bytes(name), kind)


@cache
def _static_kinds() -> dict[str, str]:
    kinds = {name: _TYPES[name.rpartition(".")[2]] for name in _TEXT_FILES}
    kinds.update({f"{icon}.svg": "image/svg+xml" for icon in _ICONS})
    return kinds


@cache
def _static_bytes(name: str) -> bytes:
    return palette_css() if name == "palette.css" else resource(f"static/{name}")
