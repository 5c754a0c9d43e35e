"""Proofs that a webhook comes from whoever knows the project's secret. Pure.

A request may carry several; each that is there must be right, and one has to be. Contract,
section 3, `POST /webhook/NAME`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote_to_bytes

# HMAC-SHA256, keyed with the secret, as hexadecimal digits behind this prefix.
_HEX_SIGNATURES = {
    "X-Hub-Signature-256": "sha256=",  # GitHub, and also Gitea and Forgejo
    "X-Hub-Signature": "sha256=",  # Bitbucket
    "X-Gitea-Signature": "",
    "X-Forgejo-Signature": "",
    "X-Gogs-Signature": "",
}
_OLD_SIGNATURE = "sha1="  # in X-Hub-Signature, beside the header that counts
_BEARER = "bearer "
_FORM_FIELD = b"payload="


def is_signed(headers: Mapping[str, str], body: Iterable[bytes], secret: str) -> bool:
    """Return whether a webhook's request is signed with `secret`.

    `headers` finds a name in any case. A header without a digest, as Gitea sends it without a
    secret, proves nothing. `body` is read to its end; its first piece has 8 bytes or is its last.
    """
    key = secret.encode("utf-8")
    whole, field = _hmac(key), _FieldHmac(key)
    standard = _hmac(_standard_key(key), _standard_head(headers))
    for piece in body:
        whole.update(piece)
        field.update(piece)
        standard.update(piece)
    proofs = [
        *_hex_proofs(headers, (whole.hexdigest(), field.hexdigest())),
        *_standard_proofs(headers, standard.digest()),
        *_token_proofs(headers, key),
    ]
    return bool(proofs) and all(proofs)


def _hmac(key: bytes, text: bytes = b"") -> hmac.HMAC:
    return hmac.new(key, text, hashlib.sha256)


class _FieldHmac:
    """The HMAC of the only field of a form.

    Gitea, Forgejo and Gogs sign their JSON, also where they send it in a form; GitHub signs the
    form.
    """

    def __init__(self, key: bytes) -> None:
        self._digest = _hmac(key)
        self._rest: bytes = b""  # an escape that the next piece may complete
        self._begun = False

    def update(self, piece: bytes) -> None:
        text = self._rest + (piece if self._begun else piece.removeprefix(_FORM_FIELD))
        self._begun = True
        end = text.find(b"%", max(0, len(text) - 2))
        end = len(text) if end < 0 else end
        self._rest = text[end:]
        self._digest.update(unquote_to_bytes(text[:end].replace(b"+", b" ")))

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _hex_proofs(headers: Mapping[str, str], digests: Sequence[str]) -> Iterator[bool]:
    for name, prefix in _HEX_SIGNATURES.items():
        given = (headers.get(name) or "").lower()
        if given not in ("", prefix) and not given.startswith(_OLD_SIGNATURE):
            yield any(_same(given, prefix + digest) for digest in digests)


def _token_proofs(headers: Mapping[str, str], secret: bytes) -> Iterator[bool]:
    token = headers.get("X-Gitlab-Token") or ""
    if token:
        yield _same_bytes(token.encode("latin-1", "replace"), secret)
    authorization = headers.get("Authorization") or ""
    if authorization.lower().startswith(_BEARER):
        given = authorization[len(_BEARER) :].strip()
        yield _same_bytes(given.encode("latin-1", "replace"), secret)


# Standard Webhooks, which newer versions of GitLab use.


def _standard_proofs(headers: Mapping[str, str], digest: bytes) -> Iterator[bool]:
    """The header may hold several signatures, of which one must be right."""
    given = (headers.get("webhook-signature") or "").split()
    if given:
        expected = "v1," + base64.b64encode(digest).decode("ascii")
        yield any(_same(each, expected) for each in given)


def _standard_head(headers: Mapping[str, str]) -> bytes:
    """The text that is signed before the body."""
    identity = headers.get("webhook-id") or ""
    timestamp = headers.get("webhook-timestamp") or ""
    return f"{identity}.{timestamp}.".encode("latin-1", "replace")


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
