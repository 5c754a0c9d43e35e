"""The log of the checkout on a build's page, above the output."""

from __future__ import annotations

import json

from minici.ui.ansi import Log
from minici.ui.i18n import Translator
from minici.ui.log_html import render_unnumbered
from minici.ui.markup import NOTHING, Html, fill, join, markup
from minici.ui.models import BuildView, OutputPiece
from minici.ui.output import address_of, command_has_begun

_MOST_LINES = 500  # shown on the page; a link leads to all


def checkout_section(translate: Translator, view: BuildView) -> Html:
    """The lines that git printed, unfolded until the command has begun.

    The section is hidden while there is nothing: a running build's page fills it.
    """
    log = Log()
    log.write(OutputPiece("stdout", 0.0, view.checkout))
    del log.lines[:-_MOST_LINES]
    shown = view.shown_attempt
    return fill(
        "checkout",
        translate,
        state=_state(view),
        url=address_of(view, "/checkout", attempt=shown),
        next=log.next,
        open=json.dumps(log.open()),
        lines=render_unnumbered(log),
    )


def _state(view: BuildView) -> Html:
    unfolded = NOTHING if command_has_begun(view) else markup(" open")
    return join((unfolded, NOTHING if view.checkout else markup(" hidden")))
