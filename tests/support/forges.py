"""Webhooks as each forge sends them: all headers, the whole body, and what is signed of it.

After the documents of GitHub, Gitea, Forgejo, Gogs, GitLab and Bitbucket, and, where they differ,
after what Gitea, Forgejo and Gogs do: these sign their JSON, also where they send it in a form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable
from urllib.parse import quote_plus

BEFORE, AFTER = "8ef2417b60" * 4, "6c1f0a93d2" * 4
DELIVERY = "1b5f3a9e-6d0c-4f57-8f4e-52a7c7a3d1b0"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Delivery:
    """One request. `proofs` makes the headers that depend on the secret."""

    name: str
    headers: Headers
    body: bytes
    proofs: Callable[[str], Headers]

    def signed(self, secret: str) -> Headers:
        """All headers of the request, from a forge that has this secret."""
        return {**self.headers, **self.proofs(secret)}


def deliveries() -> list[Delivery]:
    """What forges send of a push, and when a webhook is tried. A secret begins with `whsec_`."""
    return [*_github(), *_gitea_and_its_kin(), *_gitlab(), *_bitbucket()]


def _github() -> list[Delivery]:
    push = _json({**_push("github.example"), "created": False, "deleted": False, "forced": False})
    ping = _json({"zen": "Design for failure.", "hook_id": 7, "hook": {"events": ["push"]}})
    form = b"payload=" + quote_plus(push).encode()
    return [
        Delivery(name, {**_github_headers(event), **kind}, body, _github_proofs(body))
        for name, event, kind, body in (
            ("GitHub", "push", JSON, push),
            ("GitHub, a form", "push", FORM, form),
            ("GitHub, a ping", "ping", JSON, ping),
        )
    ]


def _github_headers(event: str) -> Headers:
    return {
        "User-Agent": "GitHub-Hookshot/044aadd",
        "Accept": "*/*",
        "X-GitHub-Delivery": DELIVERY,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "292430182",
        "X-GitHub-Hook-Installation-Target-ID": "79929171",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }


def _github_proofs(body: bytes) -> Callable[[str], Headers]:
    return lambda secret: {
        "X-Hub-Signature": f"sha1={hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}",
        "X-Hub-Signature-256": f"sha256={_digest(secret, body)}",
    }


def _gitea_and_its_kin() -> list[Delivery]:
    found = []
    for forge, kinds in (
        ("Gitea", ("Gitea", "Gogs", "GitHub")),
        ("Forgejo", ("Forgejo", "Gitea", "Gogs", "GitHub")),
        ("Gogs", ("Gogs", "GitHub")),
    ):
        push = json.dumps(_push(f"{forge.lower()}.example"), indent=2, ensure_ascii=False).encode()
        headers = {"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"}
        for kind in kinds:
            headers.update({f"X-{kind}-Delivery": DELIVERY, f"X-{kind}-Event": "push"})
            if forge != "Gogs":
                headers[f"X-{kind}-Event-Type"] = "push"
        signing = [kind for kind in kinds if kind != "GitHub"]
        hub = _github_proofs(push) if forge != "Gogs" else lambda secret: {}
        proofs = _named_proofs(signing, push, hub)
        form = b"payload=" + quote_plus(push).encode()
        found.append(Delivery(forge, {**headers, **JSON}, push, proofs))
        found.append(Delivery(f"{forge}, a form", {**headers, **FORM}, form, proofs))
        if forge != "Gogs":
            # Without a secret, and with a header `Authorization` of the hook's own.
            bare = {**{f"X-{kind}-Signature": "" for kind in signing}, **headers, **JSON}
            bare.update({"X-Hub-Signature": "sha1=", "X-Hub-Signature-256": "sha256="})
            found.append(Delivery(f"{forge}, a bearer", bare, push, bearer))
    return found


def _named_proofs(
    kinds: list[str], payload: bytes, hub: Callable[[str], Headers]
) -> Callable[[str], Headers]:
    return lambda secret: {
        **{f"X-{kind}-Signature": _digest(secret, payload) for kind in kinds},
        **hub(secret),
    }


def bearer(secret: str) -> Headers:
    """The secret itself, as `curl` sends it."""
    return {"Authorization": f"Bearer {secret}"}


def _gitlab() -> list[Delivery]:
    common = {
        **JSON,
        "User-Agent": "GitLab/18.11.0",
        "Idempotency-Key": DELIVERY,
        "X-Gitlab-Webhook-UUID": DELIVERY,
        "X-Gitlab-Event-UUID": DELIVERY,
        "X-Gitlab-Instance": "https://gitlab.example",
    }
    push, tag = _gitlab_push("push", "refs/heads/main"), _gitlab_push("tag_push", "refs/tags/v1")
    push_hook = {**common, "X-Gitlab-Event": "Push Hook"}
    tag_hook = {**common, "X-Gitlab-Event": "Tag Push Hook"}
    return [
        Delivery("GitLab", push_hook, push, lambda secret: {"X-Gitlab-Token": secret}),
        Delivery("GitLab, a tag", tag_hook, tag, lambda secret: {"X-Gitlab-Token": secret}),
        Delivery("GitLab, signed", push_hook, push, lambda secret: _standard(secret, push)),
        Delivery(
            "GitLab, both",
            push_hook,
            push,
            lambda secret: {"X-Gitlab-Token": secret, **_standard(secret, push)},
        ),
    ]


def _standard(secret: str, body: bytes) -> Headers:
    """Standard Webhooks: the secret is the key in Base64 behind `whsec_`."""
    key = base64.b64decode(secret[len("whsec_") :])
    timestamp = "1781234567"
    text = f"{DELIVERY}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": DELIVERY,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature}",
    }


def _bitbucket() -> list[Delivery]:
    cloud = {
        **JSON,
        "User-Agent": "Bitbucket-Webhooks/2.0",
        "X-Event-Key": "repo:push",
        "X-Hook-UUID": DELIVERY,
        "X-Request-UUID": DELIVERY,
        "X-Attempt-Number": "1",
    }
    own = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Atlassian HttpClient 4.0.0 / Bitbucket-9.4.0 (9004000) / Default",
        "X-Request-Id": DELIVERY,
    }
    changes = {"push": {"changes": [{"new": {"type": "branch", "name": "main"}, "forced": False}]}}
    refs = {
        "eventKey": "repo:refs_changed",
        "changes": [{"refId": "refs/heads/main", "fromHash": BEFORE, "toHash": AFTER}],
    }
    return [
        Delivery(name, headers, body, _hub_of(body))
        for name, headers, body in (
            ("Bitbucket Cloud", cloud, _json({"actor": {"nickname": "ada"}, **changes})),
            ("Bitbucket", {**own, "X-Event-Key": "repo:refs_changed"}, _json(refs)),
            ("Bitbucket, a test", {**own, "X-Event-Key": "diagnostics:ping"}, b'{"test": true}'),
        )
    ]


def _hub_of(body: bytes) -> Callable[[str], Headers]:
    return lambda secret: {"X-Hub-Signature": f"sha256={_digest(secret, body)}"}


def _digest(secret: str, text: bytes) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def _json(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def _push(host: str) -> dict[str, Any]:
    """A push as GitHub has it, and those who follow it."""
    person = {"name": "Ada Lovelace", "email": "ada@example.org", "username": "ada"}
    url = f"https://{host}/ada/tides"
    commit = {
        "id": AFTER,
        "message": "Spring tides: 100 % & more — «сизигии»\n",
        "timestamp": "2026-06-12T09:26:07+02:00",
        "url": f"{url}/commit/{AFTER}",
        "author": person,
        "committer": person,
        "added": [],
        "removed": [],
        "modified": ["tides/spring + neap.py"],
    }
    return {
        "ref": "refs/heads/main",
        "before": BEFORE,
        "after": AFTER,
        "compare_url": f"{url}/compare/{BEFORE}...{AFTER}",
        "commits": [commit],
        "head_commit": commit,
        "repository": {"id": 140, "full_name": "ada/tides", "clone_url": f"{url}.git"},
        "pusher": person,
        "sender": {"login": "ada", "id": 1},
    }


def _gitlab_push(kind: str, ref: str) -> bytes:
    url = "https://gitlab.example/ada/tides"
    payload = {
        "object_kind": kind,
        "event_name": kind,
        "before": BEFORE,
        "after": AFTER,
        "ref": ref,
        "ref_protected": True,
        "checkout_sha": AFTER,
        "user_name": "Ada Lovelace",
        "project_id": 15,
        "project": {"id": 15, "name": "Tides", "git_http_url": f"{url}.git"},
        "commits": [{"id": AFTER, "message": "Высота прилива", "url": f"{url}/-/commit/{AFTER}"}],
        "total_commits_count": 1,
    }
    return _json(payload)
