"""Proofs that a webhook comes from whoever knows the project's secret. Pure.

A request may carry several; each that is there must be right, and one has to be. Contract,
section 3, `POST /webhook/NAME`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping

# HMAC-SHA256 of the body, keyed with the secret, as hexadecimal digits behind this prefix.
_HEX_SIGNATURES = {
    "X-Hub-Signature-256": "sha256=",  # GitHub, and also Gitea, Forgejo and Gogs
    "X-Hub-Signature": "sha256=",  # Bitbucket
    "X-Gitea-Signature": "",
    "X-Forgejo-Signature": "",
    "X-Gogs-Signature": "",
}
_BEARER = "bearer "


def is_signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Return whether a webhook's request is signed with `secret`.

    `headers` finds a name in any case. An empty header, as Gitea sends it without a secret, proves
    nothing.
    """
    proofs = list(_proofs(headers, body, secret.encode("utf-8")))
    return bool(proofs) and all(proofs)


def _proofs(headers: Mapping[str, str], body: bytes, secret: bytes) -> Iterator[bool]:
    digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
    for name, prefix in _HEX_SIGNATURES.items():
        given = headers.get(name) or ""
        # Older GitHub hooks send an SHA-1 in X-Hub-Signature beside the header that counts.
        if given and not given.startswith("sha1="):
            yield _same(given.lower(), prefix + digest)
    token = headers.get("X-Gitlab-Token") or ""
    if token:
        yield _same_bytes(token.encode("latin-1", "replace"), secret)
    if headers.get("webhook-signature"):
        yield _is_standard_signature(headers, body, secret)
    authorization = headers.get("Authorization") or ""
    if authorization.lower().startswith(_BEARER):
        given = authorization[len(_BEARER) :].strip()
        yield _same_bytes(given.encode("latin-1", "replace"), secret)


def _is_standard_signature(headers: Mapping[str, str], body: bytes, secret: bytes) -> bool:
    """Check the scheme of Standard Webhooks, which newer versions of GitLab use.

    The header may hold several signatures, of which one must be right.
    """
    identity = headers.get("webhook-id") or ""
    timestamp = headers.get("webhook-timestamp") or ""
    signed = f"{identity}.{timestamp}.".encode("latin-1", "replace") + body
    digest = hmac.new(_standard_key(secret), signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode("ascii")
    given = (headers.get("webhook-signature") or "").split()
    return any(_same(each, expected) for each in given)


def _standard_key(secret: bytes) -> bytes:
    if secret.startswith(b"whsec_"):
        try:
            return base64.b64decode(secret[len(b"whsec_") :], validate=True)
        except binascii.Error:
            pass
    return secret


def _same(given: str, expected: str) -> bool:
    return _same_bytes(given.encode("latin-1", "replace"), expected.encode("ascii"))


def _same_bytes(given: bytes, expected: bytes) -> bool:
    return hmac.compare_digest(given, expected)
