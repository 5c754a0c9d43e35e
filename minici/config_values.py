"""The values of config.ini: how the text of each is read, or what would have been right.

Each reader takes the text and the folder of the file, and raises Wrong. Section 2 of the contract.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import urllib.parse
from pathlib import Path
from typing import Callable

from minici.hosts import plain_host
from minici.validation import check_command, check_repository, split_labels

PUBLIC = frozenset(("healthz", "badge", "feeds", "metrics"))


# What a newer build of the same branch ends: `supersede`.
NOTHING, QUEUED_ONLY, RUNNING_TOO = "no", "queued", "running"


class Wrong(Exception):
    """A value does not fit its key; the text says what would."""


def whole(least: int, most: int, what: str) -> Callable[[str, Path], int]:
    """A reader of whole numbers within bounds; `what` is said of others."""

    def read(text: str, folder: Path) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text) or not least <= int(text) <= most:
            raise Wrong(what)
        return int(text)

    return read


port = whole(0, 65535, "a port is a number from 0 to 65535; 0 takes a free one")
count = whole(0, 10**15, "write a whole number, 0 or more")
positive = whole(1, 10**9, "write a whole number, 1 or more")


def duration(text: str, folder: Path) -> float:
    """Seconds, from a number with or without a unit."""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([smhd]?)", text)
    unit = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0
    seconds = float(found[1]) * unit if found else 0
    if seconds <= 0:
        raise Wrong("a duration is a number above 0, as in 30, 30s, 1.5m, 2h or 7d")
    return seconds


def size(text: str, folder: Path) -> int:
    """Bytes, from a number with or without a unit."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([KMG]?)", text)
    unit = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[found[2]] if found else 0
    number = int(float(found[1]) * unit) if found else 0
    if number < 1:
        raise Wrong("a size is a number of bytes above 0, as in 4096, 64K, 16M or 1G")
    return number


def days(text: str, folder: Path) -> float:
    """A number of days, which may be a fraction."""
    if not re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,9})?", text):
        raise Wrong("write a number of days; 0 keeps builds for ever")
    return float(text)


