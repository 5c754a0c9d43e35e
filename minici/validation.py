"""Checks of what people and servers ask for: commits, commands, repositories.

Pure: each check returns what is wrong in one sentence, or None. Section 3 of the contract.
"""

from __future__ import annotations

import re
from typing import Optional

from minici.reasons import Reason

COMMAND_LIMIT = 100 * 1024  # bytes: Linux takes at most 128 KiB in one argument


COMMIT_LIMIT = 1024  # bytes: a full name of a ref is several folders deep


REF_LIMIT = 4096  # bytes: the longest path of a file that a repository can have for it


FILE_PATH_LIMIT = 1000  # bytes of the path of a build's file
FILE_PART_LIMIT = 255  # bytes of one part of it
MOST_FILES = 10_000  # of one build
MOST_NAMED_FILES = 100  # of those that are left out; the others are counted


LABELS_LIMIT = 1000  # characters


_LABEL = re.compile(r"[A-Za-z0-9._:-]+")


_SUFFIX = re.compile(r"(?:\^\d*|~\d*)*\Z")


_NOT_IN_A_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|\Z)")


_ESCAPED_BYTE = re.compile(r"\\x[0-9a-f]{2}")


_TRANSPORT = re.compile(r"[A-Za-z0-9.+-]*::")


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Complaint(str):
    """An error in a value, in one sentence; `kind` is `empty`, `long` or `wrong`."""

    kind: str

    def __new__(cls, kind: str, sentence: str) -> Complaint:
        complaint = super().__new__(cls, sentence)
        complaint.kind = kind
        return complaint


def check_commit(commit: str) -> Optional[Complaint]:
    """Say what is wrong with a commit as typed, or None if nothing is.

    It may be a hash, a branch, a tag, any full name of a ref or HEAD, followed by `~N` or `^N`.
    """
    if not commit:
        return Complaint("empty", "name a commit: a hash, a branch, a tag, or HEAD")
    if len(commit.encode("utf-8", "surrogateescape")) > COMMIT_LIMIT:
        return Complaint("long", f"a commit is at most {COMMIT_LIMIT} bytes long")
    if commit.startswith("-"):
        return Complaint("wrong", "a commit does not begin with a dash")
    suffix = _SUFFIX.search(commit)
    name = commit[: suffix.start()] if suffix else commit
    if not name or name[0] in "/." or name[-1] in "/." or name == "@":
        return Complaint("wrong", "this is no hash, branch, tag or HEAD")
    if _NOT_IN_A_NAME.search(name) or not _encodable(name):
        return Complaint("wrong", "this is no hash, branch, tag or HEAD: no name of git looks so")
    return None


def is_full_ref(ref: str) -> bool:
    """Return whether this is a full name of a ref, as a look at a repository finds it.

    A byte that is no UTF-8 is written as `\\xff`.
    """
    name = _ESCAPED_BYTE.sub("_", ref)
    return (
        name.startswith("refs/")
        and name[-1] not in "/."
        and not _NOT_IN_A_NAME.search(name)
        and _encodable(name)
        and len(name.encode("utf-8")) <= REF_LIMIT
    )


def check_command(command: str) -> Optional[Complaint]:
    """Say what is wrong with a command, or None if nothing is."""
    if not command.strip():
        return Complaint("empty", "write the command to run")
    if "\0" in command or not _encodable(command):
        return Complaint("wrong", "a command is text without NUL")
    if len(command.encode("utf-8")) > COMMAND_LIMIT:
        sentence = f"a command is at most {COMMAND_LIMIT} bytes long: put it into a script"
        return Complaint("long", sentence)
    return None


def check_repository(repository: str) -> Optional[Complaint]:
    """Say why a repository must not be given to git, or None if it may."""
    if not repository:
        return Complaint("empty", "name a repository: a URL or a path")
    if repository.startswith("-"):
        return Complaint("wrong", "a repository does not begin with a dash")
    if _CONTROL.search(repository) or not _encodable(repository):
        return Complaint("wrong", "a repository has no control characters")
    if _TRANSPORT.match(repository):
        sentence = "a repository is a path or a URL; transports like ext:: are not allowed"
        return Complaint("wrong", sentence)
    return None


def check_file_path(path: str) -> Optional[Reason]:
    """Say why a path can't be that of a build's file, or None if it can: rule 19.

    It stands below a folder, its parts separated by `/`.
    """
    if not _encodable(path):
        return Reason("file_not_utf8")
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        return Reason("file_path_wrong")
    if any(len(part.encode("utf-8")) > FILE_PART_LIMIT for part in parts):
        return Reason("file_part_long", bytes=FILE_PART_LIMIT)
    if len(path.encode("utf-8")) > FILE_PATH_LIMIT:
        return Reason("file_path_long", bytes=FILE_PATH_LIMIT)
    return None


def split_labels(text: str) -> tuple[str, ...]:
    """The labels in a text, separated by blanks, each once. Raises ValueError with a Reason."""
    if len(text) > LABELS_LIMIT:
        raise ValueError(Reason("labels_long", count=LABELS_LIMIT))
    labels = tuple(dict.fromkeys(text.split()))
    for each in labels:
        if not _LABEL.fullmatch(each):
            raise ValueError(Reason("label_wrong", label=each))
    return labels


def public(text: str) -> str:
    """A text with addresses of repositories as it may be shown: without passwords.

    Where the name may be a password too, as tokens are in HTTP, it goes as well.
    """
    text = re.sub(r"(?i)(?<=\bhttp://)[^/\s]*@|(?<=\bhttps://)[^/\s]*@", "", text)
    return re.sub(r"(?<=://)([^/@:\s]*):[^/\s]*@", r"\1@", text)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
