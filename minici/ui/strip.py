"""The last builds as a strip of bars: status by colour and mark, duration by height."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import log10
from typing import Optional

from minici.ui.components import seconds_of, status_of, status_word
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, join, markup
from minici.ui.models import BuildJson, IndexView

STRIP_LENGTH = 60  # builds
BAR_UNITS, _MOST_BAR_PIXELS = 12, 14  # the width of a bar in the drawing, and at most on screen
_LEAST_SCALE_SECONDS = 0.05  # the scale of a strip whose builds are all shorter


def strip_of_builds(translate: Translator, view: IndexView) -> Html:
    builds = list(view.last[:STRIP_LENGTH])
    if len(builds) < 2 or view.filter or view.text or view.newer:
        return NOTHING
    title = translate("strip_title", n=len(builds))
    counts = _counts(translate, builds)
    text = translate("strip_text", title=title, summary=counts, scale=translate("strip_scale"))
    drawn = join(bars(translate, builds, view.context.now))
    return markup(
        '<figure class="strip"><div class="strip-bars"><svg viewBox="0 0 $units 48" '
        'width="$width" role="group" aria-label="$text"><path class="base" d="M0 47.5H$units"/>'
        "$bars</svg></div><figcaption>$title: $counts. $scale</figcaption></figure>",
        units=BAR_UNITS * len(builds),
        width=_MOST_BAR_PIXELS * len(builds),
        text=text,
        bars=drawn,
        title=title,
        counts=counts,
        scale=translate("strip_scale"),
    )


_COUNTS = {
    "queued": "count_queued",
    "running": "count_running",
    "success": "count_success",
    "failure": "count_failure",
    "lost": "count_lost",
    "cancelled": "count_cancelled",
    "damaged": "count_damaged",
}


def _counts(translate: Translator, builds: Sequence[BuildJson]) -> str:
    statuses = [status_of(build) for build in builds]
    counted = [(status, statuses.count(status)) for status in _COUNTS]
    return ", ".join(translate(_COUNTS[status], n=n) for status, n in counted if n)


def bars(translate: Translator, builds: Sequence[BuildJson], now: datetime) -> list[Html]:
    """The bar of each build, for a drawing that is 48 high; `builds` begins with the newest."""
    seconds = [seconds_of(build, now) for build in builds]
    longest = max([_LEAST_SCALE_SECONDS] + [value for value in seconds if value is not None])
    right = BAR_UNITS * (len(builds) - 1)
    return [
        _bar(translate, build, value, _height(value, longest), right - BAR_UNITS * place)
        for place, (build, value) in enumerate(zip(builds, seconds))
    ]


def _height(seconds: Optional[float], longest: float) -> float:
    """4 to 44: the logarithm, so that a build of seconds is seen beside one of an hour."""
    share = log10(1 + (seconds or 0.0)) / log10(1 + longest)
    return round(4 + 40 * share, 1)


# A mark on the bar of each status that is no plain success, drawn around (0, 0).
_MARKS = {
    "failure": "m-2.5-2.5 5 5m0-5-5 5",
    "lost": "M-2-1.5a2 2 0 1 1 2 2v1m0 2v.1",
    "cancelled": "m-2.5 2.5 5-5",
    "damaged": "M0-3v3m0 2.5v.1",
}


def _bar(
    translate: Translator, build: BuildJson, seconds: Optional[float], height: float, left: int
) -> Html:
    status = status_of(build)
    label = [translate("build_number", id=build.get("id")), status_word(translate, status)]
    if seconds is not None:
        label.append(translate.duration(seconds))
    marked = max(height, 12.0) if status in _MARKS else height
    return markup(
        '<a class="bar-$status" href="/build/$id" tabindex="-1"><title>$label</title>'
        '<rect class="hit" x="$left" y="0" width="12" height="48"/>'
        '<rect class="body" x="$x" y="$y" width="9" height="$height" rx="1.5"/>$mark</a>',
        id=build.get("id"),
        status=status,
        label=", ".join(label),
        left=left,
        x=left + 1.5,
        y=round(47 - marked, 1),
        height=marked,
        mark=_bar_mark(status, left + 6, 53 - marked),
    )


def _bar_mark(status: str, x: float, y: float) -> Html:
    if status not in _MARKS:
        return NOTHING
    return markup(
        '<path class="mark" transform="translate($x $y)" d="$drawing"/>',
        x=x,
        y=round(y, 1),
        drawing=_MARKS[status],
    )
