"""The variables that a command finds in its environment: the end of section 3 of the contract.

Pure: the agent's own environment comes as a parameter.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Optional

# Names that look secret: some words anywhere, others at the end of a word of the name.
_LOOKS_SECRET = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|APIKEY"
    r"|(?:PASS|PAT|AUTH|API_KEY|ACCESS_KEY|PRIVATE_KEY)(?![A-Z0-9])",
    re.IGNORECASE,
)

# Variables that bind git to one repository: `git rev-parse --local-env-vars` of several versions.
_GIT_LOCAL = frozenset(
    """
    GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT
    GIT_OBJECT_DIRECTORY GIT_DIR GIT_WORK_TREE GIT_IMPLICIT_WORK_TREE GIT_GRAFT_FILE
    GIT_INDEX_FILE GIT_NO_REPLACE_OBJECTS GIT_REPLACE_REF_BASE GIT_PREFIX
    GIT_INTERNAL_SUPER_PREFIX GIT_SHALLOW_FILE GIT_COMMON_DIR GIT_NAMESPACE
    """.split()
)
# Variables of a single build. An agent that was started by a build has those of another one.
_OF_A_BUILD = frozenset(("JOB_NAME", "GIT_BRANCH", "BRANCH_NAME", "TAG_NAME", "OLDPWD"))

_BRANCH = "refs/heads/"
_TAG = "refs/tags/"


def command_environment(
    inherited: Mapping[str, str], passed: Iterable[str], given: Mapping[str, str]
) -> dict[str, str]:
    """Return the part of the agent's environment that a command may see, with `given` added.

    `passed` are patterns of names that look secret and are let through all the same.
    """
    patterns = tuple(passed)
    kept = {name: text for name, text in inherited.items() if _visible(name, patterns)}
    return {**kept, **given}


def passed_secrets(inherited: Mapping[str, str], passed: Iterable[str]) -> list[str]:
    """Return the values of the variables that look secret and are let through."""
    patterns = tuple(passed)
    return [
        text
        for name, text in inherited.items()
        if _LOOKS_SECRET.search(name) and _visible(name, patterns)
    ]


def build_variables(
    *,
    number: int,
    attempt: int,
    commit: str,
    revision: str,
    repository: str,
    url: str,
    workspace: str,
    artifacts: str,
    project: Optional[str] = None,
    event: Optional[str] = None,
    ref: Optional[str] = None,
) -> dict[str, str]:
    """Return the variables that describe a build, under minici's names and those of other tools."""
    variables = {
        "CI": "true",
        "MINICI": "true",
        "MINICI_BUILD_ID": str(number),
        "MINICI_ATTEMPT": str(attempt),
        "MINICI_COMMIT": commit,
        "MINICI_REVISION": revision,
        "MINICI_REPOSITORY": repository,
        "MINICI_BUILD_URL": url,
        "MINICI_ARTIFACTS": artifacts,
        "MINICI_PROJECT": project,
        "MINICI_EVENT": event,
        "BUILD_ID": str(number),
        "BUILD_NUMBER": str(number),
        "BUILD_URL": url,
        "GIT_COMMIT": revision,
        "GIT_TERMINAL_PROMPT": "0",
        "JOB_NAME": project,
        "WORKSPACE": workspace,
        "PWD": workspace,
        **_ref_variables(ref),
    }
    return {name: text for name, text in variables.items() if text is not None}


def _ref_variables(ref: Optional[str]) -> dict[str, Optional[str]]:
    if ref is None:
        return {}
    branch = ref[len(_BRANCH) :] if ref.startswith(_BRANCH) else None
    tag = ref[len(_TAG) :] if ref.startswith(_TAG) else None
    return {
        "MINICI_REF": ref,
        "MINICI_BRANCH": branch,
        "GIT_BRANCH": branch,
        "BRANCH_NAME": branch,
        "MINICI_TAG": tag,
        "TAG_NAME": tag,
    }


@functools.lru_cache(maxsize=4096)  # the same names, build after build
def _visible(name: str, passed: tuple[str, ...]) -> bool:
    if name.startswith("MINICI_") or name in _GIT_LOCAL or name in _OF_A_BUILD:
        return False
    return not _LOOKS_SECRET.search(name) or any(fnmatchcase(name, each) for each in passed)
