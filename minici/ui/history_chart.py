"""The last 24 hours of an agent as a small drawing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, markup

_QUARTERS_BETWEEN_MARKS = 24  # six hours
_QUARTER_PIXELS, _CHART_PIXELS = 2, 22
_FULL_PIXELS = _CHART_PIXELS - 1


def history_chart(translate: Translator, history: Sequence[tuple[float, float, float]]) -> Html:
    """A band where the agent was connected, filled as far as it was busy, and a line where it was
    gone; empty without a history. See `AgentView.history`."""
    if not history:
        return NOTHING
    return markup(
        '<svg class="day" viewBox="0 0 $width $height" width="$width" height="$height" role="img" '
        'aria-label="$text"><title>$text</title><path class="here" d="$here"/>'
        '<path class="busy" d="$busy"/><path class="gone" d="$gone"/>'
        '<path class="base" d="$scale"/></svg>',
        width=_QUARTER_PIXELS * len(history),
        height=_CHART_PIXELS,
        text=_history_text(translate, history),
        here="".join(
            _bar(*run) for run in _runs([_FULL_PIXELS * (here > 0) for here, _, _ in history])
        ),
        busy=_bars(_busy_pixels(*quarter) for quarter in history),
        gone="".join(
            f"M{a} {_CHART_PIXELS // 2}H{b}" for a, b, _ in _runs([g > h for h, g, _ in history])
        ),
        scale=_scale(len(history)),
    )


def _history_text(translate: Translator, history: Sequence[tuple[float, float, float]]) -> str:
    here, gone, busy = map(sum, zip(*history))
    parts = [
        translate("day_here", duration=translate.duration(here)),
        translate("day_busy", percent=round(100 * busy / here) if here else 0),
    ]
    if gone >= 1:
        parts.append(translate("day_gone", duration=translate.duration(gone)))
    return f"{translate('agent_day')}: {', '.join(parts)}"


def _busy_pixels(here: float, _: float, busy: float) -> int:
    return round(_FULL_PIXELS * busy / here) if here else 0


def _runs(levels: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Begin, end and height of the stretches of one height above 0."""
    end = 0
    for level, alike in groupby(levels):
        begin, end = end, end + _QUARTER_PIXELS * len(list(alike))
        if level:
            yield begin, end, level


def _bar(begin: int, end: int, high: int) -> str:
    return f"M{begin} {_CHART_PIXELS - high}H{end}V{_CHART_PIXELS}H{begin}z"


def _bars(levels: Iterable[int]) -> str:
    return "".join(_bar(*run) for run in _runs(levels))


def _dashes(gone: Iterable[bool]) -> str:
    return "".join(f"M{begin} {_CHART_PIXELS // 2}H{end}" for begin, end, _ in _runs(gone))


def _scale(quarters: int) -> str:
    marks = range(_QUARTERS_BETWEEN_MARKS, quarters, _QUARTERS_BETWEEN_MARKS)
    line = f"M0 {_CHART_PIXELS - 0.5}H{_QUARTER_PIXELS * quarters}"
    return line + "".join(f"M{at * _QUARTER_PIXELS} {_CHART_PIXELS}v-4" for at in marks)
