"""Parameters as they come: random forms in random pieces, JSON, and what is refused."""

from __future__ import annotations

import io
import random
import urllib.parse
from typing import Any

import pytest

from minici.web import params as forms
from minici.web.params import BadParameter, Parameters, read_form, read_json, read_query

LARGE = ("stdout", "stderr")


def value_of(params: Parameters, name: str) -> bytes:
    value = params[name]
    if isinstance(value, bytes):
        return value
    value.seek(0)
    return value.read()


def test_a_form_is_read_exactly_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5000):
        chance = random.Random(seed)
        monkeypatch.setattr(forms, "_BLOCK", chance.choice([1, 2, 3, 7, 64]))
        sent = {
            chance.choice(["a", "b", *LARGE, "é&="]): bytes(
                chance.choice(b"ab%&=+ \xff\n") for _ in range(chance.randint(0, 12))
            )
            for _ in range(chance.randint(0, 4))
        }
        body = urllib.parse.urlencode(sent).encode()
        params = read_form(io.BytesIO(body), LARGE)
        assert {name: value_of(params, name) for name in params} == sent, (seed, body)


def test_a_large_value_goes_to_a_file_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_IN_MEMORY", 1000)
    text = bytes(range(256)) * 100
    body = urllib.parse.urlencode({"id": "1", "stdout": text, "status": "0"}).encode()
    params = read_form(io.BytesIO(body), LARGE)
    source, length = params.stream("stdout")
    assert (length, source.read()) == (len(text), text)
    assert getattr(source, "_rolled", True) and params.number("status") == 0


def test_a_small_value_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_IN_MEMORY", 1000)
    with pytest.raises(BadParameter, match="longer than 1000 bytes"):
        read_form(io.BytesIO(b"commit=" + b"x" * 200_000), LARGE)


def test_more_names_than_any_call_has_are_refused() -> None:
    with pytest.raises(BadParameter, match="more than 100"):
        read_query("&".join(f"a{n}=1" for n in range(101)))


@pytest.mark.parametrize("query", ["", "a=%zz", "%=x", "a=b=c", "a=", "a==", "+=x&a=1"])
def test_odd_queries_are_read_and_not_refused(query: str) -> None:
    read_query(query)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    ("form", "number"),
    [
        ("&", 1),
        ("=x", 1),
        ("a", 1),
        ("%26", 1),
        ("a=b&", 2),
        ("&a=b", 1),
        ("a=1&&b=2", 2),
        ("a=1&=2", 2),
        ("a=1&b", 2),
        ("a=1&b&c=2", 2),
        ("stdout=1&&status=0", 2),
        ("stdout=1&", 2),
        ("id=1&stdout=a&b", 3),
    ],
)
def test_a_pair_without_a_name_or_without_its_sign_is_refused(
    form: str, number: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "_BLOCK", size)
    with pytest.raises(BadParameter, match=f"parameter {number} is not .*--data-urlencode"):
        read_form(io.BytesIO(form.encode()), LARGE)


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(BadParameter, match="command is there twice"):
        read_query("command=a&commit=b&command=c")
    with pytest.raises(BadParameter, match="command is there twice"):
        read_json(io.BytesIO(b'{"command": "a", "command": null}'))


@pytest.mark.parametrize(
    "text", ["", "+7", "-1", "1_0", "١", " 1", "1 ", "0x1", "1.0", "1e3", "９", "1" * 41]
)
def test_a_number_is_plain_digits(text: str) -> None:
    with pytest.raises(BadParameter):
        Parameters({"n": text.encode()}).number("n")


def test_a_negative_number_is_for_where_it_may_be() -> None:
    assert Parameters({"status": b"-9"}).number("status", least=-(2**31)) == -9


@pytest.mark.parametrize("value", [{}, True, 1.5, [1, "x"], ["x"], [True], [[1]]])
def test_json_of_the_wrong_kind_is_refused_when_it_is_asked_for(value: Any) -> None:
    params = read_json(io.BytesIO(forms.json.dumps({"a": value, "b": "fine"}).encode()))
    assert params.text("b") == "fine"
    with pytest.raises(BadParameter):
        params.text("a")


def test_a_decimal_is_a_number_above_0() -> None:
    params = read_json(
        io.BytesIO(b'{"a": 1.5, "b": 2, "c": "0.25", "d": 0.0, "e": -1.5, "f": NaN}')
    )
    assert [params.decimal(name, 7.0) for name in ("a", "b", "c", "none")] == [1.5, 2.0, 0.25, 7.0]
    for name in ("d", "e", "f"):
        with pytest.raises(BadParameter):
            params.decimal(name, 7.0)


def test_json_keeps_bytes_that_are_no_text() -> None:
    params = read_json(io.BytesIO(b'{"stdout": "a\\udcffb", "n": [1, "2"], "none": null}'))
    assert value_of(params, "stdout") == b"a\xffb"
    assert params.text("n") == "1,2" and "none" not in params


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadParameter):
        read_json(io.BytesIO(body))
