"""The page of all agents: their builds, troubles and last 24 hours."""

from __future__ import annotations

import re

from minici.ui.components import (
    ago,
    elapsed_html,
    frame,
    labels_html,
    panel,
    short_commit,
    sign_and_word,
    summary,
)
from minici.ui.history_chart import history_chart
from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, fill, input_value, join, markup, phrase
from minici.ui.models import AgentsView, AgentView, PageContext, RunningBuild
from minici.ui.reasons import reason_text

_STATES = {
    "ready": "agent_ready",
    "busy": "agent_busy",
    "gone": "agent_gone",
    "refusing": "agent_refusing",
    "trouble": "agent_trouble",
    "paused": "agent_paused",
}

_FORMS = {
    "pause": ("pause_agent", "pause_agent_named"),
    "resume": ("resume_agent", "resume_agent_named"),
    "forget": ("forget_agent", "forget_agent_named"),
}


def agents_page(language: str, view: AgentsView) -> Html:
    """The page `/agents`."""
    translate = Translator(language)
    if view.agents:
        rows = join(_agent(translate, view.context, agent) for agent in view.agents)
        agents = fill("agent_list", translate, rows=rows)
        start_title, start_text = translate("start_agent"), translate("start_agent_text")
    else:
        agents = NOTHING
        start_title, start_text = translate("no_agents"), translate("no_agents_text")
    kind = "" if view.context.agents_total else "panel-warn"
    content = fill(
        "agents",
        translate,
        summary=summary(translate, view.context),
        list=agents,
        start=panel(translate, start_title, start_text, view.context.start_agent_command, kind),
    )
    title = f"{translate('agents_title')} · minici"
    return frame(translate, "agents", title, content, view.context, refresh=True)


def _agent(translate: Translator, context: PageContext, agent: AgentView) -> Html:
    state = agent.state if agent.state in _STATES else "gone"
    heard = ago(translate, agent.heard, context.now) if agent.heard else phrase(translate, "never")
    return fill(
        "agent",
        translate,
        id=re.sub(r"[^A-Za-z0-9.-]", "-", agent.address),
        state=state,
        badge=sign_and_word(state, translate(_STATES[state])),
        name=agent.name,
        address=agent.address,
        slots=f"{len(agent.running)} / {agent.slots}",
        running=_doing(translate, context, agent, state),
        heard=heard,
        forget=_form(translate, agent, "forget", "address") if state == "gone" else "",
        pause=_pause(translate, agent, state),
        labels=_labels(translate, agent),
        disk=_disk_usage(translate, agent),
        day=history_chart(translate, agent.history),
    )


def _doing(translate: Translator, context: PageContext, agent: AgentView, state: str) -> Html:
    """The builds that it runs; of an agent that is gone or has trouble, why."""
    note = NOTHING
    if state == "gone" and agent.gone_since:
        lost = phrase(translate, "agent_lost", ago=ago(translate, agent.gone_since, context.now))
        note = _note(lost)
    reason = NOTHING
    if agent.trouble or agent.note:
        text = reason_text(translate, agent.trouble or agent.note)
        reason = _note(text)
    if agent.paused and state != "paused":
        reason = join((reason, _note(translate("agent_paused_too"))))
    parts = [note, reason, *(_running(translate, context, build) for build in agent.running)]
    idle = markup('<span class="none">$text</span>', text=translate("agent_idle"))
    return join(parts) or idle


def _pause(translate: Translator, agent: AgentView, state: str) -> Html:
    """The button that pauses it or ends its pause; one that is gone gets no builds anyway."""
    if state == "gone" and not agent.paused:
        return NOTHING
    return _form(translate, agent, "resume" if agent.paused else "pause", "agent")


def _note(text: object) -> Html:
    return markup('<span class="note">$text</span>', text=text)


def _labels(translate: Translator, agent: AgentView) -> Html:
    return labels_html(translate("agent_labels"), agent.labels)


def _disk_usage(translate: Translator, agent: AgentView) -> Html:
    if agent.mirrors_bytes is None or agent.workspaces_bytes is None:
        return NOTHING
    text = translate(
        "agent_disk",
        mirrors=translate.size(agent.mirrors_bytes),
        workspaces=translate.size(agent.workspaces_bytes),
    )
    return markup('<span class="disk">$text</span>', text=text)


def _form(translate: Translator, agent: AgentView, verb: str, parameter: str) -> Html:
    """A button that asks for something to be done with the agent."""
    text, label = _FORMS[verb]
    return markup(
        '<form method="post" action="/agents/$verb"><input type="hidden" name="$parameter" '
        'value="$address"><button type="submit" class="small" aria-label="$label">$text</button>'
        "</form>",
        verb=verb,
        parameter=parameter,
        address=input_value(agent.address),
        label=translate(label, name=agent.name),
        text=translate(text),
    )


def _running(translate: Translator, context: PageContext, build: RunningBuild) -> Html:
    return markup(
        '<span class="running"><a href="/build/$id">$number</a> <code title="$command">$commit'
        '</code> <span class="since">$since</span></span>',
        id=build.id,
        number=translate("build_number", id=build.id),
        command=build.command[:1000],
        commit=short_commit({"commit": build.commit}),
        since=elapsed_html(translate, build.since, context.now),
    )
