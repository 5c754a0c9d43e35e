"""Every text that people read, in both languages, and how numbers are said.

A text stands once, in `TEXTS`, as a pair (Russian, English). Where a number decides the
form, each side is a tuple of forms and the number is given as `n`: Russian has three
(one, few, many), English two. Nothing here escapes HTML; `markup.phrase` does.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Optional, Union

from minici.ui.messages import TEXTS

LANGUAGES = ("ru", "en")

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$")
_MONTHS = {
    "ru": "янв фев мар апр мая июн июл авг сен окт ноя дек".split(),
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(),
}
_UNITS = {"ru": ("д", "ч", "мин", "с", "мс"), "en": ("d", "h", "m", "s", "ms")}
_SIZES = {"ru": ("Б", "КБ", "МБ", "ГБ", "ТБ"), "en": ("B", "KB", "MB", "GB", "TB")}
_NARROW = "\u00a0"


def choose_language(setting: str, accept_language: Optional[str]) -> str:
    """`setting` where it is a language, otherwise the one that the browser likes better.

    Contract, section 2: Russian if the header names neither. `q=0` means "not this one";
    `*` names no language; of two with the same weight the first wins.
    """
    if setting in LANGUAGES:
        return setting
    best, best_quality = "ru", 0.0
    for language, quality in _accepted(accept_language or ""):
        if language in LANGUAGES and quality > best_quality:
            best, best_quality = language, quality
    return best


def _accepted(header: str) -> list[tuple[str, float]]:
    accepted = []
    for item in header[:1000].split(","):
        tag, *parameters = [part.strip().lower() for part in item.split(";")]
        quality = 1.0
        for parameter in parameters:
            match = _QUALITY.match(parameter)
            quality = float(match.group(1)) if match else 0.0
        accepted.append((re.split("[-_]", tag)[0], quality))
    return accepted


def plural_form(language: str, number: int) -> int:
    """The index of the form that goes with `number`: ru one, few, many; en one, other."""
    number = abs(number)
    if language == "en":
        return 0 if number == 1 else 1
    if number % 10 == 1 and number % 100 != 11:
        return 0
    return 1 if 2 <= number % 10 <= 4 and not 12 <= number % 100 <= 14 else 2


class Translator:
    """The texts of one language: `translate("key", n=3, name="b")`."""

    def __init__(self, language: str) -> None:
        """`language` is one of LANGUAGES; anything else raises ValueError."""
        self.language = language
        self._side = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """The text with its values put in. KeyError if there is no such text or value."""
        return self.form(key, values.get("n")).format(**values)

    def form(self, key: str, number: object = None) -> str:
        """The text before its values are put in; `number` chooses among its forms."""
        forms: Union[str, tuple[str, ...]] = TEXTS[key][self._side]
        if isinstance(forms, str):
            return forms
        return forms[plural_form(self.language, int(str(number)))]

    def group(self, prefix: str) -> dict[str, object]:
        """All texts whose keys begin with `prefix`, by the rest of their keys."""
        return {
            key[len(prefix) :]: pair[self._side]
            for key, pair in TEXTS.items()
            if key.startswith(prefix)
        }

    def duration(self, seconds: float) -> str:
        """A length of time in its two largest units: "1 m 04 s"; tenths below 10 s and
        milliseconds below 1 s."""
        seconds = max(0.0, seconds)
        day, hour, minute, second, millisecond = _UNITS[self.language]
        if seconds < 0.9995:
            return f"{seconds * 1000:.0f}{_NARROW}{millisecond}"
        if seconds < 9.95:
            return self._number(seconds) + _NARROW + second
        whole = int(seconds + 0.5)
        if whole < 60:
            return f"{whole}{_NARROW}{second}"
        if whole < 3600:
            return self._pair(*divmod(whole, 60), minute, second)
        if whole < 86400:
            return self._pair(*divmod(whole // 60, 60), hour, minute)
        return self._pair(*divmod(whole // 3600, 24), day, hour)

    def _number(self, value: float) -> str:
        text = f"{value:.1f}"
        return text.replace(".", ",") if self.language == "ru" else text

    @staticmethod
    def _pair(large: int, small: int, large_unit: str, small_unit: str) -> str:
        return f"{large}{_NARROW}{large_unit} {small:02d}{_NARROW}{small_unit}"

    def size(self, count: int) -> str:
        """A number of bytes, in powers of 1024, as the configuration counts them."""
        units = _SIZES[self.language]
        if count < 1024:
            return f"{count}{_NARROW}{units[0]}"
        value, index = count / 1024, 1
        while value >= 1023.95 and index < len(units) - 1:
            value, index = value / 1024, index + 1
        return self._number(value) + _NARROW + units[index]

    def date(self, moment: datetime) -> str:
        """A moment in UTC, to the second, saying that it is UTC."""
        utc = moment.astimezone(timezone.utc)
        month = _MONTHS[self.language][utc.month - 1]
        return f"{utc.day}{_NARROW}{month} {utc.year}, {utc:%H:%M:%S}{_NARROW}UTC"

    def age(self, moment: datetime, now: datetime) -> str:
        """The age of `moment` in one unit: "3 min ago"."""
        seconds = int((now - moment).total_seconds())
        if seconds < 5:
            return self("age_now")
        if seconds < 60:
            return self("age_seconds", n=seconds)
        if seconds < 3600:
            return self("age_minutes", n=seconds // 60)
        if seconds < 86400:
            return self("age_hours", n=seconds // 3600)
        return self("age_days", n=seconds // 86400)
