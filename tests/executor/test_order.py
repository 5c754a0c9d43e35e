"""An order to run a build, from the parameters of a call: pure."""

from __future__ import annotations

import pytest

from minici.executor.order import read_order
from minici.web.params import BadParameter, Parameters

ASKED = {"id": b"7", "repository": b"/r", "commit": b"HEAD", "command": b"true"}


def test_an_order_has_defaults() -> None:
    order = read_order(Parameters(ASKED), "http://ci:8000")
    assert (order.attempt_id, order.timeout, order.output_limit) == ((7, 1), 3600.0, 64 * 2**20)
    assert order.url == "http://ci:8000/build/7"
    assert (order.project, order.event, order.ref) == (None, None, None)
    assert order.files_limit == 2**30 and not order.submodules
    more = {"attempt": b"3", "timeout": b"0.25", "output_limit": b"10", "url": b"http://x"}
    order = read_order(Parameters({**ASKED, **more}), "http://ci:8000")
    assert (order.attempt_id, order.timeout, order.output_limit) == ((7, 3), 0.25, 10)
    assert order.url == "http://x"
    told = {"project": b"shop", "event": b"push", "ref": b"refs/heads/main", "files_limit": b"7"}
    order = read_order(Parameters({**ASKED, **told, "submodules": b"1"}), "http://ci:8000")
    assert (order.project, order.event, order.ref) == ("shop", "push", "refs/heads/main")
    assert order.files_limit == 7 and order.submodules


@pytest.mark.parametrize(
    "ref", [r"refs/heads/caf\xe9", "refs/heads/" + "deep/" * 700 + "x", "refs/tags/ещё", "refs/x"]
)
def test_a_ref_of_any_legal_name(ref: str) -> None:
    """A look at a repository finds these, and a push to them is built."""
    order = read_order(Parameters({**ASKED, "ref": ref.encode()}), "http://ci:8000")
    assert order.ref == ref


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", b"0"),
        ("id", b"+7"),
        ("id", b"7" * 19),
        ("id", "７".encode()),
        ("attempt", b"0"),
        ("timeout", b"0"),
        ("timeout", b"1e3"),
        ("timeout", b"inf"),
        ("output_limit", b"0"),
        ("output_limit", b"1.5"),
        ("command", b"\xff"),
        ("command", b"  "),
        ("repository", b"ext::sh"),
        ("commit", b"--all"),
        ("project", b"a\nb"),
        ("event", b"a\0"),
        ("ref", b"main"),
        ("ref", b"refs/heads/a b"),
        ("ref", b"refs/heads/a\nb"),
        ("ref", b"refs/heads/a\\b"),
        ("ref", b"refs/heads/.."),
        ("ref", b"refs/heads/"),
        ("ref", b"refs/heads/" + b"x" * 4096),
        ("files_limit", b"-1"),
    ],
)
def test_an_order_that_makes_no_sense(name: str, value: bytes) -> None:
    with pytest.raises(BadParameter):
        read_order(Parameters({**ASKED, name: value}), "http://ci:8000")
