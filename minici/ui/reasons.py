"""What the server and its agents say in a record or an error, in the reader's language.

Records keep these sentences in English, as programs read them through the API; a page in
Russian puts them into Russian where it knows them, and shows the rest as it is: git's own
messages, and what other people's agents say.
"""

from __future__ import annotations

import re
from typing import Optional

from minici.reasons import Reason
from minici.ui.i18n import Translator

# A group whose name begins with `sentence` is a sentence of its own.
_RUSSIAN = tuple(
    (re.compile(pattern, re.DOTALL), russian)
    for pattern, russian in (
        # How a build or an attempt ended.
        (r"exit status (?P<a>\d+)", "код выхода {a}"),
        (r"killed by signal (?P<a>\d+)", "завершена сигналом {a}"),
        (r"cancelled", "остановлена"),
        (r"cancelled by (?P<a>.+)", "остановлена пользователем {a}"),
        (r"agent (?P<a>.+?) is gone: (?P<sentence>.+)", "агент {a} пропал: {sentence}"),
        (r"its port refuses connections", "его порт не принимает соединений"),
        (r"silent for (?P<n>\S+) s", "молчит {n} с"),
        (r"agent (?P<a>.+) no longer has it", "агент {a} её больше не знает"),
        (r"agent (?P<a>.+) did not finish it in time", "агент {a} не уложился во время"),
        (r"agent (?P<a>.+) stopped", "агент {a} остановился"),
        (r"no answer from (?P<a>.+?): (?P<sentence>.+)", "нет ответа от {a}: {sentence}"),
        (r"(?P<a>\S+) refused: (?P<sentence>.+)", "{a} отказался: {sentence}"),
        (
            r"given up after (?P<n>\d+) attempts?: (?P<sentences>.+)",
            "оставлена после стольких попыток: {n}; {sentences}",
        ),
        (
            r"attempt (?P<n>\d+) on (?P<a>.+?): (?P<sentence>.+)",
            "попытка {n} на {a}: {sentence}",
        ),
        (
            r"ran out of time after (?P<n>\S+) s \(build_timeout\)",
            "не уложилась в {n} с (build_timeout)",
        ),
        (r"checkout failed: (?P<sentence>.+)", "не удалось получить коммит: {sentence}"),
        (r"ran out of time", "вышло время"),
        (r'no commit "(?P<a>.+)" in (?P<b>.+)', "в {b} нет коммита «{a}»"),
        (r"git ended with status (?P<n>-?\d+)", "git завершился с кодом {n}"),
        (r"(?P<a>\S+) can't be made: (?P<b>.+)", "{a} не удалось создать: {b}"),
        (r"the command can't be started: (?P<a>.+)", "команду не удалось запустить: {a}"),
        (r"HTTP (?P<n>\d+)", "HTTP {n}"),
        (r"HTTP (?P<n>\d+): (?P<sentence>.+)", "HTTP {n}: {sentence}"),
        (
            r"the agent will not run it, and did not say why",
            "агент отказался её выполнять и не сказал почему",
        ),
        (r"every slot is taken", "все места заняты"),
        (r"this agent stops", "агент останавливается"),
        (r"no answer", "нет ответа"),
        (r"the call stumbled here", "вызов не удался на самом сервере"),
        (r"the answer took too long", "ответ шёл слишком долго"),
        (r"the name in (?P<a>\S+) can't be resolved: (?P<b>.+)", "имя в {a} не найдено: {b}"),
        (r"no answer from (?P<a>\S+) in time", "{a} не ответил вовремя"),
        (r"no connection to (?P<a>\S+): (?P<b>.+)", "нет связи с {a}: {b}"),
        (
            r"(?P<a>\S+) ended the connection without an answer",
            "{a} закрыл соединение, не ответив",
        ),
        (r"(?P<a>\S+) did not answer in HTTP: (?P<b>.+)", "{a} ответил не по HTTP: {b}"),
        # Errors of the pages.
        (r"there is no build (?P<n>\d+)", "сборки {n} нет"),
        (r"there is no such page", "такой страницы нет"),
        (r"there is no such file", "такого файла нет"),
        (
            r"build (?P<n>\d+) never had an attempt (?P<m>\d+)",
            "у сборки {n} не было попытки {m}",
        ),
        (r"build (?P<n>\d+) is damaged: (?P<sentence>.+)", "сборка {n} повреждена: {sentence}"),
        (r"its record is missing", "её записи нет"),
        (r"its record can't be read: (?P<sentence>.+)", "её запись не читается: {sentence}"),
        (r"the record is of build (?P<n>\d+)", "это запись сборки {n}"),
        (r"not a build: a value is of the wrong kind", "это не сборка: значение не того рода"),
        (r"not a build: (?P<a>.+)", "это не сборка: {a}"),
        (r"its folder can't be used: (?P<a>.+)", "её папкой нельзя пользоваться: {a}"),
        (r"(?P<n>\d+) builds are waiting already", "сборок уже ждёт: {n}"),
        (r"the data folder can't be written: (?P<a>.+)", "в папку данных нельзя писать: {a}"),
        (r"this path takes (?P<a>.+)", "этот адрес принимает {a}"),
        (r"this was sent by a page of another site", "запрос прислала страница чужого сайта"),
        (r"sign in with a name and a password", "войдите с именем и паролем"),
        (
            r"too many wrong passwords; try again in (?P<n>\d+) s",
            "слишком много неверных паролей; повторите через {n} с",
        ),
        (r"too many are watching; look again later", "смотрящих слишком много; зайдите позже"),
        (
            r"something went wrong here; the server's log says what",
            "что-то сломалось; что именно, написано в журнале сервера",
        ),
        (
            r"this server does not go by that name; set `url` or `advertise` .+",
            "у этого сервера другое имя",
        ),
        (r"the parameter (?P<a>\S+) is missing", "нет параметра {a}"),
        (r"the parameter (?P<a>\S+) is not UTF-8", "параметр {a} не в UTF-8"),
        (r"the parameter (?P<a>\S+) must be one of (?P<b>.+)", "параметр {a} — один из: {b}"),
        (
            r"the parameter (?P<a>\S+) must be a whole number from (?P<n>\d+) on",
            "параметр {a} — целое число не меньше {n}",
        ),
        (r"the parameter (?P<a>\S+) must be a number above 0", "параметр {a} — число больше 0"),
        (r"the parameter (?P<a>\S+) must be text", "параметр {a} — текст"),
        (
            r"the parameter (?P<a>\S+) must be text or a whole number",
            "параметр {a} — текст или целое число",
        ),
        (r"there are more than (?P<n>\d+) parameters", "параметров больше {n}"),
        (r"a parameter is longer than (?P<n>\d+) bytes", "один из параметров длиннее {n} байт"),
        (r"send parameters as (?P<a>.+)", "параметры принимаются как {a}"),
        (r"there are no such bytes", "таких байтов нет"),
        (r"the body is larger than (?P<n>\d+) bytes", "тело запроса больше {n} байт"),
    )
)
_EXIT = re.compile(r"exit status \d+|killed by signal \d+")
_DEEPEST = 5

