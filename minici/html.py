"""The pages: data in, page out. Pure; `ui/models.py` holds what each is made from.

The pages use no inline script and no inline style and ask no other host for anything, so
that `CONTENT_SECURITY_POLICY` can forbid all of it.
"""

from __future__ import annotations

from typing import Optional

from minici.ui.agents import agents_page
from minici.ui.badge import badge_json, badge_svg
from minici.ui.build import build_page
from minici.ui.components import as_sentence, frame, repository_name, static_file
from minici.ui.feeds import MonitoredProject, atom_feed, cctray
from minici.ui.i18n import LANGUAGES, Translator, choose_language
from minici.ui.index import index_page
from minici.ui.markup import Html, fill, markup
from minici.ui.messages import TEXTS
from minici.ui.models import (
    AgentsView,
    AgentView,
    BranchView,
    BuildJson,
    BuildView,
    FilesView,
    FormView,
    FoundLine,
    HookFailureView,
    IndexView,
    LookFailure,
    OutputPiece,
    PageContext,
    ProjectChoice,
    ProjectView,
    RunningBuild,
    Waiting,
)
from minici.ui.reasons import reason_text

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "LANGUAGES",
    "AgentView",
    "AgentsView",
    "BranchView",
    "BuildJson",
    "BuildView",
    "FilesView",
    "FormView",
    "FoundLine",
    "HookFailureView",
    "Html",
    "IndexView",
    "LookFailure",
    "OutputPiece",
    "RunningBuild",
    "PageContext",
    "ProjectChoice",
    "ProjectView",
    "Waiting",
    "Translator",
    "agents_page",
    "atom_feed",
    "badge_json",
    "badge_svg",
    "build_page",
    "MonitoredProject",
    "cctray",
    "choose_language",
    "error_page",
    "index_page",
    "repository_name",
    "static_file",
]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

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


def error_page(
    language: str, status: int, sentence: str = "", context: Optional[PageContext] = None
) -> Html:
    """A page for a status of 400 or above: what happened, and what to do about it.

    `sentence`, a sentence or a text's key, says more where the server knows more. Without
    `context` the page tells nothing about the server: for somebody who has not signed in.
    """
    translate = Translator(language)
    title, advice = _ERRORS.get(
        status, ("error_other", "advice_500" if status >= 500 else "advice_400")
    )
    said = reason_text(translate, sentence)
    sentence = translate(sentence) if sentence in TEXTS else as_sentence(said)
    detail = markup('<p class="sentence">$sentence</p>', sentence=sentence)
    content = fill(
        "error",
        translate,
        status=status,
        title=translate(title),
        sentence=detail if sentence.rstrip(".") not in ("", translate(title)) else "",
        advice=translate(advice),
    )
    return frame(translate, "error", f"{translate(title)} · minici", content, context)
