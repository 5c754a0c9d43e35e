"""The environment of a command: pure."""

from __future__ import annotations

import subprocess

import pytest

from minici.executor.environment import build_variables, command_environment, passed_secrets


def test_what_of_the_agents_environment_a_command_sees() -> None:
    inherited = {
        "PATH": "/bin",
        "MINICI_SECRET": "x",
        "MINICI_LIFELINE": "7",
        "npm_token": "x",
        "NPM_TOKEN": "x",
        "AWS_SECRET_KEY": "x",
        "GIT_DIR": "/elsewhere",
        "GIT_INDEX_FILE": "/elsewhere/index",
        "GIT_AUTHOR_NAME": "kept",
        "GIT_BRANCH": "of the build that has started this agent",
        "JOB_NAME": "of that build",
        "OLDPWD": "/elsewhere",
        "PWD": "/elsewhere",
        "DEPLOY_TOKEN": "passed",
        "DEPLOY_HOST": "no secret",
    }
    seen = command_environment(inherited, ["DEPLOY_*", "MINICI_*"], {"PWD": "/tree"})
    assert seen == {
        "PATH": "/bin",
        "GIT_AUTHOR_NAME": "kept",
        "PWD": "/tree",
        "DEPLOY_TOKEN": "passed",
        "DEPLOY_HOST": "no secret",
    }
    assert passed_secrets(inherited, ["DEPLOY_*", "MINICI_*"]) == ["passed"]


SECRET_NAMES = """
    TOKEN token GITHUB_TOKEN TOKENS MY_TOKEN_FILE SECRET SECRETS AWS_SECRET_ACCESS_KEY mySecret
    PASSWORD PGPASSWORD PASSWORD_FILE MYSQL_PASSWD GPG_PASSPHRASE AWS_CREDENTIALS
    GOOGLE_APPLICATION_CREDENTIALS APIKEY STRIPE_APIKEY_LIVE DB_PASS PASS DB_PASS_OLD SSHPASS
    GITHUB_PAT PAT pat_old NPM_AUTH npm_config__auth DOCKER_AUTH_CONFIG API_KEY OPENAI_API_KEY
    AWS_ACCESS_KEY_ID SIGNING_PRIVATE_KEY PRIVATE_KEY_1
    npm_config_//packages.example/:_authToken
""".split()
PLAIN_NAMES = """
    PATH MANPATH PATTERN PASSAGE COMPASSES AUTHOR GIT_AUTHOR_NAME XAUTHORITY KEY KEYBOARD API_KEYS
    MONKEY HOME LANG ACCESS SSH_KEY_PATH PATCH AUTHENTICATION_URL
""".split()


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_fault_48_names_that_look_secret(name: str) -> None:
    assert command_environment({name: "x"}, ["OTHER"], {}) == {}
    assert command_environment({name: "x"}, [name], {}) == {name: "x"}
    assert passed_secrets({name: "x"}, ["*"]) == ["x"]


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_fault_48_names_that_do_not(name: str) -> None:
    assert command_environment({name: "x"}, [], {}) == {name: "x"}
    assert passed_secrets({name: "x"}, ["*"]) == []


def test_every_variable_that_binds_git_to_a_repository_is_known() -> None:
    asked = ["git", "rev-parse", "--local-env-vars"]
    names = subprocess.run(asked, stdout=subprocess.PIPE, text=True).stdout.split()
    assert names and command_environment(dict.fromkeys(names, "x"), [], {}) == {}


def test_what_a_command_learns_of_its_build() -> None:
    known = build_variables(
        number=7,
        attempt=2,
        commit="main",
        revision="abc",
        repository="/r",
        url="http://x/build/7",
        workspace="/w",
        artifacts="/a",
    )
    assert known["MINICI_BUILD_ID"] == known["BUILD_ID"] == known["BUILD_NUMBER"] == "7"
    assert known["MINICI_BUILD_URL"] == known["BUILD_URL"] == "http://x/build/7"
    assert known["MINICI_REVISION"] == known["GIT_COMMIT"] == "abc"
    assert known["WORKSPACE"] == known["PWD"] == "/w" and known["MINICI_ARTIFACTS"] == "/a"
    unknown = "MINICI_PROJECT MINICI_EVENT MINICI_REF MINICI_BRANCH MINICI_TAG JOB_NAME GIT_BRANCH"
    assert not set(known) & {*unknown.split(), "BRANCH_NAME", "TAG_NAME"}


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("refs/heads/feature/x", {"MINICI_BRANCH", "GIT_BRANCH", "BRANCH_NAME"}),
        ("refs/tags/v1", {"MINICI_TAG", "TAG_NAME"}),
        ("refs/pull/7/head", set()),
    ],
)
def test_the_variables_of_a_ref(ref: str, expected: set[str]) -> None:
    nothing = dict.fromkeys(("commit", "revision", "repository", "url", "workspace"), "")
    plain = build_variables(number=1, attempt=1, artifacts="", **nothing)
    known = build_variables(
        number=1, attempt=1, artifacts="", project="shop", event="push", ref=ref, **nothing
    )
    assert set(known) - set(plain) == {
        *("MINICI_PROJECT", "JOB_NAME", "MINICI_EVENT", "MINICI_REF"),
        *expected,
    }
    assert (known["MINICI_PROJECT"], known["JOB_NAME"], known["MINICI_EVENT"]) == (
        *("shop", "shop"),
        "push",
    )
    assert known["MINICI_REF"] == ref
    assert {known[name] for name in expected} <= {ref.partition("/")[2].partition("/")[2]}