# The Russian of `minici.reasons.SENTENCES`.
RUSSIAN: dict[str, str] = {
    "exit_status": "код выхода {status}",
    "killed": "завершена сигналом {signal}",
    "cancelled": "остановлена",
    "cancelled_by": "остановлена пользователем {name}",
    "agent_gone": "агент {agent} пропал: {reason}",
    "port_refuses": "его порт не принимает соединений",
    "silent": "молчит {seconds} с",
    "forgotten": "агент {agent} её больше не знает",
    "overdue": "агент {agent} не уложился во время",
    "returned": "агент {agent} остановился",
    "no_answer_from": "нет ответа от {agent}: {reason}",
    "refused_by": "{agent} отказался: {reason}",
    "lost": "оставлена после стольких попыток: {count}; {reasons}",
    "lost_once": "оставлена после одной попытки; {reasons}",
    "lost_attempt": "попытка {attempt} на {agent}: {reason}",
    "timed_out": "не уложилась в {seconds} с (build_timeout)",
    "checkout_failed": "не удалось получить коммит: {reason}",
    "checkout_timed_out": "вышло время",
    "no_commit": "в {repository} нет коммита «{commit}»",
    "git_status": "git завершился с кодом {status}",
    "tried": "{reason} (попыток: {count} за {seconds} с)",
    "not_made": "{path} не удалось создать: {error}",
    "submodule_failed": "подмодуль {submodule}: {reason}",
    "submodule_unknown": "в .gitmodules нет его адреса",
    "submodule_local": "{url} — на машине агента, а репозиторий — нет",
    "not_started": "команду не удалось запустить: {error}",
    "http_status": "HTTP {status}",
    "http_reason": "HTTP {status}: {reason}",
    "rejected": "агент отказался её выполнять и не сказал почему",
    "slots_taken": "все места заняты",
    "agent_stops": "агент останавливается",
    "agent_stopping": "агент останавливается",
    "moved_on": "она продолжается в другом месте",
    "command_lost": "{reason}, и команда вместе с ним",
    "agent_error": "агент не может продолжать: {error}",
    "agent_internal_error": "внутренняя ошибка; подробности в журнале агента",
    "agent_disk": "в папку данных агента нельзя писать: {error}",
    "agent_git": "агент не может запустить git: {reason}",
    "agent_supervisor": "агент не может запускать команды: {reason}",
    "other_instance": "этот агент работает на другой сервер",
    "not_on_agent": "у этого агента нет такой сборки",
    "param_id": "параметр {name} — число от 1, обычными цифрами",
    "param_label": "параметр {name} — не больше {count} символов в одну строку",
    "param_ref": "параметр ref — полное имя ветки или тега, например refs/heads/main",
    "slow_answer": "ответ шёл слишком долго",
    "unresolved": "имя в {url} не найдено: {error}",
    "timeout": "{url} не ответил вовремя",
    "no_connection": "нет связи с {url}: {error}",
    "disconnected": "{url} закрыл соединение, не ответив",
    "not_http": "{url} ответил не по HTTP: {error}",
    "no_build": "сборки {build} нет",
    "no_page": "такой страницы нет",
    "no_file": "такого файла нет",
    "no_attempt": "у сборки {build} не было попытки {attempt}",
    "damaged": "сборка {build} повреждена: {reason}",
    "record_missing": "её записи нет",
    "record_unreadable": "её запись не читается: {error}",
    "record_of_another": "это запись сборки {build}",
    "not_a_build": "это не сборка: {error}",
    "wrong_kind": "значение не того рода",
    "folder_unusable": "её папкой нельзя пользоваться: {error}",
    "queue_full": "сборок уже ждёт: {count}",
    "data_unwritable": "в папку данных нельзя писать: {error}",
    "method": "этот адрес принимает {methods}",
    "cross_site": "запрос прислала страница чужого сайта",
    "sign_in": "войдите с именем и паролем",
    "too_many_tries": "слишком много неверных паролей; повторите через {seconds} с",
    "too_many_viewers": "смотрящих слишком много; зайдите позже",
    "unknown_host": "у этого сервера другое имя",
    "param_missing": "нет параметра {name}",
    "param_not_utf8": "параметр {name} не в UTF-8",
    "param_choice": "параметр {name} — один из: {choices}",
    "param_whole": "параметр {name} — целое число не меньше {least}",
    "param_positive": "параметр {name} — число больше 0",
    "param_text": "параметр {name} — текст",
    "param_text_or_number": "параметр {name} — текст или целое число",
    "params_many": "параметров больше {count}",
    "param_twice": "параметр {name} указан дважды",
    "param_incomplete": (
        "параметр {number} не вида имя=значение: кодируйте значения, как `curl --data-urlencode`"
    ),
    "param_unknown": "неизвестный параметр {names}; известны {known}",
    "param_unknown_none_known": "неизвестный параметр {names}; здесь параметров нет",
    "no_json": "тело запроса — не JSON",
    "no_json_object": "тело запроса должно быть объектом JSON",
    "param_long": "один из параметров длиннее {bytes} байт",
    "content_type": "параметры принимаются как {kinds}",
    "no_bytes": "таких байтов нет",
    "body_large": "тело запроса больше {bytes} байт",
    "supervisor_unavailable": "супервизор команд не удалось запустить: {error}",
    "supervisor_lost": "супервизор команды был убит",
    "supervisor_hangs": "супервизор команды не отвечает",
    "internal_error": "внутренняя ошибка; подробности в журнале сервера",
    "server_error": "внутренняя ошибка; подробности в журнале сервера",
}


