"""The start page: the form, the last builds as a strip, and the list."""

from __future__ import annotations

from shlex import quote
from typing import Optional

from minici.ui.components import (
    agent_name,
    ago,
    commit_html,
    duration_html,
    frame,
    panel,
    repository_name,
    seconds_of,
    sign,
    status_badge,
    status_of,
    status_word,
    summary,
)
from minici.ui.filters import (
    filters_of_list,
    is_narrowed,
    kept_filters,
    list_address,
    query_address,
)
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, fill, input_value, join, markup
from minici.ui.messages import TEXTS
from minici.ui.models import BuildJson, FormView, IndexView, PageContext, Waiting
from minici.ui.overview import overview_of
from minici.ui.reasons import reason_text
from minici.ui.refs import project_link, ref_link
from minici.ui.strip import strip_of_builds

_FIELDS = ("commit", "command")
_EVENTS = {"push": "by_push", "tag": "by_tag"}
_ICONS = {"success": "icon-success", "failure": "icon-failure", "lost": "icon-failure"}


def index_page(language: str, view: IndexView) -> Html:
    """The page `/`, also as the answer to a form that was not accepted."""
    translate = Translator(language)
    content = fill(
        "index",
        translate,
        **_form_values(translate, view.form),
        project=_project_field(translate, view),
        refresh="/" if view.form.errors else "",
        summary=summary(translate, view.context),
        no_agents=_no_agents(translate, view.context),
        overview=(overview := overview_of(translate, view)),
        strip=NOTHING if overview else strip_of_builds(translate, view),
        cancel_queued=_cancel_queued(translate, view),
        filters=filters_of_list(translate, view),
        looks=_looks(translate, view),
        list=_list(translate, view),
        pages=_pages(translate, view),
    )
    state, icon = _headline(translate, view)
    title = " · ".join([*state, repository_name(view.context.repository), "minici"])
    return frame(
        translate,
        "index",
        title,
        content,
        view.context,
        icon=icon,
        head=_feed_link(translate, view),
        narrowed=query_address(project=view.project, branch=view.branch)[1:],
    )


def _headline(translate: Translator, view: IndexView) -> tuple[list[str], str]:
    """The title of the tab and its icon, from the last builds without a filter: the number of
    running ones, or the result of the newest one that nobody cancelled."""
    running = sum(status_of(build) == "running" for build in view.last)
    if running:
        return [translate("running_count", n=running)], "icon-running"
    for build in view.last:
        if status_of(build) in _ICONS:
            word = status_word(translate, status_of(build))
            return [translate("build_ended", id=build.get("id"), status=word)], _ICONS[
                status_of(build)
            ]
    return [], "icon-queued" if view.last and status_of(view.last[0]) == "queued" else "icon"


def _feed_link(translate: Translator, view: IndexView) -> Html:
    return markup(
        '<link rel="alternate" type="application/atom+xml" title="$title" href="$url">\n',
        title=translate("feed"),
        url="/feed.atom" + list_address(view)[1:],
    )


def _form_values(translate: Translator, form: FormView) -> dict[str, object]:
    values: dict[str, object] = {
        "commit": input_value(form.commit),
        "command": input_value(form.command),
        "command_rows": min(12, form.command.count("\n") + 1),
        "form_error": "",
    }
    if form.errors:
        text = _error_text(translate, form.errors.get("form", "form_wrong"))
        values["form_error"] = markup('<p class="form-error" role="alert">$text</p>', text=text)
    for field in _FIELDS:
        values.update(_field_error(translate, field, form.errors.get(field)))
    return values


def _project_field(translate: Translator, view: IndexView) -> Html:
    """The choice of a project, which brings its command along; nothing where there is one only."""
    if not view.projects:
        return NOTHING
    options = join(
        markup(
            '<option value="$name" data-command="$command"$selected>$name</option>',
            name=each.name,
            command=input_value(each.command),
            selected=markup(" selected") if each.name == view.form.project else "",
        )
        for each in view.projects
    )
    return markup(
        '<div class="field field-project"><label for="project">$label</label>'
        '<select id="project" name="project">$options</select></div>',
        label=translate("project"),
        options=options,
    )