def host(text: str, folder: Path) -> str:
    """The name or address to listen on, spelled as `plain_host` does."""
    name = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    named = re.fullmatch(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", name)
    if not named or not plain_host(name):  # "." would be all addresses
        raise Wrong("write a host name or an IP address to listen on, as in 127.0.0.1")
    return plain_host(name)


def path(text: str, folder: Path) -> Path:
    """A path, made absolute by the file's folder; `~` is the user's home."""
    if not text or "\0" in text:
        raise Wrong("write a path")
    return Path(os.path.abspath(folder / Path(text).expanduser()))


def file(text: str, folder: Path) -> Path:
    """A path at which there is a file."""
    found = path(text, folder)
    if not found.is_file():
        raise Wrong("there is no such file")
    return found


def repository(text: str, folder: Path) -> str:
    """A URL or a path, as git takes it; a path is made absolute."""
    sentence = check_repository(text)
    if sentence:
        raise Wrong(sentence)
    if "://" in text or re.match(r"[^/]+:", text):
        return text
    return str(path(text, folder))


def server_url(text: str, folder: Path) -> str:
    """A URL, also from host:port."""
    what = "write host:port or a URL, as in 192.0.2.1:8000 or https://ci.example"
    if "://" not in text and not re.search(r":[0-9]{1,5}/?\Z", text):
        raise Wrong(what)
    return _address_url(text if "://" in text else f"http://{text}", what)


def command(text: str, folder: Path) -> str:
    """A command, or nothing."""
    sentence = check_command(text) if text else None
    if sentence:
        raise Wrong(sentence)
    return text


def page_url(text: str, folder: Path) -> str:
    """A URL without query, name and password."""
    return _address_url(text, "write a URL, as in https://ci.example")


def _address_url(text: str, what: str) -> str:
    try:
        parts = urllib.parse.urlsplit(text)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or re.search(r"[\x00-\x20\x7f]", text) or parts.query or parts.fragment:
        raise Wrong(what)
    if parts.username is not None:
        raise Wrong("write the address without a name and password")
    return text.rstrip("/")


def advertise(text: str, folder: Path) -> str:
    """A host, or host:port."""
    found = re.fullmatch(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", text)
    if not found or int(found[2] or 1) not in range(1, 65536):
        raise Wrong("write host or host:port by which the server reaches this agent")
    return text


def language(text: str, folder: Path) -> str:
    """One of the languages, or auto."""
    if text not in ("auto", "ru", "en"):
        raise Wrong("write auto, ru or en")
    return text


def yes(text: str, folder: Path) -> bool:
    """Yes or no."""
    if text.lower() not in ("yes", "no"):
        raise Wrong("write yes or no")
    return text.lower() == "yes"


def public_paths(text: str, folder: Path) -> frozenset[str]:
    """The paths that ask for no password: some of `PUBLIC`, separated by blanks."""
    found = frozenset(text.split())
    if not found <= PUBLIC:
        raise Wrong(f"write some of {', '.join(sorted(PUBLIC))}, separated by blanks")
    return found


def agent_name(text: str, folder: Path) -> str:
    """A name that people call an agent by."""
    if not text.isprintable() or not 0 < len(text) <= 100:
        raise Wrong("a name is 1 to 100 characters in one line")
    return text


def pause(text: str, folder: Path) -> float:
    """Seconds, as a duration; 0 for never."""
    return 0.0 if re.fullmatch(r"0+", text) else duration(text, folder)


def patterns(text: str, folder: Path) -> tuple[str, ...]:
    """Patterns of names of branches or tags, separated by blanks."""
    found = tuple(text.split())
    for each in found:
        if re.search(r"[\x00-\x1f\x7f~^:?\[\\]", each) or not each.strip("!"):
            raise Wrong(f"{each} is no pattern: write names, with * for any characters")
    if found and all(each.startswith("!") for each in found):
        raise Wrong("patterns with ! only exclude: write at least one without")
    return found


def labels(text: str, folder: Path) -> tuple[str, ...]:
    """Labels of an agent or a project, separated by blanks."""
    try:
        return split_labels(text)
    except ValueError as error:
        raise Wrong(str(error)) from None


def supersede(text: str, folder: Path) -> str:
    """no, queued or running."""
    if text not in (NOTHING, QUEUED_ONLY, RUNNING_TOO):
        raise Wrong("write no, queued or running")
    return text


def project_name(text: str, folder: Path) -> str:
    """The name of a project."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise Wrong("a project's name is 1 to 64 letters, digits, and . _ -")
    return text


def program(text: str, folder: Path) -> tuple[str, ...]:
    """The words of a program, as a shell would take them; the first is a program that is there."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise Wrong(f"write words as a shell would take them ({error})") from None
    if not words:
        raise Wrong("write the words of a program, as in /bin/sh -e -c")
    first = str(path(words[0], folder)) if "/" in words[0] else words[0]
    if shutil.which(first) is None:
        raise Wrong(f"there is no program {words[0]}; write one that this host has")
    return (first, *words[1:])


def names(text: str, folder: Path) -> tuple[str, ...]:
    """Names of variables, with * for any characters."""
    found = tuple(name for name in re.split(r"[\s,]+", text) if name)
    if not all(re.fullmatch(r"[A-Za-z0-9_*]+", name) for name in found):
        raise Wrong("write names of variables, with * for any characters, separated by spaces")
    return found


def secret(text: str, folder: Path) -> str:
    """Visible ASCII characters."""
    if not re.fullmatch(r"[\x20-\x7e]+", text):
        raise Wrong("a secret is one or more visible ASCII characters")
    return text


def user(text: str, folder: Path) -> str:
    """A user of this host."""
    try:
        pwd.getpwnam(text)
    except KeyError:
        raise Wrong("there is no such user on this host") from None
    return text
