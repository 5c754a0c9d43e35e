"""Reasons of builds, attempts, agents and errors, in the reader's language.

A reason carries its key and values, from which either language is made. A sentence without a key
is shown as it is: git's messages, what foreign agents say, and records of older versions.
"""

from __future__ import annotations

import re
from typing import Optional

from minici.reasons import Reason, from_json
from minici.ui.i18n import Translator
from minici.ui.models import BuildJson

_EXIT = re.compile(r"exit status \d+|killed by signal \d+")
_EXIT_KEYS = ("exit_status", "killed")

# The Russian of `minici.reasons.SENTENCES`.
RUSSIAN: dict[str, str] = {
    "exit_status": "код выхода {status}",
    "killed": "завершена сигналом {signal}",
    "cancelled": "отменена",
    "cancelled_by": "отменена пользователем {name}",
    "agent_gone": "агент {agent} пропал: {reason}",
    "port_refuses": "его порт не принимает соединений",
    "silent": "молчит {seconds} с",
    "forgotten": "у агента {agent} её больше нет",
    "overdue": "агент {agent} не уложился в срок",
    "returned": "агент {agent} остановился",
    "gave_back": "агент {agent} вернул её: {reason}",
    "another_server": "работает на другой сервер или на прежний запуск этого",
    "no_answer_from": "нет ответа от {agent}: {reason}",
    "paused": "он на паузе",
    "refused_by": "{agent} отказался: {reason}",
    "lost": "прекращена, попыток было {count}: {reasons}",
    "lost_once": "прекращена после {count} попытки: {reasons}",
    "lost_attempt": "попытка {attempt} на {agent}: {reason}",
    "timed_out": "не уложилась в {seconds} с (build_timeout)",
    "checkout_failed": "не удалось получить коммит: {reason}",
    "checkout_timed_out": "вышло время",
    "no_commit": "в {repository} нет коммита «{commit}»",
    "git_status": "git завершился с кодом {status}",
    "tried": "{reason} (попыток: {count} за {seconds} с)",
    "not_made": "{path} не удалось создать: {error}",
    "not_moved": "{path} мешает, и убрать не удалось: {error}; проверьте lsattr и удалите",
    "attributes_left": "одна из сборок оставила ACL или другие атрибуты: {path}",
    "submodule_failed": "подмодуль {submodule}: {reason}",
    "submodule_unknown": "в .gitmodules нет его адреса",
    "submodule_local": "{url} — на машине агента, а репозиторий — нет",
    "not_started": "команду не удалось запустить: {error}",
    "http_status": "HTTP {status}",
    "http_reason": "HTTP {status}: {reason}",
    "rejected": "агент отказался её выполнять и не сказал почему",
    "slots_taken": "все слоты заняты",
    "agent_stops": "агент останавливается",
    "agent_stopping": "агент останавливается",
    "moved_on": "сборка продолжается на другом агенте",
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
    "untrusted": "сертификату {url} нет доверия: {error}",
    "no_connection": "нет связи с {url}: {error}",
    "disconnected": "{url} закрыл соединение, не ответив",
    "not_http": "{url} ответил не по HTTP: {error}",
    "no_build": "сборки {build} нет",
    "no_agent": "агента по адресу {address} нет",
    "no_page": "такой страницы нет",
    "no_file": "такого файла нет",
    "no_attempt": "у сборки {build} не было попытки {attempt}",
    "damaged": "сборка {build} повреждена: {reason}",
    "output_contradicts": "порядок вывода и его потоки противоречат друг другу",
    "record_missing": "её записи нет",
    "record_unreadable": "её запись не читается: {error}",
    "record_of_another": "это запись сборки {build}",
    "not_a_build": "это не сборка: {error}",
    "wrong_kind": "значение не того типа",
    "output_damaged": "её вывод повреждён: {error}",
    "folder_unusable": "её папкой нельзя пользоваться: {error}",
    "queue_full": "сборок уже ждёт: {count}",
    "data_unwritable": "в папку данных нельзя писать: {error}",
    "method": "этот адрес принимает {methods}",
    "cross_site": "запрос прислала страница чужого сайта",
    "sign_in": "войдите с именем и паролем",
    "too_many_tries": "слишком много неверных паролей; повторите через {seconds} с",
    "too_many_viewers": "слишком много зрителей; попробуйте позже",
    "unknown_host": "у этого сервера другое имя",
    "param_missing": "нет параметра {name}",
    "param_not_utf8": "параметр {name} не в UTF-8",
    "param_choice": "параметр {name} — один из: {choices}",
    "param_whole": "параметр {name} — целое число не меньше {least}",
    "param_positive": "параметр {name} — число больше 0",
    "param_text": "параметр {name} — текст",
    "param_text_or_number": "параметр {name} — текст или целое число",
    "params_many": "параметров больше {count}",
    "param_range": "параметр {name} — число от {least} до {most}",
    "param_ids": "параметр {name} — номера сборок через запятую",
    "param_host": "параметр {name} — имя хоста или IP-адрес",
    "stale_attempt": "сборка больше не у этой попытки",
    "offset_gap": "поток продолжается с другого места: отправляйте с указанного сервером",
    "no_browser": "браузерам агент не отвечает",
    "not_a_request": "это не запрос HTTP/1.1",
    "one_host": "заголовок Host должен быть один",
    "target_slash": "адрес запроса начинается с косой черты",
    "line_long": "строка запроса длиннее {bytes} байт",
    "headers_long": "заголовки длиннее {bytes} байт",
    "headers_many": "заголовков больше {count}",
    "header_form": "заголовок не вида имя: значение",
    "no_chunks": "передавайте тело с Content-Length, не по частям",
    "one_length": "заголовок Content-Length должен быть один, и число",
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
    "param_wrong": "параметр {name} неверен: {reason}",
    "labels_long": "меток не больше чем на {count} символов в сумме",
    "label_wrong": (
        "{label} — не метка: метки состоят из латинских букв, цифр и . _ - : "
        "и разделяются пробелами"
    ),
    "no_project": "проекта {project} нет; проекты: {known}",
    "file_link": "ссылка",
    "file_socket": "сокет",
    "file_pipe": "канал",
    "file_device": "устройство",
    "file_over_limit": "больше, чем разрешает files_limit: {bytes} байт на все файлы сборки",
    "file_not_utf8": "имя не в UTF-8",
    "file_path_wrong": "в пути между косыми чертами стоят имена, не пустые, не `.` и не `..`",
    "file_part_long": "имя в пути длиннее {bytes} байт",
    "file_path_long": "путь длиннее {bytes} байт",
    "file_one_too_many": "больше {count} файлов",
    "file_unreadable": "не удалось сохранить: {error}",
    "file_refused": "сервер не принял: {reason}",
    "no_files": "у сборки {build} нет файлов",
    "file_missing": "у сборки {build} нет файла «{path}»",
    "superseded": "её место заняла более новая сборка этой ветки: {build}",
    "wait_soon": "есть свободный агент, сборка сейчас начнётся",
    "wait_next": "следующая на свободный слот",
    "wait_next_in": "следующая на свободный слот, примерно через {time}",
    "wait_place": "ждёт свободного слота: место {place} в очереди",
    "wait_place_in": "ждёт свободного слота: место {place} в очереди, примерно через {time}",
    "wait_alone": "последняя попытка идёт одна, на агенте, который больше ничего не выполняет",
    "wait_alone_agent": "последняя попытка идёт одна: ждёт, пока {agent} не освободится целиком",
    "wait_kept": "ждёт сборку {build}: её последняя попытка идёт одна, {agent} оставлен для неё",
    "wait_postponed": (
        "сервер не может запускать сборки: не хватает диска или потоков, подробности в его журнале"
    ),
    "wait_no_agent": (
        "ни один агент не зарегистрирован: как запустить агента, сказано на странице /agents"
    ),
    "wait_label_missing": "метки {labels} нет ни у одного агента: запустите агента с этой меткой",
    "wait_labels_missing": "меток {labels} нет ни у одного агента: запустите агента с ними",
    "wait_no_agent_with_all": "нет агента сразу со всеми метками {labels}: запустите такого",
    "wait_unable": "сейчас ни один агент не берёт сборок: {reasons}",
    "wait_unable_label": "сейчас ни один агент с меткой {labels} не берёт сборок: {reasons}",
    "wait_unable_labels": "сейчас ни один агент с метками {labels} не берёт сборок: {reasons}",
    "wait_paused": "{agent} на паузе: возобновите его",
    "wait_paused_too": "{reason} (он ещё и на паузе: возобновите его)",
    "wait_trouble": "{agent} неисправен: {reason}",
    "wait_stopping": "{agent} останавливается: запустите его снова",
    "wait_refusing": "{agent} отказался от сборки или не ответил, его спросят снова",
    "wait_gone": "{agent} пропал: запустите его снова",
    "wait_more": "и ещё {count}",
    "about_seconds": "{count} с",
    "about_minutes": "{count} мин",
    "about_hours": "{count} ч",
    "git_not_started": "не удалось запустить git: {error}",
    "git_said": "git сообщает: {message}",
    "look_too_long": "репозиторий показал веток и тегов больше чем на {mebibytes} МиБ",
    "look_timed_out": "репозиторий не показал свои ветки за {seconds} с",
    "supervisor_unavailable": "супервизор команд не удалось запустить: {error}",
    "supervisor_ended": "он сразу завершился; подробности в журнале агента",
    "supervisor_lost": "супервизор команды был убит",
    "supervisor_hangs": "супервизор команды не отвечает",
    "internal_error": "внутренняя ошибка; подробности в журнале сервера",
    "server_error": "внутренняя ошибка; подробности в журнале сервера",
}


def reason_of(record: BuildJson) -> str:
    """The reason in the JSON of a build or an attempt; empty if there is none."""
    sentence = record.get("reason")
    if not isinstance(sentence, str):
        return ""
    return from_json(sentence, record.get("reason_key"), record.get("reason_values")) or ""


def reason_text(translate: Translator, sentence: str) -> str:
    """The sentence in the reader's language; unchanged if it is no Reason."""
    if translate.language != "ru" or not isinstance(sentence, Reason):
        return str(sentence)
    values = {name: _value_text(translate, value) for name, value in sentence.values.items()}
    return RUSSIAN[sentence.key].format(**values)


def _value_text(translate: Translator, value: object) -> object:
    if isinstance(value, (list, tuple)):
        return "; ".join(reason_text(translate, each) for each in value)
    return reason_text(translate, value) if isinstance(value, str) else value


def is_exit(reason: Optional[str]) -> bool:
    """Return True if a reason adds nothing to the exit status."""
    if isinstance(reason, Reason):
        return reason.key in _EXIT_KEYS
    return not reason or _EXIT.fullmatch(reason) is not None
