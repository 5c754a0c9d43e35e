"""Templates and escaping: text of people and programs never becomes markup.

A value is HTML only if its type says so (`Html`); everything else is escaped by `fill`,
whoever calls it. This is the only module that makes an `Html` out of a plain string.
"""

from __future__ import annotations

import html as standard
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from re import Match

from minici.ui.i18n import Translator

# Everything that can change what surrounds it, or hide: control characters except tab and
# line feed, directional marks and overrides, line separators, invisible joiners, surrogates,
# and what XML does not take.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
_NAME = re.compile(r"\$([a-z_][a-z0-9_]*)")


class Html(str):
    """Text that is markup already. Joining or formatting it gives a plain str again."""

    __slots__ = ()


NOTHING = Html("")


def visible(text: str) -> str:
    """`text` with each character that acts on its surroundings replaced by a mark for it."""
    return text if text.isprintable() else _UNSAFE.sub(_mark, text)


def _mark(match: Match[str]) -> str:
    return f"<U+{ord(match.group()):04X}>"


def escape(value: object) -> Html:
    """`value` as HTML, for element content and quoted attributes: the empty text for None."""
    if isinstance(value, Html):
        return value
    return Html(standard.escape(visible("" if value is None else str(value)), quote=True))


def input_value(text: str) -> Html:
    """The value of a form field as it was typed: escaped, otherwise unchanged."""
    clean = re.sub("[\x00\ud800-\udfff]", "\ufffd", text)
    return Html(standard.escape(clean, quote=True).replace("\r", "&#13;"))


def markup(source: str, **values: object) -> Html:
    """A snippet of HTML that stands in the code, its `$names` filled with escaped values."""
    return Html(_format(source) % {key: escape(values[key]) for key in values})


def phrase(translate: Translator, key: str, **values: object) -> Html:
    """A text of the translator as HTML; its values may be Html themselves."""
    form = escape(translate.form(key, values.get("n")))
    return Html(form.format(**{name: escape(value) for name, value in values.items()}))


def join(parts: Iterable[object], between: str = "") -> Html:
    """The parts one after another, each escaped unless it is Html."""
    return Html(escape(between).join(escape(part) for part in parts))


def fill(template_name: str, translate: Translator, **values: object) -> Html:
    """The template `templates/NAME.html`, filled.

    `$name` is a value, escaped unless it is Html; `$t_key` is a text of the translator. KeyError
    if the template names something that is not there.
    """
    source = resource(f"templates/{template_name}.html").decode("utf-8")
    return Html(_format(source) % _Values(translate, values))


class _Values(dict[str, str]):
    def __init__(self, translate: Translator, values: Mapping[str, object]) -> None:
        super().__init__({key: escape(value) for key, value in values.items()})
        self._translator = translate

    def __missing__(self, key: str) -> str:
        if not key.startswith("t_"):
            raise KeyError(key)
        return escape(self._translator(key[2:]))


@lru_cache(maxsize=256)
def _format(source: str) -> str:
    """A template for the `%` operator, which is ten times as fast as `string.Template`."""
    return _NAME.sub(r"%(\1)s", source.replace("%", "%%"))


def resource(path: str) -> bytes:
    """Return a file of this package, as it was when the process started. KeyError if there is
    none."""
    return _RESOURCES[path]


def _read_resources() -> dict[str, bytes]:
    """Read the templates and static files: the package may be replaced while the server runs."""
    package = resources.files("minici.ui")  # a folder, or one in an archive
    return {
        f"{folder}/{file.name}": file.read_bytes()
        for folder in ("templates", "static")
        for file in (package / folder).iterdir()
        if file.is_file()
    }


_RESOURCES = _read_resources()
