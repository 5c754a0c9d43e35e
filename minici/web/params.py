"""Parameters of a call, from a query string, a form or a JSON object.

Values are bytes until someone asks for text: output is not always UTF-8, and arrives exactly as
it was sent. What may be large goes to a file, so that memory does not grow with it.
Section 3 of the contract.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Optional, Union

from minici.reasons import Reason

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

_BLOCK = 64 * 1024  # bytes
_IN_MEMORY = 1024 * 1024  # bytes: what a small value may have, and a large one before its file
_MOST_PARAMS = 100

Value = Union[bytes, BinaryIO]

_WRONG_KIND = b"\xff a value that is neither text nor a number"  # no UTF-8: never mistaken
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")


class BadParameter(Exception):
    """The parameters can't be read; raised with a Reason, or with another sentence."""


class Parameters(Mapping[str, Value]):
    """Parameters by name. `names` are all that were sent, with those whose value is null."""

    def __init__(self, values: Optional[Mapping[str, Optional[Value]]] = None) -> None:
        self.names = tuple(values or ())
        self._values = {n: value for n, value in (values or {}).items() if value is not None}

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def joined(self, other: Parameters) -> Parameters:
        """These and the others. Raises BadParameter for a name that both have."""
        for name in other.names:
            if name in self.names:
                raise BadParameter(Reason("param_twice", name=name))
        missing = dict.fromkeys((*self.names, *other.names))
        return Parameters({**missing, **self._values, **other})

    def text(self, name: str, default: Optional[str] = None) -> str:
        """The value as text. Raises BadParameter if it is missing or no UTF-8."""
        data = self._bytes(name)
        if data is None:
            if default is None:
                raise BadParameter(Reason("param_missing", name=name))
            return default
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise BadParameter(Reason("param_not_utf8", name=name)) from None

    def optional(self, name: str) -> Optional[str]:
        """The value as text, what is no UTF-8 in it replaced, or None where it is missing or empty.

        For what is only shown: nothing is turned away for a name in an old encoding.
        """
        data = self._bytes(name)
        return data.decode("utf-8", "replace") if data else None

    def _bytes(self, name: str) -> Optional[bytes]:
        value = self._values.get(name)
        if value == _WRONG_KIND:
            raise BadParameter(Reason("param_text_or_number", name=name))
        return value if value is None or isinstance(value, bytes) else value.read()

    def number(self, name: str, default: Optional[int] = None, least: int = 0) -> int:
        """The value as a whole number in plain decimal digits. Raises BadParameter."""
        if default is not None and not self._values.get(name):
            return default
        text = self.text(name)
        digits = text[1:] if least < 0 and text.startswith("-") else text
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 40) or int(text) < least:
            raise BadParameter(Reason("param_whole", name=name, least=least))
        return int(text)

    def words(self, name: str) -> str:
        """The value as words between blanks, which in JSON may be a list. Raises BadParameter."""
        value = self._values.get(name)
        return value.text if isinstance(value, _Words) else self.text(name, "")

    def decimal(self, name: str, default: float) -> float:
        """The value as a number above 0, which may have decimals. Raises BadParameter."""
        value = self._values.get(name)
        text = value.text if isinstance(value, _Fraction) else self.text(name, "")
        if not text:
            return default
        if not _DECIMAL.fullmatch(text) or float(text) == 0:
            raise BadParameter(Reason("param_positive", name=name))
        return float(text)

    def stream(self, name: str) -> tuple[BinaryIO, int]:
        """The value as a file to read, and its length in bytes; empty if it is missing."""
        value = self._values.get(name, b"")
        if value == _WRONG_KIND:
            raise BadParameter(Reason("param_text", name=name))
        source = io.BytesIO(value) if isinstance(value, bytes) else value
        length = source.seek(0, io.SEEK_END)
        source.seek(0)
        return source, length


class _Fraction(bytes):
    """A number with decimals, as JSON has it: no text, and right in few places."""

    text: str

    def __new__(cls, value: float) -> _Fraction:
        made = super().__new__(cls, _WRONG_KIND)
        made.text = f"{value:.9f}"
        return made


class _Words(bytes):
    """A list of words, as JSON has it: no text, and right where words are separated by blanks."""

    text: str

    def __new__(cls, text: str) -> _Words:
        made = super().__new__(cls, _WRONG_KIND)
        made.text = text
        return made