def _looks(translate: Translator, view: IndexView) -> Html:
    """The failed looks at refs, and a button that looks now."""
    if not view.looks:
        return NOTHING
    failures = join(
        markup(
            '<p class="look-failure" role="status">$text</p>',
            text=translate(
                "look_failed", project=each.project, reason=reason_text(translate, each.reason)
            ),
        )
        for each in view.look_failures
    )
    return markup(
        '<div class="looks">$failures<form method="post" action="/poll">'
        '$kept<button type="submit" class="small">$now</button></form></div>',
        failures=failures,
        kept=kept_filters(view),
        now=translate("look_now"),
    )


def _field_error(translate: Translator, field: str, error: Optional[str]) -> dict[str, object]:
    if not error:
        return {
            f"{field}_described": f"{field}-hint",
            f"{field}_invalid": "",
            f"{field}_error": "",
        }
    return {
        f"{field}_described": f"{field}-error {field}-hint",
        f"{field}_invalid": markup(' aria-invalid="true" autofocus'),
        f"{field}_error": markup(
            '<p class="field-error" id="$field-error">$sign $text</p>',
            field=field,
            sign=sign("refusing"),
            text=_error_text(translate, error),
        ),
    }


def _error_text(translate: Translator, error: str) -> str:
    return translate(error) if error in TEXTS else error


def _no_agents(translate: Translator, context: PageContext) -> Html:
    if context.agents_total:
        return NOTHING
    title, text = translate("no_agents"), translate("no_agents_text")
    return panel(translate, title, text, context.start_agent_command, "panel-warn")


# The list


def _list(translate: Translator, view: IndexView) -> Html:
    if view.builds:
        rows = join(_row(translate, view, build) for build in view.builds)
        return fill("list", translate, rows=rows)
    if is_narrowed(view):
        return _none_match(translate, view)
    title, text = translate("no_builds"), translate("no_builds_text")
    return panel(translate, title, text, _curl_line(view.context, view.form), "panel-empty")


def _none_match(translate: Translator, view: IndexView) -> Html:
    """Nothing fits; or nothing among the builds that one page may read, and older ones may."""
    back = markup('<a class="button" href="/">$all</a>', all=translate("show_all"))
    further = markup(
        '<a class="button" href="$url">$text</a> ', url=view.older, text=translate("look_further")
    )
    return fill(
        "panel",
        translate,
        title=translate("none_match"),
        text=translate("none_match_here" if view.older else "none_match_text"),
        more=markup("<p>$further$back</p>", further=further if view.older else "", back=back),
        kind="panel-empty",
    )


def _curl_line(context: PageContext, form: FormView) -> str:
    command = f"command={form.command or 'make test'}"
    user = f" -u {quote(context.user)}" if context.user else ""
    pairs = f"--data-urlencode commit=HEAD --data-urlencode {quote(command)}"
    return f"curl{user} {context.url}/api/builds {pairs}"


def _row(translate: Translator, view: IndexView, build: BuildJson) -> Html:
    status, number = status_of(build), build.get("id")
    command = str(build.get("command") or "")
    subject = build.get("subject") or ""
    if status == "damaged":
        subject = translate(
            "damaged_text", reason=reason_text(translate, build.get("damaged") or "")
        )
    return fill(
        "row",
        translate,
        status=status,
        id=number,
        number=translate("build_number", id=number),
        badge=status_badge(translate, status),
        commit=commit_html(build),
        subject=subject,
        by=_by(translate, build),
        branch=_ref(translate, view, build),
        command=_first_line(command),
        command_title=command[:1000],
        agent=_agent(translate, build, view),
        started=ago(translate, build.get("started_at"), view.context.now),
        duration=_duration(translate, build, view),
    )


