"""The project and the ref of a build, each as a link to the list of such builds."""

from __future__ import annotations

from typing import Optional

from minici.ui.components import short_ref
from minici.ui.filters import query_address
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, markup
from minici.ui.models import BuildJson

_BRANCH_PREFIX = "refs/heads/"
_TITLES = {"project": "filter_project", "branch": "filter_branch", "tag": "filter_tag"}


def project_link(translate: Translator, build: BuildJson) -> Html:
    """The project of a build; nothing where it has none."""
    if not build.get("project"):
        return NOTHING
    name = str(build["project"])
    return _link(translate, "project", name, query_address(project=name))


def ref_link(translate: Translator, build: BuildJson, project: Optional[str]) -> Html:
    """The branch or tag of a build, in the list of `project`; nothing where it has none."""
    ref = str(build.get("ref") or "")
    if not ref:
        return NOTHING
    name = short_ref(ref)
    if ref.startswith(_BRANCH_PREFIX):
        return _link(translate, "branch", name, query_address(project=project, branch=name))
    text = build.get("commit")
    return _link(translate, "tag", name, query_address(text=text, project=project))


def _link(translate: Translator, kind: str, name: str, address: str) -> Html:
    return markup(
        '<a class="ref ref-$kind" href="$url" title="$title">$text</a>',
        kind=kind,
        url=address,
        title=translate(_TITLES[kind]),
        text=name,
    )
