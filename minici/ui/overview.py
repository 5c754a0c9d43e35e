"""The branches on the start page: which are broken now, since when, by which commit of whom."""

from __future__ import annotations

from collections.abc import Sequence

from minici.ui.components import ago, sign, status_of, status_word
from minici.ui.filters import query_address
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, join, markup, phrase
from minici.ui.models import BranchView, BuildJson, IndexView, ProjectView
from minici.ui.strip import BAR_UNITS, bars

_STRIP_BUILDS = 12  # of a branch
_BAR_PIXELS = 6
_TREND_WIDTH, _TREND_HEIGHT = 160, 24
_LEAST_TREND = 3  # builds


def overview_of(translate: Translator, view: IndexView) -> Html:
    """Each branch of each project with its state and its last builds, broken ones first.

    Nothing where no branch has builds, and on lists that are narrowed to something else.
    """
    projects = [each for each in view.overview if view.project in (None, each.name)]
    if not projects or view.newer or view.filter or view.text or view.branch:
        return NOTHING
    branches = [branch for project in projects for branch in project.branches]
    broken = sum(branch.broken_since is not None for branch in branches)
    return markup(
        '<section class="overview" aria-labelledby="overview-title">'
        '<h3 id="overview-title">$title<span class="summary"> · $broken</span></h3>'
        '<ul class="branches">$all_broken</ul>$projects</section>',
        title=translate("branches"),
        broken=translate("broken_count", n=broken, all=len(branches))
        if broken
        else translate("none_broken"),
        all_broken=join(
            _branch(translate, view, project, branch)
            for project in projects
            for branch in project.branches
            if branch.broken_since is not None
        ),
        projects=join(_project(translate, view, project) for project in projects),
    )


def _project(translate: Translator, view: IndexView, project: ProjectView) -> Html:
    """The branches of a project that are not broken, and the trend of its durations.

    Nothing where there is neither: broken branches stand above with its name.
    """
    trend = _trend(translate, project.seconds)
    whole = [branch for branch in project.branches if branch.broken_since is None]
    if not (whole or trend):
        return NOTHING
    named = len(view.overview) > 1
    name = markup(
        '<h4><a href="$url">$name</a></h4>',
        url=query_address(project=project.name),
        name=project.name,
    )
    return markup(
        '<div class="project"><div class="project-head">$name$trend</div>'
        '<ul class="branches">$branches</ul></div>',
        name=name if named else NOTHING,
        trend=trend,
        branches=join(_branch(translate, view, project, branch) for branch in whole),
    )


def _branch(
    translate: Translator, view: IndexView, project: ProjectView, branch: BranchView
) -> Html:
    status, shown = status_of(branch.newest), branch.builds[-_STRIP_BUILDS:]
    return markup(
        '<li class="branch badge-$status"><span class="branch-head" title="$word">$sign'
        '<span class="hidden">$word:</span> $project'
        '<a href="$url" class="branch-name">$name</a></span>'
        '<svg class="branch-strip" viewBox="0 0 $units 48" width="$width" height="28" role="group" '
        'aria-label="$label">$bars</svg>$since</li>',
        status=status,
        word=status_word(translate, status),
        sign=sign(status),
        url=query_address(project=project.name if view.projects else None, branch=branch.name),
        name=branch.name,
        units=BAR_UNITS * len(shown),
        width=_BAR_PIXELS * len(shown),
        label=translate("strip_title", n=len(shown)),
        bars=join(bars(translate, list(reversed(shown)), view.context.now)),
        since=_since(translate, view, branch),
        project=_project_name(view, project) if branch.broken_since else NOTHING,
    )


def _project_name(view: IndexView, project: ProjectView) -> Html:
    if len(view.overview) < 2:
        return NOTHING
    return markup(
        '<a class="author" href="$url">$name</a> <span class="author">/</span> ',
        url=query_address(project=project.name),
        name=project.name,
    )


def _since(translate: Translator, view: IndexView, branch: BranchView) -> Html:
    """Since when a branch is broken, by which build and commit, and by whom."""
    first = branch.broken_since
    if first is None:
        return NOTHING
    return markup(
        '<p class="since">$since: <a href="/build/$id">$number</a> <code>$revision</code> '
        '<span class="subject">$subject</span>$author</p>',
        since=phrase(
            translate,
            "broken_since",
            ago=ago(translate, first.get("finished_at"), view.context.now),
        ),
        id=first.get("id"),
        number=translate("build_number", id=first.get("id")),
        revision=str(first.get("revision") or "")[:10],
        subject=first.get("subject") or "",
        author=_author(first),
    )


def _author(build: BuildJson) -> Html:
    if not build.get("author"):
        return NOTHING
    name = str(build["author"]).split(" <")[0]
    return markup(' <span class="author">$author</span>', author=name)


def _trend(translate: Translator, seconds: Sequence[float]) -> Html:
    """The durations of the last successes as a line, oldest on the left."""
    if len(seconds) < _LEAST_TREND:
        return NOTHING
    longest, step = max(*seconds, 0.1), _TREND_WIDTH / (len(seconds) - 1)
    points = " ".join(
        f"{step * place:.1f},{_TREND_HEIGHT - 2 - (_TREND_HEIGHT - 4) * value / longest:.1f}"
        for place, value in enumerate(seconds)
    )
    ordered, middle = sorted(seconds), len(seconds) // 2
    text = translate(
        "trend",
        usual=translate.duration((ordered[middle] + ordered[~middle]) / 2),
        last=translate.duration(seconds[-1]),
    )
    return markup(
        '<span class="trend"><svg viewBox="0 0 $width $height" width="$width" height="$height" '
        'aria-hidden="true"><path class="area" d="M0,$height L$points V$height"/>'
        '<path class="line" d="M$points"/></svg> $text</span>',
        width=_TREND_WIDTH,
        height=_TREND_HEIGHT,
        points=points,
        text=text,
    )
