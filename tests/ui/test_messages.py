"""The texts: complete in both languages, none unused, numbers said right."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Optional

import pytest

from minici.reasons import SENTENCES, Reason, to_json
from minici.timestamps import parse_time
from minici.ui.i18n import LANGUAGES, Translator, choose_language, plural_form
from minici.ui.messages import TEXTS
from minici.ui.reasons import RUSSIAN, is_exit, reason_of, reason_text
from minici.validation import check_command, check_commit
from tests.support.harness import ROOT

PACKAGE = ROOT / "minici"
TABLES = {PACKAGE / name for name in ("reasons.py", "ui/messages.py", "ui/reasons.py")}
MODULES = sorted(set(PACKAGE.rglob("*.py")) - TABLES)
TEMPLATES = sorted((PACKAGE / "ui" / "templates").glob("*.html"))
SCRIPTS = sorted((PACKAGE / "ui" / "static").glob("*.js"))
assert len(MODULES) > 60 and len(TEMPLATES) > 10 and len(SCRIPTS) >= 4
S = "\u00a0"


WORDLESS = {"verdict_running", "number_sign"}  # made of a status and a duration


def forms_of(key: str, side: int) -> tuple[str, ...]:
    forms = TEXTS[key][side]
    return (forms,) if isinstance(forms, str) else tuple(forms)


def names_in(form: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(form) if name is not None}


@pytest.mark.parametrize("key", sorted(TEXTS))
def test_a_text_is_whole_in_both_languages(key: str) -> None:
    russian, english = forms_of(key, 0), forms_of(key, 1)
    assert all(form.strip() for form in russian + english)
    assert (len(russian), len(english)) in {(1, 1), (3, 2)}
    named = set().union(*map(names_in, russian + english))
    assert named == set().union(*map(names_in, russian)), "a value that only one language shows"
    assert ("n" in named) == (len(russian) == 3) or "n" in named


@pytest.mark.parametrize("key", sorted(TEXTS))
def test_a_text_in_russian_is_russian(key: str) -> None:
    assert all(re.search("[а-яА-Я]", form) for form in forms_of(key, 0)) or key in WORDLESS
    assert not re.search("[а-яА-Я]", "".join(forms_of(key, 1)))


def literals() -> Iterator[str]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def in_templates() -> set[str]:
    found: set[str] = set()
    for path in TEMPLATES:
        found.update(re.findall(r"\$\{?t_(\w+)", path.read_text(encoding="utf-8")))
    return found


def in_scripts() -> set[str]:
    source = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    said = re.findall(r'(?:say|announce)\("(\w+)"', source)
    keys = re.findall(r'\bkey\("[^"]+", "(\w+)"', source)
    buttons = re.findall(r'\bbutton\("[^"]+", "(\w+)"', source)
    return set(said + keys + buttons + re.findall(r"\btexts\.(\w+)", source))


def complaints() -> set[str]:
    """The keys that the server makes out of a field and what is wrong with it."""
    kinds = {"commit": ["empty", "long", "wrong"], "command": ["empty", "long", "wrong"]}
    return {f"error_{field}_{kind}" for field in kinds for kind in kinds[field]}


def test_every_complaint_has_its_text() -> None:
    said = {check_commit(wrong) for wrong in ("", "-x", "a b", "x" * 100_000)}
    assert {f"error_commit_{complaint.kind}" for complaint in said if complaint} <= set(TEXTS)
    said = {check_command(wrong) for wrong in ("", "\0", "x" * 10_000_000)}
    assert {f"error_command_{complaint.kind}" for complaint in said if complaint} <= set(TEXTS)


def test_every_text_is_used() -> None:
    scripts = {f"js_{name}" for name in in_scripts()}
    unused = set(TEXTS) - set(literals()) - in_templates() - scripts - complaints()
    assert not unused


def test_every_text_that_is_asked_for_is_there() -> None:
    assert in_templates() <= set(TEXTS)
    assert len(in_scripts()) > 20
    assert {f"js_{name}" for name in in_scripts()} <= set(TEXTS)


def asked_for() -> Iterator[str]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"translate": 0, "phrase": 1}.get(node.func.id)
                if place is not None and len(node.args) > place:
                    argument = node.args[place]
                    if isinstance(argument, ast.Constant):
                        yield str(argument.value)


def test_every_key_in_the_code_is_there() -> None:
    keys = set(asked_for())
    assert len(keys) > 80
    assert keys <= set(TEXTS)


@pytest.mark.parametrize(
    "setting, header, language",
    [
        ("auto", None, "ru"),
        ("auto", "", "ru"),
        ("auto", "en", "en"),
        ("auto", "en-GB,en;q=0.9", "en"),
        ("auto", "de-DE,de;q=0.9,en;q=0.5", "en"),
        ("auto", "de-DE,fr;q=0.9", "ru"),
        ("auto", "*", "ru"),
        ("auto", "ru;q=0.4, en;q=0.5", "en"),
        ("auto", "en;q=0.4, ru;q=0.5", "ru"),
        ("auto", "en, ru", "en"),
        ("auto", "ru, en", "ru"),
        ("auto", "en;q=0, ru;q=0.1", "ru"),
        ("auto", "en;q=0", "ru"),
        ("auto", "EN-us ; Q=0.8", "en"),
        ("auto", "en;q=zwei", "ru"),
        ("auto", ";;,,;q=,", "ru"),
        ("auto", "en-" + "x" * 100_000, "en"),
        ("ru", "en", "ru"),
        ("en", "ru", "en"),
    ],
)
def test_the_language(setting: str, header: Optional[str], language: str) -> None:
    assert choose_language(setting, header) == language


@pytest.mark.parametrize(
    "number, russian, english",
    [
        (0, 2, 1),
        (1, 0, 0),
        (2, 1, 1),
        (4, 1, 1),
        (5, 2, 1),
        (11, 2, 1),
        (12, 2, 1),
        (14, 2, 1),
        (21, 0, 1),
        (22, 1, 1),
        (25, 2, 1),
        (101, 0, 1),
        (111, 2, 1),
        (112, 2, 1),
        (122, 1, 1),
        (1000000, 2, 1),
    ],
)
def test_plural_forms(number: int, russian: int, english: int) -> None:
    assert plural_form("ru", number) == russian
    assert plural_form("en", number) == english


def test_a_number_chooses_its_form() -> None:
    russian, english = Translator("ru"), Translator("en")
    said = [russian("waiting_count", n=n) for n in (1, 3, 5, 21)]
    assert said == ["ждёт 1 сборка", "ждут 3 сборки", "ждут 5 сборок", "ждёт 21 сборка"]
    assert english("waiting_count", n=1) == "1 build waiting"
    assert english("waiting_count", n=21) == "21 builds waiting"


@pytest.mark.parametrize(
    "seconds, english, russian",
    [
        (-3, "0 ms", "0 мс"),
        (0.0404, "40 ms", "40 мс"),
        (0.9999, "1.0 s", "1,0 с"),
        (3.25, "3.2 s", "3,2 с"),
        (9.94, "9.9 s", "9,9 с"),
        (9.96, "10 s", "10 с"),
        (59.4, "59 s", "59 с"),
        (59.6, "1 m 00 s", "1 мин 00 с"),
        (64, "1 m 04 s", "1 мин 04 с"),
        (3599.7, "1 h 00 m", "1 ч 00 мин"),
        (3720, "1 h 02 m", "1 ч 02 мин"),
        (86400 * 2 + 3600 * 3, "2 d 03 h", "2 д 03 ч"),
    ],
)
def test_durations(seconds: float, english: str, russian: str) -> None:
    assert Translator("en").duration(seconds).replace(S, " ") == english
    assert Translator("ru").duration(seconds).replace(S, " ") == russian


@pytest.mark.parametrize(
    "count, english, russian",
    [
        (0, "0 B", "0 Б"),
        (1023, "1023 B", "1023 Б"),
        (1024, "1.0 KB", "1,0 КБ"),
        (1536, "1.5 KB", "1,5 КБ"),
        (1024 * 1024 - 1, "1.0 MB", "1,0 МБ"),
        (64 * 1024**2, "64.0 MB", "64,0 МБ"),
        (5 * 1024**4, "5.0 TB", "5,0 ТБ"),
        (5 * 1024**5, "5120.0 TB", "5120,0 ТБ"),
    ],
)
def test_sizes(count: int, english: str, russian: str) -> None:
    assert Translator("en").size(count).replace(S, " ") == english
    assert Translator("ru").size(count).replace(S, " ") == russian


def test_dates_are_in_utc_and_say_so() -> None:
    moment = datetime(2026, 5, 9, 1, 2, 3, tzinfo=timezone(timedelta(hours=3)))
    assert Translator("en").date(moment).replace(S, " ") == "8 May 2026, 22:02:03 UTC"
    assert Translator("ru").date(moment).replace(S, " ") == "8 мая 2026, 22:02:03 UTC"


@pytest.mark.parametrize(
    "seconds, english, russian",
    [
        (-10, "just now", "только что"),
        (4, "just now", "только что"),
        (30, "30 s ago", "30 с назад"),
        (185, "3 min ago", "3 мин назад"),
        (7300, "2 h ago", "2 ч назад"),
        (86400, "a day ago", "1 день назад"),
        (86400 * 3, "3 days ago", "3 дня назад"),
    ],
)
def test_ages(seconds: float, english: str, russian: str) -> None:
    now = datetime(2026, 5, 9, tzinfo=timezone.utc)
    for language, expected in (("en", english), ("ru", russian)):
        assert Translator(language).age(now - timedelta(seconds=seconds), now) == expected


def test_times_of_a_record() -> None:
    moment = parse_time("2026-11-24T02:30:00.250Z")
    assert moment == datetime(2026, 11, 24, 2, 30, 0, 250000, tzinfo=timezone.utc)
    assert parse_time("2026-11-24T02:30:00") == datetime(2026, 11, 24, 2, 30, tzinfo=timezone.utc)
    assert [parse_time(wrong) for wrong in (None, 3, "", "yesterday")] == [None] * 4


def test_another_language_is_refused() -> None:
    assert LANGUAGES == ("ru", "en")
    with pytest.raises(ValueError):
        Translator("de")


SILENT = Reason("silent", seconds="10.3")
GONE = Reason("agent_gone", agent="b", reason=SILENT)
LOST = Reason(
    "lost",
    count=2,
    reasons=[
        Reason("lost_attempt", attempt=1, agent="a", reason=Reason("forgotten", agent="a")),
        Reason("lost_attempt", attempt=2, agent="b", reason=GONE),
    ],
)


@pytest.mark.parametrize(
    "reason, russian",
    [
        (Reason("exit_status", status=2), "код выхода 2"),
        (Reason("cancelled_by", name="a\n{b}"), "отменена пользователем a\n{b}"),
        (GONE, "агент b пропал: молчит 10.3 с"),
        (
            LOST,
            "прекращена, попыток было 2: попытка 1 на a: у агента a её больше нет; "
            "попытка 2 на b: агент b пропал: молчит 10.3 с",
        ),
        (
            Reason("checkout_failed", reason=Reason("no_commit", commit="x {n}", repository="/r")),
            "не удалось получить коммит: в /r нет коммита «x {n}»",
        ),
        (Reason("checkout_failed", reason="fatal: what git says"), None),
        ("Repository not found.", None),
        ("exit status 2", None),
    ],
)
def test_a_reason_is_said_in_both_languages(reason: str, russian: Optional[str]) -> None:
    key, values = to_json(reason)
    read = reason_of({"reason": str(reason), "reason_key": key, "reason_values": values})
    if russian is not None:
        assert reason_text(Translator("ru"), read) == russian
    assert reason_text(Translator("en"), read) == str(reason)
    if not isinstance(reason, Reason):
        assert reason_text(Translator("ru"), read) == reason, "as it is, without a key"


def test_what_git_says_is_shown_as_it_is_within_a_reason() -> None:
    reason = Reason("checkout_failed", reason="fatal: bad object")
    assert reason_text(Translator("ru"), reason) == "не удалось получить коммит: fatal: bad object"


def nested(depth: int) -> dict[str, object]:
    values: dict[str, object] = {"reason": "x"}
    for _ in range(depth):
        values = {"reason": {"key": "checkout_failed", "values": values}}
    return {"status": values["reason"]}


@pytest.mark.parametrize(
    "values", [None, [], {"status": None}, {"other": 1}, {"status": {}}, nested(2000)]
)
def test_a_reason_whose_values_are_damaged_is_its_sentence(values: object) -> None:
    record = {"reason": "exit status 3", "reason_key": "exit_status", "reason_values": values}
    assert reason_text(Translator("ru"), reason_of(record)) == "exit status 3"


def test_both_tables_of_reasons_have_the_same_keys() -> None:
    assert set(SENTENCES) == set(RUSSIAN)


@pytest.mark.parametrize("key", sorted(SENTENCES))
def test_a_reason_has_the_same_values_in_both_languages(key: str) -> None:
    english, russian = names_in(SENTENCES[key]), names_in(RUSSIAN[key])
    assert russian <= english
    assert english - russian <= {"advice"}, "advice is for whoever reads the log"
    assert re.search("[а-я]", RUSSIAN[key]) or key in ("http_status", "http_reason")
    assert not re.search("[а-я]", SENTENCES[key])


# What may stand on a page: an error's sentence, or the reason of a build, an attempt or an agent.
SAYING = {
    *("HttpError", "BadParameter", "StoreUnavailable", "BuildUnusable", "NoSuchBuild", "QueueFull"),
    *("NoSuchAttempt", "DamagedBuild", "ValueError", "Offered", "Failed", "TimeoutError"),
    *("GitError", "Interrupted", "GitUnavailable", "SupervisorUnavailable", "NoSlot", "CallError"),
}
# What only programs are told: agents, their callers, and who sends JSON or half a request.
PROGRAMS = set(
    """
    agent checkout/index_file config executor/outbox executor/result_delivery output/format
    output/sealing output/writer
    routes/agent_api routes/json_api routes/webhooks scheduler/agent_history web/connection
    web/listener
    web/request_reader
    """.split()
)
KEPT = {
    "an agent answers no browser",
    "the parameter host must be a host name or an IP address",
    "the parameter port must be a number from 1 to 65535",
    # Mistakes of our own.
    "build 17 takes no result of attempt 17",
    "build 17 is 17, not 17",
}


def sentence_of(node: ast.AST) -> Optional[str]:
    """A text in the code with something in the place of each value."""
    if isinstance(node, ast.JoinedStr):
        parts = [sentence_of(value) or "17" for value in node.values]
        return "".join(parts)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if is_text else None  # type: ignore[attr-defined]


def sentences() -> Iterator[tuple[str, str]]:
    for path in MODULES:
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if name in PROGRAMS or name.startswith("cli/"):  # the command line has no pages
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in SAYING:
                continue
            for argument in node.args:
                sentence = sentence_of(argument)
                if sentence and " " in sentence:
                    yield path.name, sentence


def test_every_sentence_that_a_page_may_show_has_a_key() -> None:
    assert not {found for found in sentences() if found[1] not in KEPT}


def keys_in_use() -> Iterator[str]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Reason":
                yield from (text for text in map(sentence_of, node.args[:1]) if text)


def test_every_key_of_a_reason_is_known_and_used() -> None:
    used = set(keys_in_use())
    assert used <= set(SENTENCES)
    assert set(SENTENCES) - used - set(literals()) == set()


@pytest.mark.parametrize("reason", [None, "", "exit status 3", "killed by signal 9"])
def test_what_the_exit_status_says_already(reason: Optional[str]) -> None:
    assert is_exit(reason)
    assert not is_exit(f"{reason}, and more")


@pytest.mark.parametrize("key, values", [("exit_status", {"status": 3}), ("killed", {"signal": 9})])
def test_what_the_exit_status_says_already_has_a_key(key: str, values: dict[str, int]) -> None:
    assert is_exit(Reason(key, **values))
    assert not is_exit(Reason("checkout_failed", reason=Reason(key, **values)))
