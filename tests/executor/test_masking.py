"""Secret values in the output of commands: pure."""

from __future__ import annotations

import random
import time

import pytest

from minici.executor.masking import Masker


def masked(secrets: list[bytes], *pieces: bytes) -> bytes:
    stream = Masker(secrets).stream()
    return b"".join(map(stream.feed, pieces)) + stream.feed(b"", last=True)


@pytest.mark.parametrize(
    ("secrets", "written", "expected"),
    [
        ([b"s3cret"], b"a s3cret b", b"a *** b"),
        ([b"s3cret"], b"s3cret", b"***"),
        ([b"s3cret"], b"s3crets3cret", b"******"),
        ([b"s3cret"], b"s3cres3cret s3cre", b"s3cre*** s3cre"),
        ([b"short"], b"short", b"short"),
        ([b"abcdef", b"abcdefgh"], b"abcdefgh abcdefg", b"*** ***g"),
        ([b"abcdef", b"defghi"], b"abcdefghi abcdefgh defghi", b"*** ***gh ***"),
        ([b"ababab"], b"xababababax", b"x***ax"),
        ([b"line 1\nline 2"], b"line 1\nline 2\nline 1\n", b"***\nline 1\n"),
        ([b"value1\n"], b"value1\n[value1]", b"***[***]"),
        ([b"\xff\x00\xff\x00\xff\x00"], b"a\xff\x00\xff\x00\xff\x00b", b"a***b"),
        ([], b"anything", b"anything"),
        ([b"", b"\n\n\n\n\n\n\n"], b"\n" * 8, b"***"),
    ],
)
def test_wherever_it_is_cut(secrets: list[bytes], written: bytes, expected: bytes) -> None:
    assert masked(secrets, written) == expected
    assert masked(secrets, *(written[i : i + 1] for i in range(len(written)))) == expected
    for first in range(len(written) + 1):
        for second in range(first, len(written) + 1):
            pieces = (written[:first], written[first:second], written[second:])
            assert masked(secrets, *pieces) == expected


def test_at_random_it_does_not_depend_on_the_pieces() -> None:
    chance = random.Random(4)
    for _ in range(2000):
        secrets = [bytes(chance.choices(b"ab", k=chance.randint(6, 9))) for _ in range(3)]
        written = bytes(chance.choices(b"ab", k=60))
        cuts = sorted(chance.choices(range(61), k=5))
        pieces = [written[a:b] for a, b in zip([0, *cuts], [*cuts, 60])]
        whole = masked(secrets, written)
        assert masked(secrets, *pieces) == whole
        assert not any(secret in whole for secret in secrets)


def test_nothing_is_held_back_that_can_be_no_value() -> None:
    stream = Masker([b"s3cret", b"other value"]).stream()
    assert stream.feed(b"a line\n") == b"a line\n"
    assert stream.feed(b"$ ") == b"$ "
    assert stream.feed(b"a s3c") == b"a "
    assert stream.feed(b"ond\n") == b"s3cond\n"
    assert stream.feed(b"s3cret") == b"***"
    assert stream.feed(b" and othe") == b" and "
    assert stream.feed(b"", last=True) == b"othe"


def test_memory_is_bounded_where_values_overlap_without_end() -> None:
    stream = Masker([b"aaaaaa"]).stream()
    assert b"".join(stream.feed(b"a" * 100) for _ in range(100)) == b"***"
    assert len(stream._held) < 6
    assert stream.feed(b"b", last=True) == b"b"


def test_a_flood_is_masked_quickly() -> None:
    """A gigabyte in less than some tens of seconds, with a key of several kilobytes too."""
    chance = random.Random(5)
    key = b"-----BEGIN KEY-----\n" + chance.randbytes(2000).hex().encode()
    stream = Masker([b"a token of 20 bytes!", key]).stream()
    piece = (b"an ordinary line of some output, with a token in it\n" * 5000)[: 256 * 1024]
    begun = time.process_time()
    for _ in range(100):
        assert len(stream.feed(piece)) > 200_000
    assert time.process_time() - begun < 2


def test_a_sentence() -> None:
    masker = Masker([b"s3cret", "пароль".encode()])
    assert masker.mask("no commit s3cret, пароль\udcff") == "no commit ***, ***\udcff"
    plain = "nothing of it"
    assert masker.mask(plain) is plain
    assert masker and not Masker([b"short"])
