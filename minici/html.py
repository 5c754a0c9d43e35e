"""The pages: data in, page out. Pure; `views.py` says what each is made from.

The pages use no inline script and no inline style and ask no other host for anything, so
that `CONTENT_SECURITY_POLICY` can forbid all of it.
"""

from __future__ import annotations

from typing import Optional

from minici.html_build import build_page
from minici.html_index import index_page
from minici.markup import NOTHING, Html, fill, join, markup, phrase, typed
from minici.parts import ago, frame, labelled, panel, short_commit, static_file, summary
from minici.phrases import TEXTS
from minici.sentences import said
from minici.texts import Words, choose_language
from minici.views import AgentsView, AgentView, RunningBuild, Site

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "Html",
    "agents_page",
    "build_page",
    "choose_language",
    "error_page",
    "index_page",
    "static_file",
]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_STATES = {
    "ready": "agent_ready",
    "busy": "agent_busy",
    "gone": "agent_gone",
    "refusing": "agent_refusing",
}
_ERRORS = {
    400: ("error_400", "advice_400"),
    401: ("error_401", "advice_401"),
    403: ("error_403", "advice_403"),
    404: ("error_404", "advice_404"),
    405: ("error_405", "advice_405"),
    413: ("error_413", "advice_413"),
    421: ("error_421", "advice_421"),
    500: ("error_500", "advice_500"),
    503: ("error_503", "advice_503"),
}


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
    content = fill(
        "agents",
        words,
        summary=summary(words, view.site),
        list=agents,
        start=panel(words, start_title, start_text, view.site.start_agent_command),
    )
    title = f"{words('agents_title')} · minici"
    return frame(words, "agents", title, content, view.site, refresh=True)


def _agent(words: Words, site: Site, agent: AgentView) -> Html:
    state = agent.state if agent.state in _STATES else "gone"
    heard = ago(words, agent.heard, site.now) if agent.heard else phrase(words, "never")
    running = join(_running(words, site, build) for build in agent.running)
    idle = markup('<span class="none">$text</span>', text=words("agent_idle"))
    note = markup('<span class="note">$note</span>', note=said(words, agent.note))
    return fill(
        "agent",
        words,
        state=state,
        badge=labelled(state, words(_STATES[state])),
        name=agent.name,
        address=agent.address,
        slots=f"{len(agent.running)} / {agent.slots}",
        running=running or idle,
        heard=heard,
        forget=_forget(words, agent) if state == "gone" else "",
        note=note if agent.note else "",
    )


def _forget(words: Words, agent: AgentView) -> Html:
    return markup(
        '<form method="post" action="/agents/forget"><input type="hidden" name="address" '
        'value="$address"><button type="submit" class="small">$text</button></form>',
        address=typed(agent.address),
        text=words("forget_agent"),
    )


def _running(words: Words, site: Site, build: RunningBuild) -> Html:
    return markup(
        '<span class="running"><a href="/build/$id">$number</a> <code>$commit</code> '
        '<span class="since">$since</span></span>',
        id=build.id,
        number=words("build_number", id=build.id),
        commit=short_commit({"commit": build.commit}),
        since=ago(words, build.since, site.now),
    )


def error_page(language: str, status: int, sentence: str = "", site: Optional[Site] = None) -> Html:
    """A page for a status of 400 or above: what happened, and what to do about it.

    `sentence`, a sentence or a text's key, says more where the server knows more. Without
    `site` the page tells nothing about the server: for somebody who has not signed in.
    """
    words = Words(language)
    title, advice = _ERRORS.get(
        status, ("error_other", "advice_500" if status >= 500 else "advice_400")
    )
    sentence = words(sentence) if sentence in TEXTS else _tidy(said(words, sentence))
    detail = markup('<p class="sentence">$sentence</p>', sentence=sentence)
    content = fill(
        "error",
        words,
        status=status,
        title=words(title),
        sentence=detail if sentence.rstrip(".") not in ("", words(title)) else "",
        advice=words(advice),
    )
    return frame(words, "error", f"{words(title)} · minici", content, site)


def _tidy(sentence: str) -> str:
    """A sentence of the server, which begins small, as one that stands alone."""
    end = "" if not sentence or sentence[-1] in ".!?…" else "."
    return sentence[:1].upper() + sentence[1:] + end
