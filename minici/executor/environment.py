"""The variables that a command finds in its environment: the end of section 3 of the contract.

Pure: what the agent itself has comes as a parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

# Names like these look secret.
_SECRET = (
    "*_SECRET",
    "*_TOKEN",
    "*_PASSWORD",
    "*_API_KEY",
    "*_ACCESS_KEY",
    "*_PRIVATE_KEY",
    "*_SECRET_KEY",
)

# What binds git to one repository, by `git rev-parse --local-env-vars`: of several versions.
_GIT_LOCAL = frozenset(
    """
    GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT
    GIT_OBJECT_DIRECTORY GIT_DIR GIT_WORK_TREE GIT_IMPLICIT_WORK_TREE GIT_GRAFT_FILE
    GIT_INDEX_FILE GIT_NO_REPLACE_OBJECTS GIT_REPLACE_REF_BASE GIT_PREFIX
    GIT_INTERNAL_SUPER_PREFIX GIT_SHALLOW_FILE GIT_COMMON_DIR GIT_NAMESPACE
    """.split()
)


def command_environment(
    inherited: Mapping[str, str], passed: Iterable[str], given: Mapping[str, str]
) -> dict[str, str]:
    """What of the agent's environment a command may see, and what is `given` to it.

    `passed` are patterns of names that look secret and are let through all the same.
    """
    patterns = tuple(passed)
    kept = {name: text for name, text in inherited.items() if _visible(name, patterns)}
    return {**kept, **given}


def build_variables(
    *,
    number: int,
    attempt: int,
    commit: str,
    revision: str,
    repository: str,
    url: str,
    workspace: str,
) -> dict[str, str]:
    """What a command learns of its build, under minici's names and under those of other tools."""
    return {
        "CI": "true",
        "MINICI": "true",
        "MINICI_BUILD_ID": str(number),
        "MINICI_ATTEMPT": str(attempt),
        "MINICI_COMMIT": commit,
        "MINICI_REVISION": revision,
        "MINICI_REPOSITORY": repository,
        "MINICI_BUILD_URL": url,
        "BUILD_ID": str(number),
        "BUILD_NUMBER": str(number),
        "BUILD_URL": url,
        "GIT_COMMIT": revision,
        "GIT_TERMINAL_PROMPT": "0",
        "WORKSPACE": workspace,
        "PWD": workspace,
    }


@functools.lru_cache(maxsize=4096)  # the same names, build after build
def _visible(name: str, passed: tuple[str, ...]) -> bool:
    if name.startswith("MINICI_") or name in _GIT_LOCAL or name == "OLDPWD":
        return False
    return not _matches(name.upper(), _SECRET) or _matches(name, passed)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
