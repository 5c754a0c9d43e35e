"""The meaning of git's messages: what is wrong, and whether a retry may help. Pure."""

from __future__ import annotations

import re

from minici.reasons import Reason
from minici.validation import public

_COMPLAINT_LENGTH = 2000  # characters

# What git adds to any trouble with a repository.
_BOILERPLATE = (
    "fatal: Could not read from remote repository",
    "Please make sure you have the correct access rights",
    "and the repository exists",
    "warning:",
    "hint:",
)
# Progress and lists of refs, which are no complaints.
_NEWS = re.compile(r"(remote: )?[A-Z][a-z]+ (objects|deltas|files): |From |[*+=!-] |[0-9a-f]+\.\.")
_ALTERNATE = "unable to normalize alternate object path"
_DAMAGE = re.compile(r"^error: .*(?:object|pack).*", re.MULTILINE)
_FORMAT = re.compile(r"(error|warning) in (blob|tree|commit|tag) [0-9a-f]+: |dangling |notice: ")
# Answers that stay the same however often one asks. A status of HTTP is in most of them; 408, 425
# and 429 ask for another try.
_FINAL = re.compile(
    r"not found\b|does not appear to be a git repository|not a git repository"
    r"|authentication failed|could not read (username|password)|permission denied|access denied"
    r"|terminal prompts disabled|host key verification failed|too many authentication failures"
    r"|returned error: 4(?!08|25|29)\d\d|certificate|couldn't find remote ref|not our ref"
    r"|unadvertised object|dubious ownership|transport '.*' not allowed|remote helper|blocked"
    r"|unsupported protocol|bad/illegal format|malformed|mismatched algorithms"
    r"|no space left|quota exceeded|read-only file system",
    re.IGNORECASE,
)
_REMOTE_ERROR = re.compile(r"remote error: ", re.IGNORECASE)
_PASSING = re.compile(r"tempora|again|too many|busy|time|internal|overload", re.IGNORECASE)
_CORRUPTION = re.compile(
    r"repository corruption|did not send all necessary objects|unable to read|bad (tree|object)"
    r"|missing (tree|blob|commit|necessary)|fsck error|unable to update local ref|cannot lock ref",
    re.IGNORECASE,
)


def complaint(messages: str, status: int) -> str:
    """Return the sentence of git's messages that says what is wrong."""
    lines = [line.strip() for line in messages.splitlines()]
    telling = [
        number
        for number, line in enumerate(lines)
        if line and not line.startswith(_BOILERPLATE) and not _NEWS.match(line)
    ]
    fatal = [
        number
        for number in telling
        if lines[number].startswith(("fatal:", "error:", "remote: fatal:"))
        and _ALTERNATE not in lines[number]
    ]
    first = fatal[:1] or telling[-1:]
    if not first:
        return public(lines[-1]) if lines and lines[-1] else Reason("git_status", status=status)
    said = re.sub(r"^(remote: )?(fatal|error): ", "", _sentence(lines[first[0] :]))
    return public(said if len(said) <= _COMPLAINT_LENGTH else f"{said[:_COMPLAINT_LENGTH]}...")


def _sentence(lines: list[str]) -> str:
    """The first line, with the following ones as long as it ends in a colon."""
    sentence, *others = lines
    for line in others:
        if not sentence.endswith(":") or not line or line.startswith(_BOILERPLATE):
            break
        sentence = f"{sentence} {line}"
    return sentence


def is_final(messages: str) -> bool:
    """Tell whether a repository's refusal would be the same at the next try."""
    if _REMOTE_ERROR.search(messages) and not _PASSING.search(messages):
        return True
    return _FINAL.search(messages) is not None


def is_corruption(messages: str) -> bool:
    """Tell whether something in the repository itself, or one of its refs, can't be fetched."""
    return _CORRUPTION.search(messages) is not None


def damage(messages: str) -> list[str]:
    """Return the lines that may come from a broken object or pack. Many of them are harmless."""
    return _DAMAGE.findall(messages)


def breakage(messages: str) -> str:
    """Return what `git fsck` says of damage, without its remarks on the form of objects."""
    lines = messages.splitlines()
    return "\n".join(line for line in lines if line and not _FORMAT.match(line))
