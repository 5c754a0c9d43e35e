"""A build's status as a small picture for other pages, and as the JSON that shields.io draws from.

Pure. No build at all is a badge too, a grey one: a picture in somebody's README never breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from minici.ui.components import status_of, status_word
from minici.ui.i18n import Translator
from minici.ui.markup import Html, markup
from minici.ui.models import BuildJson

# The light colours of the statuses in static/style.css; a test holds them together.
COLOURS = {
    "success": "#1b7a45",
    "failure": "#b3261e",
    "running": "#2360b3",
    "queued": "#7b5d11",
    "lost": "#7f3c9c",
    "cancelled": "#5b6168",
    "damaged": "#a1440c",
}
NO_BUILD = COLOURS["cancelled"]
LABEL_GROUND = "#3a4048"

_MOST_LABEL = 60  # characters
_PADDING = 6.0
# How wide Verdana's characters are at 11 pixels, by kind. The picture says how long each text is,
# so that it fits where another font is used, or where this is not quite right.
_WIDTHS = {
    **dict.fromkeys("ijl.,:;'|!", 3.6),
    **dict.fromkeys('frtI-/()[]" ', 4.8),
    **dict.fromkeys("mwMW@%щшжюмфыЩШЖЮМФЫД", 9.6),
}
_CAPITAL, _PLAIN = 7.8, 6.8


def badge_svg(
    translate: Translator, build: Optional[BuildJson], label: Optional[str] = None
) -> Html:
    """The picture: `label`, or "build"; beside it the status of `build`, or that there is none."""
    label, message, colour = _said(translate, build, label)
    left, right = _length(label) + 2 * _PADDING, _length(message) + 2 * _PADDING
    return markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="20" role="img" '
        'aria-label="$label: $message"><title>$label: $message</title>'
        '<clipPath id="shape"><rect width="$width" height="20" rx="4"/></clipPath>'
        '<g clip-path="url(#shape)"><rect width="$left" height="20" fill="$ground"/>'
        '<rect x="$left" width="$right" height="20" fill="$colour"/></g>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">'
        '<text x="$padding" y="14" textLength="$label_length">$label</text>'
        '<text x="$at" y="14" textLength="$message_length">$message</text></g></svg>\n',
        width=round(left + right, 1),
        left=round(left, 1),
        right=round(right, 1),
        at=round(left + _PADDING, 1),
        padding=_PADDING,
        label=label,
        message=message,
        label_length=_length(label),
        message_length=_length(message),
        ground=LABEL_GROUND,
        colour=colour,
    )


def badge_json(
    translate: Translator, build: Optional[BuildJson], label: Optional[str] = None
) -> Mapping[str, object]:
    """The JSON of https://shields.io/badges/endpoint-badge, which accepts no other keys."""
    label, message, colour = _said(translate, build, label)
    return {"schemaVersion": 1, "label": label, "message": message, "color": colour}


def _said(
    translate: Translator, build: Optional[BuildJson], label: Optional[str]
) -> tuple[str, str, str]:
    label = (label or translate("badge_label"))[:_MOST_LABEL]
    if build is None:
        return label, translate("badge_none"), NO_BUILD
    status = status_of(build)
    return label, status_word(translate, status).lower(), COLOURS[status]


def _length(text: str) -> float:
    return round(sum(_WIDTHS.get(c, _CAPITAL if c.isupper() else _PLAIN) for c in text), 1)
