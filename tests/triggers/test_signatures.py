"""Signatures of webhooks, as each forge makes them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.message import Message

import pytest

from minici.triggers.signatures import is_signed

# GitHub's published example.
SECRET = "It's a Secret to Everybody"
BODY = b"Hello, World!"
DIGEST = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
STANDARD_KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def headers(**given: str) -> Message:
    message = Message()
    for name, value in given.items():
        message[name.replace("_", "-")] = value
    return message


def standard(body: bytes, key: bytes) -> str:
    signed = b"msg_1.1700000000." + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


GITHUB = {"X_Hub_Signature_256": f"sha256={DIGEST}"}
RIGHT = {
    "github": GITHUB,
    "github in capitals": {"x_hub_signature_256": f"sha256={DIGEST.upper()}"},
    "github with its old header": {**GITHUB, "X_Hub_Signature": "sha1=" + "0" * 40},
    "gitea": {"X_Gitea_Signature": DIGEST, **GITHUB},
    "forgejo": {"X_Forgejo_Signature": DIGEST, "X_Gitea_Signature": DIGEST, **GITHUB},
    "gogs": {"X_Gogs_Signature": DIGEST},
    "bitbucket": {"X_Hub_Signature": f"sha256={DIGEST}"},
    "gitlab": {"X_Gitlab_Token": SECRET},
    "bearer": {"Authorization": f"Bearer {SECRET}"},
}
WRONG = {
    "nothing": {},
    "empty": {"X_Gitea_Signature": "", "X_Hub_Signature_256": "sha256="},
    "another digest": {"X_Hub_Signature_256": "sha256=" + "0" * 64},
    "no prefix": {"X_Hub_Signature_256": DIGEST},
    "only sha1": {"X_Hub_Signature": "sha1=" + "0" * 40},
    "another token": {"X_Gitlab_Token": SECRET + "x"},
    "not ascii": {"X_Gitlab_Token": "пароль", "X_Hub_Signature_256": "sha256=é"},
    "one of two is wrong": {**GITHUB, "X_Gitea_Signature": "0" * 64},
    "another bearer": {"Authorization": "Bearer x", **GITHUB},
    "basic": {"Authorization": "Basic eDp5"},
}


@pytest.mark.parametrize("given", RIGHT.values(), ids=RIGHT)
def test_a_right_proof(given: dict[str, str]) -> None:
    assert is_signed(headers(**given), [BODY], SECRET)
    assert not is_signed(headers(**given), [BODY], SECRET + "x")


@pytest.mark.parametrize("given", RIGHT.values(), ids=RIGHT)
def test_a_changed_body_is_not_signed(given: dict[str, str]) -> None:
    is_token = any(name in given for name in ("X_Gitlab_Token", "Authorization"))
    assert is_signed(headers(**given), [BODY + b" "], SECRET) is is_token


def test_headers_without_a_digest_stand_against_no_token() -> None:
    """Gitea and Forgejo without a secret, with a header of the hook's own."""
    sent = {"X_Gitea_Signature": "", "X_Hub_Signature": "sha1=", "X_Hub_Signature_256": "sha256="}
    assert is_signed(headers(**sent, Authorization=f"Bearer {SECRET}"), [BODY], SECRET)


def test_the_only_field_of_a_form_may_be_what_is_signed() -> None:
    """Gitea, Forgejo and Gogs sign their JSON, wherever the body is cut into pieces."""
    form = b"payload=Hello%2C+World%21"
    for cut in range(8, len(form)):
        assert is_signed(headers(**GITHUB), [form[:cut], form[cut:]], SECRET), cut
    for other in (form + b"x", form[1:], form + b"&a=b", b"load=" + form[8:], form + b"%0A"):
        assert not is_signed(headers(**GITHUB), [other], SECRET), other


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_a_wrong_proof(given: dict[str, str]) -> None:
    assert not is_signed(headers(**given), [BODY], SECRET)


def test_gitlabs_newer_signature() -> None:
    secret, key = f"whsec_{STANDARD_KEY}", base64.b64decode(STANDARD_KEY)
    sent = {"webhook_id": "msg_1", "webhook_timestamp": "1700000000"}
    right = headers(**sent, webhook_signature=f"v1,AAAA {standard(BODY, key)}")
    assert is_signed(right, [BODY], secret)
    assert not is_signed(right, [BODY + b"x"], secret)
    assert not is_signed(headers(**sent, webhook_signature="v1,AAAA"), [BODY], secret)
    moved = headers(
        webhook_id="msg_2", webhook_timestamp="1700000000", webhook_signature=standard(BODY, key)
    )
    assert not is_signed(moved, [BODY], secret)
    plain = headers(**sent, webhook_signature=standard(BODY, b"a plain secret"))
    assert is_signed(plain, [BODY], "a plain secret")
