"""The page of all agents: what each runs, and how its last day went."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from minici.ui.components import ago, clock, frame, labelled, panel, short_commit, summary
from minici.ui.i18n import Words
from minici.ui.markup import NOTHING, Html, fill, join, markup, phrase, typed
from minici.ui.models import AgentsView, AgentView, RunningBuild, Site
from minici.ui.reasons import said

_STATES = {
    "ready": "agent_ready",
    "busy": "agent_busy",
    "gone": "agent_gone",
    "refusing": "agent_refusing",
}
_SIX_HOURS = 24  # quarters from one mark below the drawing to the next
_WIDE, _HIGH = 2, 22  # a quarter of an hour in the drawing
_FULL = _HIGH - 1


def agents_page(language: str, view: AgentsView) -> Html:
    """The page `/agents`."""
    words = Words(language)
    if view.agents:
        rows = join(_agent(words, view.site, agent) for agent in view.agents)
        agents = fill("agent_list", words, rows=rows)
        start_title, start_text = words("start_agent"), words("start_agent_text")
    else:
        agents = NOTHING
        start_title, start_text = words("no_agents"), words("no_agents_text")
    kind = "" if view.site.agents_total else "panel-warn"
    content = fill(
        "agents",
        words,
        summary=summary(words, view.site),
        list=agents,
        start=panel(words, start_title, start_text, view.site.start_agent_command, kind),
    )
    title = f"{words('agents_title')} · minici"
    return frame(words, "agents", title, content, view.site, refresh=True)


def _agent(words: Words, site: Site, agent: AgentView) -> Html:
    state = agent.state if agent.state in _STATES else "gone"
    heard = ago(words, agent.heard, site.now) if agent.heard else phrase(words, "never")
    return fill(
        "agent",
        words,
        id=re.sub(r"[^A-Za-z0-9.-]", "-", agent.address),
        state=state,
        badge=labelled(state, words(_STATES[state])),
        name=agent.name,
        address=agent.address,
        slots=f"{len(agent.running)} / {agent.slots}",
        running=_doing(words, site, agent, state),
        heard=heard,
        forget=_forget(words, agent) if state == "gone" else "",
        day=_day(words, agent.day),
    )


def _doing(words: Words, site: Site, agent: AgentView, state: str) -> Html:
    """What it runs; of an agent that is gone, since when and why."""
    note = NOTHING
    if state == "gone" and agent.gone_since:
        lost = phrase(words, "agent_lost", ago=ago(words, agent.gone_since, site.now))
        note = markup('<span class="note">$lost</span>', lost=lost)
    reason = NOTHING
    if agent.note:
        reason = markup('<span class="note">$note</span>', note=said(words, agent.note))
    parts = [note, reason, *(_running(words, site, build) for build in agent.running)]
    idle = markup('<span class="none">$text</span>', text=words("agent_idle"))
    return join(parts) or idle


def _forget(words: Words, agent: AgentView) -> Html:
    return markup(
        '<form method="post" action="/agents/forget"><input type="hidden" name="address" '
        'value="$address"><button type="submit" class="small" aria-label="$label">$text</button>'
        "</form>",
        address=typed(agent.address),
        label=words("forget_agent_named", name=agent.name),
        text=words("forget_agent"),
    )


def _running(words: Words, site: Site, build: RunningBuild) -> Html:
    return markup(
        '<span class="running"><a href="/build/$id">$number</a> <code title="$command">$commit'
        '</code> <span class="since">$since</span></span>',
        id=build.id,
        number=words("build_number", id=build.id),
        command=build.command[:1000],
        commit=short_commit({"commit": build.commit}),
        since=clock(words, build.since, site.now),
    )


# The last 24 hours: a band where the agent was there, filled as far as it was busy, and a broken
# line where it was gone.


def _day(words: Words, day: Sequence[tuple[float, float, float]]) -> Html:
    if not day:
        return NOTHING
    return markup(
        '<svg class="day" viewBox="0 0 $width $height" width="$width" height="$height" role="img" '
        'aria-label="$text"><title>$text</title><path class="here" d="$here"/>'
        '<path class="busy" d="$busy"/><path class="gone" d="$gone"/>'
        '<path class="base" d="$scale"/></svg>',
        width=_WIDE * len(day),
        height=_HIGH,
        text=_day_text(words, day),
        here="".join(_bar(*run) for run in _runs([_FULL * (here > 0) for here, _, _ in day])),
        busy="".join(_bar(*run) for run in _runs([_filling(*quarter) for quarter in day])),
        gone="".join(f"M{a} {_HIGH // 2}H{b}" for a, b, _ in _runs([g > h for h, g, _ in day])),
        scale=f"M0 {_HIGH - 0.5}H{_WIDE * len(day)}"
        + "".join(f"M{at * _WIDE} {_HIGH}v-4" for at in range(_SIX_HOURS, len(day), _SIX_HOURS)),
    )


def _day_text(words: Words, day: Sequence[tuple[float, float, float]]) -> str:
    here, gone, busy = map(sum, zip(*day))
    parts = [
        words("day_here", duration=words.duration(here)),
        words("day_busy", percent=round(100 * busy / here) if here else 0),
    ]
    if gone >= 1:
        parts.append(words("day_gone", duration=words.duration(gone)))
    return f"{words('agent_day')}: {', '.join(parts)}"


def _filling(here: float, _: float, busy: float) -> int:
    return round(_FULL * busy / here) if here else 0


def _runs(levels: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Where in the drawing a level that is not 0 begins and ends: a quiet day is one stroke."""
    end = 0
    for level, alike in groupby(levels):
        begin, end = end, end + _WIDE * len(list(alike))
        if level:
            yield begin, end, level


def _bar(begin: int, end: int, high: int) -> str:
    return f"M{begin} {_HIGH - high}H{end}V{_HIGH}H{begin}z"