def reason_text(translate: Translator, sentence: str) -> str:
    """The sentence in the language of `translate`; as it is where there is no other."""
    if translate.language != "ru":
        return sentence
    if isinstance(sentence, Reason):
        values = {name: _value(translate, value) for name, value in sentence.values.items()}
        return RUSSIAN[sentence.key].format(**values)
    return _russian(sentence, _DEEPEST)


def _value(translate: Translator, value: object) -> object:
    if isinstance(value, (list, tuple)):
        return "; ".join(reason_text(translate, each) for each in value)
    return reason_text(translate, value) if isinstance(value, str) else value


def is_exit(reason: Optional[str]) -> bool:
    """Whether a reason says no more than the exit status does."""
    return not reason or _EXIT.fullmatch(reason) is not None


def _russian(sentence: str, depth: int) -> str:
    for pattern, russian in _RUSSIAN:
        match = pattern.fullmatch(sentence)
        if match and depth:
            parts = {name: _part(name, text, depth - 1) for name, text in match.groupdict().items()}
            return russian.format(**parts)
    return sentence


def _part(name: str, text: str, depth: int) -> str:
    if name == "sentence":
        return _russian(text, depth)
    if name == "sentences":
        return "; ".join(_russian(each, depth) for each in text.split("; "))
    return text