def _ref(translate: Translator, view: IndexView, build: BuildJson) -> Html:
    """The project, where there are several, and the branch or tag."""
    project = project_link(translate, build) if view.projects else NOTHING
    found = [each for each in (project, ref_link(translate, build, view.project)) if each]
    return join([*found, NOTHING], " ")


def _by(translate: Translator, build: BuildJson) -> Html:
    """The person or the event that has started a build, as far as that is known."""
    event, person = build.get("event"), build.get("started_by")
    parts = [person] if person else []
    if event in _EVENTS:
        parts.append(translate(_EVENTS[event]))
    if build.get("rebuild_of"):
        parts.append(translate("by_rebuild", id=build["rebuild_of"]))
    if not parts:
        return NOTHING
    return markup('<span class="by">$parts</span>', parts=" · ".join(map(str, parts)))


def _cancel_queued(translate: Translator, view: IndexView) -> Html:
    """A button that cancels all queued builds that the list shows, or would on further pages."""
    if not view.cancellable:
        return NOTHING
    return markup(
        '<form method="post" action="/cancel" class="cancel-queued">$fields'
        '<button type="submit" class="cancel small">$text</button></form>',
        fields=kept_filters(view, without="status"),
        text=translate("cancel_queued", n=view.cancellable),
    )


def _first_line(command: str) -> str:
    lines = [line for line in command.split("\n") if line.strip()] or [""]
    return lines[0][:300] + (" …" if len(lines) > 1 else "")


def _agent(translate: Translator, build: BuildJson, view: IndexView) -> Html:
    waiting = view.waiting.get(int(build.get("id") or 0))
    if status_of(build) == "queued" and waiting is not None:
        return markup('<span class="why">$why</span>', why=_why(translate, waiting))
    if not build.get("agent"):
        return markup('<span class="none">—</span>')
    return markup('<span class="agent">$name</span>', name=agent_name(view.context, build))


def _why(translate: Translator, waiting: Waiting) -> str:
    if waiting.blocked or not waiting.agents:
        return translate("waits_for_agent")
    if waiting.position <= 1:
        return translate("place_next")
    return translate("place", position=waiting.position)


def _duration(translate: Translator, build: BuildJson, view: IndexView) -> Html:
    seconds = seconds_of(build, view.context.now)
    if seconds is None:
        return markup('<span class="none">—</span>')
    text = duration_html(translate, build, view.context.now)
    usual = view.medians.get(str(build.get("command") or ""))
    if status_of(build) != "running" or not usual:
        return text
    return markup(
        '$text<progress max="$max" value="$value" data-began="$began" aria-label="$usual" '
        'title="$usual"></progress>$late',
        text=text,
        max=round(usual, 1),
        value=round(min(seconds, usual), 1),
        began=build.get("started_at"),
        usual=translate("usual", duration=translate.duration(usual)),
        late=_late(translate, usual) if seconds > usual + max(5.0, usual / 2) else "",
    )


def _late(translate: Translator, usual: float) -> Html:
    text = translate("usual", duration=translate.duration(usual))
    return markup('<span class="late">$text</span>', text=text)


def _pages(translate: Translator, view: IndexView) -> Html:
    if not view.builds and not view.newer:
        return NOTHING
    links: list[tuple[Optional[str], str, str]] = [
        (view.newer, "newer", "← " + translate("newest")),
        (view.older, "older", translate("older") + " →"),
    ]
    shown = [
        markup('<a class="$kind" rel="$rel" href="$url">$text</a>', kind=k, rel=r, url=u, text=t)
        for (u, k, t), r in zip(links, ("prev", "next"))
        if u
    ]
    if not shown:
        return NOTHING
    return markup(
        '<nav class="pages" aria-label="$label">$links</nav>',
        label=translate("pages"),
        links=join(shown),
    )
