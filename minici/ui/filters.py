"""The filters of the list of builds: a status, a text, a project, a branch."""

from __future__ import annotations

from typing import Optional
from urllib.parse import urlencode

from minici.ui.components import STATUSES, sign, status_word
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, input_value, join, markup
from minici.ui.models import IndexView


def query_address(**values: Optional[object]) -> str:
    """The start page with these parameters, those that are None left out."""
    query = urlencode({name: str(value) for name, value in values.items() if value})
    return "/?" + query if query else "/"


def list_address(view: IndexView, **changed: Optional[str]) -> str:
    """The list as it is narrowed now, but for what is changed."""
    return query_address(**{**_filters(view), **changed})


def _filters(view: IndexView) -> dict[str, Optional[str]]:
    return {
        "status": view.filter,
        "text": view.text,
        "project": view.project,
        "branch": view.branch,
    }


def kept_filters(view: IndexView, without: str = "") -> Html:
    """The filters of the list as hidden fields of a form, all but one."""
    return join(
        markup(
            '<input type="hidden" name="$name" value="$value">',
            name=name,
            value=input_value(value),
        )
        for name, value in _filters(view).items()
        if value and name != without
    )


def is_narrowed(view: IndexView) -> bool:
    """True if the list shows only a part of the builds."""
    return list_address(view) != "/"


def filters_of_list(translate: Translator, view: IndexView) -> Html:
    """The links and the field by which the list is narrowed."""
    if not view.builds and not is_narrowed(view):
        return NOTHING
    links = join(_status_link(translate, view, status) for status in (None,) + STATUSES)
    return markup(
        '<div class="filters"><nav class="chips" aria-label="$label">$links</nav>$narrowed$text'
        "</div>",
        label=translate("filter_label"),
        links=links,
        narrowed=_narrowed(translate, view),
        text=_text_filter(translate, view),
    )


def _status_link(translate: Translator, view: IndexView, status: Optional[str]) -> Html:
    return markup(
        '<a href="$address" class="chip chip-$status"$current>$sign$word</a> ',
        address=list_address(view, status=status),
        status=status or "all",
        current=markup(' aria-current="true"') if status == view.filter else "",
        sign=sign(status) if status else "",
        word=status_word(translate, status) if status else translate("all"),
    )


def _narrowed(translate: Translator, view: IndexView) -> Html:
    """The project and the branch that are shown, each with a link that shows all again."""
    chosen = (("project", view.project), ("branch", view.branch))
    links = join(
        markup(
            '<a class="chip chip-$kind" href="$all" title="$title" aria-label="$title: $name">'
            '$label: $name <span aria-hidden="true">×</span></a> ',
            kind=kind,
            all=list_address(view, **{kind: None}),
            title=translate("show_all"),
            label=translate(kind),
            name=name,
        )
        for kind, name in chosen
        if name
    )
    return markup('<p class="narrowed">$links</p>', links=links) if links else NOTHING


def _text_filter(translate: Translator, view: IndexView) -> Html:
    return markup(
        '<form class="text-filter" role="search" action="/">$hidden'
        '<input type="search" name="text" value="$text" aria-label="$label" placeholder="$label">'
        '<button type="submit" aria-label="$apply" title="$apply">$glass</button></form>',
        hidden=kept_filters(view, without="text"),
        text=input_value(view.text or ""),
        label=translate("filter_text"),
        apply=translate("filter_apply"),
        glass=sign("search"),
    )
