"""An order to run a build: the parameters of `POST /build`, section 3 of the contract."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from minici.build import AttemptId
from minici.reasons import Reason
from minici.validation import check_command, check_commit, check_repository, is_full_ref
from minici.web.params import BadParameter, Parameters

# The defaults of the server's configuration, for servers that leave these parameters out.
_TIMEOUT_SECONDS = 3600.0
_OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
_FILES_LIMIT_BYTES = 1024 * 1024 * 1024

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_LABEL_CHARACTERS = 255  # of a project and an event: a server that is newer may have longer ones


@dataclass(frozen=True)
class Order:
    """A build as the server hands it over. `timeout` is in seconds, limits are in bytes."""

    attempt_id: AttemptId
    repository: str
    commit: str
    command: str
    timeout: float
    output_limit: int
    url: str
    files_limit: int = _FILES_LIMIT_BYTES
    project: Optional[str] = None
    event: Optional[str] = None
    ref: Optional[str] = None
    submodules: bool = False

    @property
    def title(self) -> str:
        return f"build {self.attempt_id.build} (attempt {self.attempt_id.attempt})"


def read_order(params: Parameters, server: str) -> Order:
    """Read an order; `server` is the server's URL. Raises BadParameter."""
    number = read_number(params, "id")
    commit, command = params.text("commit"), params.text("command")
    repository = params.text("repository")
    wrong = check_repository(repository) or check_commit(commit) or check_command(command)
    if wrong:
        raise BadParameter(wrong)
    return Order(
        attempt_id=AttemptId(number, read_number(params, "attempt", 1)),
        repository=repository,
        commit=commit,
        command=command,
        timeout=params.decimal("timeout", _TIMEOUT_SECONDS),
        output_limit=params.number("output_limit", _OUTPUT_LIMIT_BYTES, least=1),
        url=params.text("url", "") or f"{server}/build/{number}",
        files_limit=params.number("files_limit", _FILES_LIMIT_BYTES),
        project=_read_label(params, "project"),
        event=_read_label(params, "event"),
        ref=_read_ref(params),
        submodules=params.text("submodules", "") == "1",
    )


def read_number(params: Parameters, name: str, default: Optional[int] = None) -> int:
    """Read the number of a build or an attempt. Raises BadParameter."""
    if default is not None and not params.get(name):
        return default
    text = params.text(name)
    if not _NUMBER.fullmatch(text):
        raise BadParameter(Reason("param_id", name=name))
    return int(text)


def _read_label(params: Parameters, name: str) -> Optional[str]:
    """Read a word that only goes into the environment of the command."""
    text = params.text(name, "")
    if not text.isprintable() or len(text) > _LABEL_CHARACTERS:
        raise BadParameter(Reason("param_label", name=name, count=_LABEL_CHARACTERS))
    return text or None


def _read_ref(params: Parameters) -> Optional[str]:
    ref = params.text("ref", "")
    if ref and not is_full_ref(ref):
        raise BadParameter(Reason("param_ref"))
    return ref or None
