"""People's passwords: salted scrypt hashes, as `[users]` in config.ini holds them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import threading
import time
from collections.abc import Mapping
from typing import Callable, Optional

from minici.config import PASSWORD_HASH
from minici.reasons import Reason

_COST = 14  # a power of two: 16 MiB and about 50 ms for each try
_FREE_TRIES = 5
_MOST_WAIT = 60.0  # seconds
_MOST_ADDRESSES = 1000


def hash_password(password: str, cost: int = _COST) -> str:
    """The line for `[users]`: scrypt, its cost, a fresh salt, and the key. Raises NoScrypt."""
    if not hasattr(hashlib, "scrypt"):
        raise NoScrypt(
            "this Python has no scrypt, which passwords are hashed with: "
            "take one that was built with OpenSSL 1.1 or newer"
        )
    salt = os.urandom(16)
    return f"scrypt:{cost}:{salt.hex()}:{_scrypt(password, salt, cost).hex()}"


def verify_password(password: str, hashed: str) -> bool:
    """Return whether a password is the one that was hashed; takes the same time either way."""
    found = PASSWORD_HASH.fullmatch(hashed)
    if not found:
        return False
    key = _scrypt(password, bytes.fromhex(found[2]), int(found[1]))
    return hmac.compare_digest(key, bytes.fromhex(found[3]))


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogateescape"),
        salt=salt,
        n=2**cost,
        r=8,
        p=1,
        maxmem=2**cost * 8 * 128 * 2,
        dklen=32,
    )


class NoScrypt(Exception):
    """This Python can't hash passwords; its text says what to do."""


class TooManyTries(Exception):
    """An address has been wrong too often; `wait` is in seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(Reason("too_many_tries", seconds=f"{wait:.0f}"))
        self.wait = wait


class Users:
    """The people who may sign in. Any thread may ask.

    A password that was right is remembered, as a keyed hash that dies with the process, so that
    not every request costs what guessing is meant to cost. Raises NoScrypt if there are users.
    """

    def __init__(
        self, hashes: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hashes = dict(hashes)
        self._clock = clock
        self._key = os.urandom(32)
        # A name that nobody has costs the same time: it can't be told from a wrong password.
        unknown = os.urandom(8).hex()
        self._unknown = hash_password(unknown, _highest_cost(hashes)) if hashes else ""
        self._lock = threading.Lock()  # guards the two below; held while a hash is worked out
        self._right: dict[str, bytes] = {}
        self._wrong: dict[str, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def check(self, name: str, password: str, address: str) -> bool:
        """Return whether name and password fit.

        Raises TooManyTries after wrong ones from `address`.
        """
        address = _network(address)
        seen = hmac.digest(self._key, f"{name}\0{password}".encode("utf-8", "replace"), "sha256")
        if hmac.compare_digest(self._right.get(name, b""), seen):
            return True
        with self._lock:
            self._slow_down(address)
            right = (
                verify_password(password, self._hashes.get(name, self._unknown))
                and name in self._hashes
            )
            if right:
                self._right[name] = seen
                self._wrong.pop(address, None)
            else:
                self._note_wrong(address)
        return right

    def _slow_down(self, address: str) -> None:
        _, until = self._wrong.get(address, (0, 0.0))
        if until > self._clock():
            raise TooManyTries(until - self._clock())

    def _note_wrong(self, address: str) -> None:
        count = self._wrong.pop(address, (0, 0.0))[0] + 1
        wait = min(_MOST_WAIT, 2.0 ** (count - _FREE_TRIES)) if count >= _FREE_TRIES else 0.0
        self._wrong[address] = (count, self._clock() + wait)
        if len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.pop(next(iter(self._wrong)))


def _highest_cost(hashes: Mapping[str, str]) -> int:
    """The cost of a try that costs as much as any."""
    found = filter(None, map(PASSWORD_HASH.fullmatch, hashes.values()))
    return max((int(each[1]) for each in found), default=_COST)


def _network(address: str) -> str:
    """Whose tries count together: an address, or the 2**64 of IPv6 that one host may have."""
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(number, ipaddress.IPv4Address):
        return str(number)
    return str(number.ipv4_mapped or ipaddress.ip_network((number, 64), strict=False))


def sign_in(header: str, users: Users, address: str) -> Optional[str]:
    """The name of who signed in by an Authorization header, or None."""
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    name, colon, password = _decode(coded).partition(":")
    return name if colon and users.check(name, password, address) else None


def _decode(coded: str) -> str:
    try:
        return base64.b64decode(coded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return ""
