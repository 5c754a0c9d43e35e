"""Reasons: why a build, an attempt or a request ended as it did, in words.

A reason is a key of `SENTENCES` with its values. Records and programs get the English sentence,
and beside it the key and the values, from which a page makes the sentence in its reader's
language (`ui/reasons.py`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

# A value is text, a number, or a reason itself; `reasons` is a list of them.
SENTENCES: dict[str, str] = {
    # How a build or an attempt ended.
    "exit_status": "exit status {status}",
    "killed": "killed by signal {signal}",
    "cancelled": "cancelled",
    "cancelled_by": "cancelled by {name}",
    "agent_gone": "agent {agent} is gone: {reason}",
    "port_refuses": "its port refuses connections",
    "silent": "silent for {seconds} s",
    "forgotten": "agent {agent} no longer has it",
    "overdue": "agent {agent} did not finish it in time",
    "returned": "agent {agent} stopped",
    "gave_back": "agent {agent} gave it back: {reason}",
    "another_server": "it works for another server, or for an earlier start of this one",
    "no_answer_from": "no answer from {agent}: {reason}",
    "paused": "it is paused",
    "refused_by": "{agent} refused: {reason}",
    "lost": "given up after {count} attempts: {reasons}",
    "lost_once": "given up after {count} attempt: {reasons}",
    "lost_attempt": "attempt {attempt} on {agent}: {reason}",
    "timed_out": "ran out of time after {seconds} s (build_timeout)",
    "checkout_failed": "checkout failed: {reason}",
    "checkout_timed_out": "ran out of time",
    "no_commit": 'no commit "{commit}" in {repository}',
    "git_status": "git ended with status {status}",
    "tried": "{reason} (tried {count} times in {seconds} s)",
    "not_made": "{path} can't be made: {error}",
    "not_moved": "{path} is in the way and can't be moved: {error}; see lsattr, and remove it",
    "attributes_left": "a build has left access lists or other attributes at {path}",
    "submodule_failed": "submodule {submodule}: {reason}",
    "submodule_unknown": "there is no URL for it in .gitmodules",
    "submodule_local": "{url} is on the agent's host, and the repository is not",
    "not_started": "the command can't be started: {error}",
    "http_status": "HTTP {status}",
    "http_reason": "HTTP {status}: {reason}",
    "rejected": "the agent will not run it, and did not say why",
    "slots_taken": "every slot is taken",
    "agent_stops": "this agent stops",
    # Why something that a command has left is not kept with the build.
    "file_link": "a link",
    "file_socket": "a socket",
    "file_pipe": "a pipe",
    "file_device": "a device",
    "file_over_limit": "more than files_limit allows, {bytes} bytes for all files of a build",
    "file_not_utf8": "its name is no UTF-8",
    "file_path_wrong": "a path has names between slashes, none of them empty, `.` or `..`",
    "file_part_long": "a name in its path is longer than {bytes} bytes",
    "file_path_long": "its path is longer than {bytes} bytes",
    "file_one_too_many": "more than {count} files",
    "file_unreadable": "it can't be kept: {error}",
    "file_refused": "the server refused it: {reason}",
    "no_files": "build {build} has no files",
    "file_missing": 'build {build} has no file "{path}"',
    # What an agent says of a build, and of itself.
    "agent_stopping": "the agent stops",
    "moved_on": "it goes on elsewhere",
    "command_lost": "{reason}, and the command with it",
    "agent_error": "the agent can't go on: {error}",
    "agent_internal_error": "internal error; see the agent's log",
    "agent_disk": "the agent's data folder can't be written: {error}",
    "agent_git": "the agent can't run git: {reason}",
    "agent_supervisor": "the agent can't start commands: {reason}",
    "other_instance": "this agent works for another server",
    "not_on_agent": "this agent has no such build",
    "param_id": "the parameter {name} must be a number from 1 on, in plain digits",
    "param_label": "the parameter {name} must be at most {count} characters in one line",
    "param_ref": "the parameter ref must be the full name of a ref, like refs/heads/main",
    "supervisor_unavailable": "the supervisor of commands can't be started: {error}",
    "supervisor_ended": "it ended at once; see the agent's log",
    "supervisor_lost": "the supervisor of the command was killed",
    "supervisor_hangs": "the supervisor of the command does not answer",
    "internal_error": "internal error; see the server's log",
    "labels_long": "labels are at most {count} characters in all",
    "label_wrong": (
        "{label} is no label: labels are ASCII letters, digits and . _ - :, separated by blanks"
    ),
    "param_wrong": "the parameter {name} is wrong: {reason}",
    "no_project": "there is no project {project}; the projects are: {known}",
    "superseded": "a newer build of this branch took its place: build {build}",
    # Why a build waits.
    "wait_soon": "an agent is free: the build is about to start",
    "wait_next": "next for a free slot",
    "wait_next_in": "next for a free slot, in about {time}",
    "wait_place": "number {place} in the queue for a free slot",
    "wait_place_in": "number {place} in the queue for a free slot, in about {time}",
    "wait_alone": "its last attempt runs alone, on an agent that has nothing else to do",
    "wait_alone_agent": (
        "its last attempt runs alone: it waits until {agent} has nothing else to do"
    ),
    "wait_kept": "waits for build {build}, whose last attempt runs alone; {agent} is kept for it",
    "wait_postponed": "the server can't start builds for want of disk or threads; see its log",
    "wait_no_agent": "no agent is registered: start one, the page /agents says how",
    "wait_label_missing": "no agent has the label {labels}: start one that has it",
    "wait_labels_missing": "no agent has the labels {labels}: start one that has them",
    "wait_no_agent_with_all": "no single agent has all of the labels {labels}: start one",
    "wait_unable": "no agent takes builds now: {reasons}",
    "wait_unable_label": "no agent with the label {labels} takes builds now: {reasons}",
    "wait_unable_labels": "no agent with the labels {labels} takes builds now: {reasons}",
    "wait_paused": "{agent} is paused: resume it",
    "wait_paused_too": "{reason} (it is paused too: resume it)",
    "wait_trouble": "{agent} is in trouble: {reason}",
    "wait_stopping": "{agent} is stopping: start it again",
    "wait_refusing": "{agent} refused a build or did not answer, and is asked again",
    "wait_gone": "{agent} is gone: start it again",
    "wait_more": "{count} more",
    "about_seconds": "{count} s",
    "about_minutes": "{count} min",
    "about_hours": "{count} h",
    # Looks at a repository's refs.
    "git_not_started": "git can't be started: {error}",
    "git_said": "git says: {message}",
    "look_too_long": "the repository lists more than {mebibytes} MiB of refs",
    "look_timed_out": "the repository did not list its refs in {seconds} s",
    # Calls between server and agent.
    "slow_answer": "the answer took too long",
    "unresolved": "the name in {url} can't be resolved: {error}",
    "timeout": "no answer from {url} in time",
    "untrusted": "the certificate of {url} is not trusted: {error}",
    "no_connection": "no connection to {url}: {error}",
    "disconnected": "{url} ended the connection without an answer",
    "not_http": "{url} did not answer in HTTP: {error}",
    # Errors of requests.
    "no_build": "there is no build {build}",
    "no_agent": "there is no agent at {address}",
    "no_page": "there is no such page",
    "no_file": "there is no such file",
    "no_attempt": "build {build} never had an attempt {attempt}",
    "damaged": "build {build} is damaged: {reason}",
    "output_contradicts": "its timeline and its streams contradict each other",
    "record_missing": "its record is missing",
    "record_unreadable": "its record can't be read: {error}",
    "record_of_another": "the record is of build {build}",
    "not_a_build": "not a build: {error}",
    "wrong_kind": "a value is of the wrong kind",
    "output_damaged": "its output is damaged: {error}",
    "folder_unusable": "its folder can't be used: {error}",
    "queue_full": "{count} builds are waiting already",
    "data_unwritable": "the data folder can't be written: {error}",
    "method": "this path takes {methods}",
    "cross_site": "this was sent by a page of another site",
    "sign_in": "sign in with a name and a password",
    "too_many_tries": "too many wrong passwords; try again in {seconds} s",
    "too_many_viewers": "too many are watching; look again later",
    "server_error": "internal error; the server's log has the details",
    "unknown_host": "this server does not go by that name; set `url` or `advertise` {advice}",
    "param_missing": "the parameter {name} is missing",
    "param_not_utf8": "the parameter {name} is not UTF-8",
    "param_choice": "the parameter {name} must be one of {choices}",
    "param_whole": "the parameter {name} must be a whole number from {least} on",
    "param_positive": "the parameter {name} must be a number above 0",
    "param_text": "the parameter {name} must be text",
    "param_text_or_number": "the parameter {name} must be text or a whole number",
    "params_many": "there are more than {count} parameters",
    "param_range": "the parameter {name} must be a number from {least} to {most}",
    "param_ids": "the parameter {name} must be ids, separated by commas",
    "param_host": "the parameter {name} must be a host name or an IP address",
    "stale_attempt": "the build is no longer this attempt's",
    "offset_gap": "the stream goes on elsewhere: send from where the server says",
    "no_browser": "an agent answers no browser",
    "not_a_request": "this is no request of HTTP/1.1",
    "one_host": "there must be one Host",
    "target_slash": "the target of a request begins with a slash",
    "line_long": "the request line is longer than {bytes} bytes",
    "headers_long": "the headers are longer than {bytes} bytes",
    "headers_many": "there are more than {count} headers",
    "header_form": "a header is not of the form name: value",
    "no_chunks": "send the body with a Content-Length, not in chunks",
    "one_length": "there must be one Content-Length, a number",
    "param_twice": "the parameter {name} is there twice",
    "param_incomplete": (
        "parameter {number} is not of the form name=value: encode each value, "
        "as `curl --data-urlencode` does"
    ),
    "param_unknown": "unknown parameter {names}; known are {known}",
    "param_unknown_none_known": "unknown parameter {names}; this call takes none",
    "no_json": "the body is no JSON",
    "no_json_object": "the body must be a JSON object",
    "param_long": "a parameter is longer than {bytes} bytes",
    "content_type": "send parameters as {kinds}",
    "no_bytes": "there are no such bytes",
    "body_large": "the body is larger than {bytes} bytes",
}

Value = Union[str, int, float, "Reason", Sequence["Reason"]]


class Reason(str):
    """An English sentence that knows the key and the values that it was made from.

    `Reason("exit_status", status=3)` equals "exit status 3". KeyError for an unknown key or a
    missing value.
    """

    key: str
    values: Mapping[str, Value]

    def __new__(cls, key: str, **values: Value) -> Reason:
        text = {
            name: "; ".join(value) if isinstance(value, (list, tuple)) else value
            for name, value in values.items()
        }
        reason = super().__new__(cls, SENTENCES[key].format(**text))
        reason.key = key
        reason.values = values
        return reason


def sentence_of(error: BaseException) -> str:
    """Return the message of an exception, as the Reason that it was raised with."""
    return error.args[0] if error.args and isinstance(error.args[0], str) else str(error)


def to_json(reason: Optional[str]) -> tuple[Optional[str], Optional[dict[str, Any]]]:
    """The key and the values of a reason as a record has them; None for a plain sentence."""
    if not isinstance(reason, Reason):
        return None, None
    return reason.key, {name: _value_to_json(value) for name, value in reason.values.items()}


def from_json(sentence: Optional[str], key: object, values: object) -> Optional[str]:
    """The reason that a record holds; the plain sentence if its key is missing or unknown."""
    if not isinstance(key, str) or not isinstance(values, Mapping):
        return sentence
    try:
        return Reason(key, **{str(name): _value_from_json(v) for name, v in values.items()})
    except (AttributeError, LookupError, ValueError, TypeError, RecursionError):
        return sentence


def _value_to_json(value: Value) -> Any:
    if isinstance(value, Reason):
        key, values = to_json(value)
        return {"key": key, "values": values}
    if isinstance(value, (list, tuple)):
        return [_value_to_json(each) for each in value]
    return value


def _value_from_json(value: Any) -> Value:
    if isinstance(value, Mapping):
        return Reason(
            value["key"], **{name: _value_from_json(v) for name, v in value["values"].items()}
        )
    if isinstance(value, list):
        return [_value_from_json(each) for each in value]  # type: ignore[misc]
    if isinstance(value, (str, int, float)):
        return value
    raise TypeError("a value of a reason is text, a number or a reason")