def read_query(query: str) -> Parameters:
    """The parameters of a query string. Raises BadParameter, as `read_form` does."""
    return read_form(io.BytesIO(query.encode("latin-1", "replace")), ())


def read_form(body: Any, large: Collection[str]) -> Parameters:
    """Read a form to its end; the values of names in `large` may be of any size.

    Raises BadParameter, also for a pair without a name or without `=`: it is what an `&` that
    nobody has encoded makes of a command.
    """
    return _collect(_fields(body, large))


def read_json(body: Any) -> Parameters:
    """Read a JSON object; its values are strings, numbers or lists of these. Raises
    BadParameter."""
    try:
        record = json.loads(body.read(), object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        raise BadParameter(Reason("no_json")) from None
    if not isinstance(record, _Object):
        raise BadParameter(Reason("no_json_object"))
    return _collect((name, None if value is None else _json_value(value)) for name, value in record)


class _Object(list[tuple[str, Any]]):
    """A JSON object, with its names in order, and as often as they stand there."""


def _collect(pairs: Iterable[tuple[str, Optional[Value]]]) -> Parameters:
    values: dict[str, Optional[Value]] = {}
    for name, value in pairs:
        if name in values:
            raise BadParameter(Reason("param_twice", name=name))
        values[name] = value
        if len(values) > _MOST_PARAMS:
            raise BadParameter(Reason("params_many", count=_MOST_PARAMS))
    return Parameters(values)


def _json_value(value: Any) -> bytes:
    """A value as a form would carry it: a list of ids between commas, one of words between
    blanks."""
    if type(value) is list and all(_is_number(each) for each in value):
        return ",".join(map(str, value)).encode()
    if type(value) is list and all(isinstance(each, str) for each in value):
        return _Words(" ".join(value))
    if isinstance(value, str):
        return _encoded(value)
    if isinstance(value, float):
        return _Fraction(value)
    return b"%d" % value if type(value) is int else _WRONG_KIND


def _is_number(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isascii() and value.isdigit())


def _encoded(text: str) -> bytes:
    """Text as bytes. Half a character of UTF-16 is no UTF-8, and is not made into any."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _fields(body: Any, large: Collection[str]) -> Iterator[tuple[str, Value]]:
    """The fields of a form, read block by block."""
    buffer = body.read(_BLOCK)
    more, count = bool(buffer), 0
    while more:
        count += 1
        name, buffer, _ = _up_to(body, buffer, b"=&", _IN_MEMORY)
        if not name or buffer[:1] != b"=":
            raise BadParameter(Reason("param_incomplete", number=count))
        key = _decode(name).decode("utf-8", "replace")
        value: Value
        if key in large:
            value, buffer, more = _spool(body, buffer[1:])
        else:
            raw, buffer, more = _up_to(body, buffer[1:], b"&", _IN_MEMORY)
            value = _decode(raw)
        yield key, value
        buffer = buffer[1:]


def _up_to(body: Any, buffer: bytes, ends: bytes, most: int) -> tuple[bytes, bytes, bool]:
    """Split at the first of `ends`; return both parts, and whether the body has more."""
    while True:
        places = [
            place
            for place in map(buffer.find, (ends[i : i + 1] for i in range(len(ends))))
            if place >= 0
        ]
        if places:
            return buffer[: min(places)], buffer[min(places) :], True
        if len(buffer) > most:
            raise BadParameter(Reason("param_long", bytes=most))
        block = body.read(_BLOCK)
        if not block:
            return buffer, b"", False
        buffer += block


def _spool(body: Any, buffer: bytes) -> tuple[BinaryIO, bytes, bool]:
    """A value of any size, decoded into a file, and what follows it."""
    # The caller reads it, and it goes with its last reference.
    file: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    while b"&" not in buffer:
        # An escape is three characters long: it must not be cut.
        cut = len(buffer)
        if b"%" in buffer[-2:]:
            cut = len(buffer) - 2 + buffer[-2:].index(b"%")
        file.write(_decode(buffer[:cut]))
        block = body.read(_BLOCK)
        if not block:
            file.write(_decode(buffer[cut:]))
            return file, b"", False
        buffer = buffer[cut:] + block
    value, _, rest = buffer.partition(b"&")
    file.write(_decode(value))
    return file, b"&" + rest, True


def _decode(text: bytes) -> bytes:
    return urllib.parse.unquote_to_bytes(text.replace(b"+", b" "))
