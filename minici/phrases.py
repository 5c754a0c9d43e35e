"""The texts themselves: key -> (Russian, English); a tuple of forms where a number decides."""

from __future__ import annotations

from typing import Union

Forms = Union[str, tuple[str, ...]]

TEXTS: dict[str, tuple[Forms, Forms]] = {
    # Statuses, and the button: the contract's own words.
    "status_queued": ("В очереди", "Queued"),
    "status_running": ("Выполняется", "Running"),
    "status_success": ("Успешно", "Success"),
    "status_failure": ("Неуспешно", "Failure"),
    "status_lost": ("Потеряна", "Lost"),
    "status_cancelled": ("Отменена", "Cancelled"),
    "status_damaged": ("Повреждена", "Damaged"),
    "start_build": ("Запустить сборку", "Start build"),
    # The frame of every page.
    "skip": ("К содержанию", "Skip to content"),
    "builds": ("Сборки", "Builds"),
    "agents": ("Агенты", "Agents"),
    "signed_in": ("Вы вошли как {name}", "Signed in as {name}"),
    "slots_free": ("Свободно мест: {free} из {total}", "{free} of {total} slots free"),
    "no_agents_short": ("Агентов нет", "No agents"),
    "waiting_count": (
        ("ждёт {n} сборка", "ждут {n} сборки", "ждут {n} сборок"),
        ("{n} build waiting", "{n} builds waiting"),
    ),
    "nothing_waits": ("очередь пуста", "nothing waiting"),
    "oldest_wait": ("дольше всех — {duration}", "the longest for {duration}"),
    # The form.
    "new_build": ("Новая сборка", "New build"),
    "commit": ("Коммит", "Commit"),
    "commit_hint": (
        "Хеш, ветка, тег или HEAD",
        "A hash, a branch, a tag or HEAD",
    ),
    "command": ("Команда", "Command"),
    "command_hint": (
        "Выполняется оболочкой в чистой копии репозитория",
        "A shell runs it in a clean checkout",
    ),
    "form_wrong": (
        "Сборка не запущена: исправьте отмеченное.",
        "No build was started: correct what is marked.",
    ),
    "error_commit_empty": (
        "Назовите коммит: хеш, ветку, тег или HEAD.",
        "Name a commit: a hash, a branch, a tag or HEAD.",
    ),
    "error_commit_wrong": (
        "Так не может называться коммит. Годятся хеш, ветка, тег или HEAD — без пробелов "
        "и без дефиса в начале.",
        "No commit can have this name. Give a hash, a branch, a tag or HEAD, without spaces "
        "and not beginning with a dash.",
    ),
    "error_commit_long": (
        "Слишком длинное имя коммита.",
        "This name of a commit is too long.",
    ),
    "error_command_empty": (
        "Напишите команду, например: make test",
        "Write a command, for example: make test",
    ),
    "error_command_long": (
        "Слишком длинная команда. Положите её в файл в репозитории и вызовите его.",
        "This command is too long. Put it into a file of the repository and call that.",
    ),
    "error_command_wrong": (
        "В команде есть нулевой символ; оболочка его не примет.",
        "The command holds a NUL character, which no shell takes.",
    ),
    # The list.
    "all": ("Все", "All"),
    "filter_label": ("Показать по состоянию", "Show by status"),
    "filter_text": ("Коммит или команда", "Commit or command"),
    "filter_apply": ("Найти", "Find"),
    "column_status": ("Состояние", "Status"),
    "column_commit": ("Коммит", "Commit"),
    "column_agent": ("Агент", "Agent"),
    "column_started": ("Начало", "Started"),
    "column_duration": ("Длительность", "Duration"),
    "build_number": ("Сборка {id}", "Build {id}"),
    "older": ("Старее", "Older"),
    "pages": ("Страницы списка", "Pages of the list"),
    "newest": ("Самые новые", "Newest"),
    "strip_title": (
        ("Последняя {n} сборка", "Последние {n} сборки", "Последние {n} сборок"),
        ("The last build", "The last {n} builds"),
    ),
    "strip_text": (
        "{title}: {summary}. Высота — длительность, справа новейшая.",
        "{title}: {summary}. Height is duration, the newest is on the right.",
    ),
    "usual": ("обычно {duration}", "usually {duration}"),
    "place_next": ("следующая", "next"),
    "place": ("место {position} в очереди", "no. {position} in the queue"),
    "waits_for_agent": ("ждёт агента", "waits for an agent"),
    "no_builds": ("Сборок ещё нет", "No builds yet"),
    "no_builds_text": (
        "Запустите первую формой выше или из командной строки:",
        "Start the first with the form above, or from a command line:",
    ),
    "none_match": ("Таких сборок нет", "No such builds"),
    "none_match_text": (
        "Под этот отбор ничего не подходит.",
        "Nothing matches this selection.",
    ),
    "show_all": ("Показать все", "Show all"),
    "no_agents": ("Ни одного агента на связи", "No agent is connected"),
    "no_agents_text": (
        "Сборки ждут в очереди. Агента запускает команда:",
        "Builds wait in the queue. This command starts an agent:",
    ),
    "damaged_text": (
        "Запись сборки не читается: {reason}",
        "The record of this build can't be read: {reason}",
    ),
    "damaged_advice": (
        "Остальные сборки это не затрагивает. Что уцелело, лежит на сервере в папке "
        "builds/{id} папки данных.",
        "No other build is affected. What is left of it is on the server, in the folder "
        "builds/{id} of the data folder.",
    ),
    # Ages.
    "age_now": ("только что", "just now"),
    "age_seconds": ("{n} с назад", "{n} s ago"),
    "age_minutes": ("{n} мин назад", "{n} min ago"),
    "age_hours": ("{n} ч назад", "{n} h ago"),
    "age_days": (
        ("{n} день назад", "{n} дня назад", "{n} дней назад"),
        ("a day ago", "{n} days ago"),
    ),
    # The verdict: a head, then what is known, each with its own comma or space.
    "verdict_next": ("В очереди: запустится следующей", "Queued: it is next"),
    "verdict_place": (
        "В очереди: место {position}",
        "Queued: number {position} in line",
    ),
    "verdict_no_agent": (
        "В очереди: ни одного агента на связи",
        "Queued: no agent is connected",
    ),
    "verdict_queued": ("В очереди", "Queued"),
    "verdict_running": ("{status} {duration}", "{status} for {duration}"),
    "verdict_stopping": ("Останавливается", "Being stopped"),
    "verdict_success": ("Успешно за {duration}", "Success in {duration}"),
    "verdict_exit": (
        "Неуспешно: код выхода {exit} через {duration}",
        "Failure: exit status {exit} after {duration}",
    ),
    "verdict_signal": (
        "Неуспешно: команду завершил сигнал {signal} через {duration}",
        "Failure: ended by {signal} after {duration}",
    ),
    "verdict_reason": ("Неуспешно: {reason}", "Failure: {reason}"),
    "verdict_failure": ("Неуспешно", "Failure"),
    "verdict_lost": (
        ("Потеряна после {n} попытки", "Потеряна после {n} попыток", "Потеряна после {n} попыток"),
        ("Lost after {n} attempt", "Lost after {n} attempts"),
    ),
    "verdict_cancelled": ("Отменена", "Cancelled"),
    "verdict_cancelled_by": ("Отменена пользователем {name}", "Cancelled by {name}"),
    "verdict_after": (" через {duration}", " after {duration}"),
    "verdict_agent": (" на агенте {agent}", " on agent {agent}"),
    "verdict_attempt": (", попытка {attempt} из {max}", ", attempt {attempt} of {max}"),
    "verdict_attempt_only": (", попытка {attempt}", ", attempt {attempt}"),
    "verdict_damaged": ("Запись сборки повреждена", "The record of this build is damaged"),
    # The build page.
    "previous_build": ("Предыдущая сборка", "Previous build"),
    "next_build": ("Следующая сборка", "Next build"),
    "neighbours": ("Соседние сборки", "Neighbouring builds"),
    "cancel": ("Остановить", "Cancel"),
    "cancelling": ("Останавливается…", "Cancelling…"),
    "rebuild": ("Повторить", "Rebuild"),
    "why_waits": ("Почему она ждёт", "Why it waits"),
    "waits_no_agent": (
        "На связи нет ни одного агента. Запустите агента:",
        "No agent is connected. Start one:",
    ),
    "waits_full": (
        (
            "Перед ней {n} сборка, все места агентов заняты.",
            "Перед ней {n} сборки, все места агентов заняты.",
            "Перед ней {n} сборок, все места агентов заняты.",
        ),
        (
            "{n} build is before it, and all slots are taken.",
            "{n} builds are before it, and all slots are taken.",
        ),
    ),
    "waits_next": (
        "Она следующая и начнётся, как только освободится место.",
        "It is next, and begins the moment a slot is free.",
    ),
    "waits_soon": ("Она вот-вот начнётся.", "It is about to begin."),
    "reason": ("Причина", "Reason"),
    "details": ("Сведения", "Details"),
    "number": ("Номер", "Number"),
    "status": ("Состояние", "Status"),
    "revision": ("Ревизия", "Revision"),
    "subject": ("Тема", "Subject"),
    "author": ("Автор", "Author"),
    "repository": ("Репозиторий", "Repository"),
    "queued_at": ("Поставлена", "Queued"),
    "started_at": ("Начало", "Started"),
    "finished_at": ("Конец", "Finished"),
    "duration": ("Длительность", "Duration"),
    "waited": ("Ожидание", "Waited"),
    "exit_status": ("Код выхода", "Exit status"),
    "agent": ("Агент", "Agent"),
    "attempt": ("Попытка", "Attempt"),
    "rebuild_of": ("Повтор сборки", "Repeat of build"),
    "started_by": ("Кто запустил", "Started by"),
    "cancelled_by": ("Кто остановил", "Cancelled by"),
    "dropped": ("Отброшено", "Dropped"),
    "attempts": ("Попытки", "Attempts"),
    "shown_here": ("показан ниже", "shown below"),
    "attempt_output": ("вывод", "output"),
    "ending_open": ("идёт", "running"),
    "ending_finished": ("завершена", "finished"),
    "ending_refused": ("агент отказался", "refused by the agent"),
    "ending_returned": ("агент вернул: он останавливался", "given back: the agent was stopping"),
    "ending_silent": ("агент пропал", "the agent was gone"),
    "ending_forgotten": ("агент о ней не знает", "the agent does not have it any more"),
    "ending_overdue": ("не уложилась во время", "overdue"),
    "ending_unanswered": ("агент не ответил", "the agent did not answer"),
    "ending_superseded": ("результат дала другая", "another gave the result"),
    "ending_cancelled": ("остановлена", "cancelled"),
    "output": ("Вывод", "Output"),
    "output_of_attempt": ("Вывод попытки {attempt}", "Output of attempt {attempt}"),
    "to_end": ("К концу", "To the end"),
    "raw": ("Текстом", "As text"),
    "raw_all": ("весь", "all"),
    "no_output": ("Команда ничего не вывела.", "The command wrote nothing."),
    "no_output_yet": ("Вывода пока нет.", "No output yet."),
    "no_output_queued": (
        "Вывод появится, когда сборка начнётся.",
        "Output appears here once the build begins.",
    ),
    "dropped_note": (
        (
            "Отброшен {n} байт: вывод длиннее, чем хранит сервер. Остались начало и конец.",
            "Отброшено {n} байта: вывод длиннее, чем хранит сервер. Остались начало и конец.",
            "Отброшено {n} байт: вывод длиннее, чем хранит сервер. Остались начало и конец.",
        ),
        (
            "{n} byte was dropped: the output is longer than what is kept. The beginning and the "
            "end are here.",
            "{n} bytes were dropped: the output is longer than what is kept. The beginning and the "
            "end are here.",
        ),
    ),
    "output_earlier": ("Предыдущая часть вывода", "Earlier output"),
    "output_later": ("Следующая часть вывода", "Later output"),
    "line": ("Строка {n}", "Line {n}"),
    "log_end_exit": ("Код выхода {exit}", "Exit status {exit}"),
    "log_end_signal": ("Завершена сигналом {signal}", "Ended by {signal}"),
    "stderr_mark": (
        "Строки с меткой «err» пришли из stderr.",
        "Lines marked “err” came from stderr.",
    ),
    "repeat": ("Как повторить вручную", "How to repeat it by hand"),
    "repeat_text": (
        "То же, что сделал агент: чистая копия той же ревизии и та же команда.",
        "What the agent did: a clean checkout of the same revision, and the same command.",
    ),
    # The agents page.
    "agents_title": ("Агенты", "Agents"),
    "agent_ready": ("Готов", "Ready"),
    "agent_busy": ("Занят", "Busy"),
    "agent_gone": ("Пропал", "Gone"),
    "agent_refusing": ("Отказывается", "Refusing"),
    "agent_name": ("Имя", "Name"),
    "agent_address": ("Адрес", "Address"),
    "agent_slots": ("Места", "Slots"),
    "agent_runs": ("Выполняет", "Runs"),
    "agent_heard": ("Ответил", "Last heard"),
    "agent_idle": ("ничего", "nothing"),
    "forget_agent": ("Забыть", "Forget"),
    "never": ("никогда", "never"),
    "start_agent": ("Ещё один агент", "One more agent"),
    "start_agent_text": (
        "На этом или другом компьютере, где есть папка minici, Python и git:",
        "On this or another computer with the folder minici, Python and git:",
    ),
    # Errors.
    "error_400": ("Запрос не понят", "The request was not understood"),
    "error_401": ("Нужно войти", "Sign in, please"),
    "error_403": ("Запрос с чужого сайта", "A request from another site"),
    "error_404": ("Такой страницы нет", "There is no such page"),
    "error_405": ("Так эту страницу не открыть", "This page can't be opened that way"),
    "error_413": ("Слишком много данных", "Too much data"),
    "error_421": ("Не тот адрес", "Not the right address"),
    "error_500": ("Ошибка внутри minici", "Something went wrong inside minici"),
    "error_503": ("Сейчас не получится", "Not right now"),
    "error_other": ("Не получилось", "That did not work"),
    "advice_400": (
        "Вернитесь назад, проверьте введённое и попробуйте ещё раз.",
        "Go back, check what you entered, and try again.",
    ),
    "advice_401": (
        "Обновите страницу и введите имя и пароль. Их даёт тот, кто ведёт этот сервер.",
        "Reload the page and enter your name and password. Whoever keeps this server gives "
        "them out.",
    ),
    "advice_403": (
        "Ничего не изменилось. Откройте страницу по адресу самого сервера и повторите.",
        "Nothing was changed. Open the page at the server's own address and try again.",
    ),
    "advice_404": (
        "Возможно, номер набран с ошибкой или сборка уже удалена.",
        "The number may be mistyped, or the build was removed.",
    ),
    "advice_405": (
        "Откройте список сборок и пройдите по ссылке оттуда.",
        "Open the list of builds and follow a link from there.",
    ),
    "advice_413": (
        "Сократите команду: положите её в файл в репозитории и вызовите его.",
        "Make the command shorter: put it into a file of the repository and call that.",
    ),
    "advice_421": (
        "Сервер не знает себя под этим именем. Откройте его по адресу, который он напечатал "
        "при запуске, или впишите этот адрес в url в config.ini.",
        "The server does not go by this name. Open it at the address that it printed when it "
        "started, or set url in config.ini to this one.",
    ),
    "advice_500": (
        "Ничего не потеряно: принятые сборки уже на диске. Причина — в журнале сервера.",
        "Nothing is lost: accepted builds are on disk. The reason is in the server's log.",
    ),
    "advice_503": (
        "Подождите немного и попробуйте снова: введённое можно вернуть кнопкой «назад».",
        "Wait a moment and try again; going back brings up what you entered.",
    ),
    # Sentences that the server may name by key instead of writing one.
    "error_queue_full": (
        "Очередь полна: больше сборок сервер пока не принимает.",
        "The queue is full: the server takes no more builds for now.",
    ),
    "error_disk": (
        "В папку данных сервера сейчас нельзя писать.",
        "The server's data folder can't be written just now.",
    ),
    "back_to_builds": ("К списку сборок", "To the list of builds"),
    # What the scripts in static/ say.
    "js_copy": ("Копировать", "Copy"),
    "js_copied": ("Скопировано", "Copied"),
    "js_reconnecting": (
        "Связь прервалась, подключаюсь снова…",
        "The connection was lost; trying again…",
    ),
    "js_polling": (
        "Живой вывод недоступен; страница обновляется каждые 3 секунды.",
        "No live output here; the page is refreshed every 3 seconds.",
    ),
    "js_offline": (
        "Сервер не отвечает; список может устареть. Пробую снова…",
        "The server does not answer; this may be out of date. Trying again…",
    ),
    "js_full": (
        "Вывода больше, чем вмещает страница. «Следить за концом» покажет, что дальше.",
        "There is more output than a page holds. “Follow the end” shows how it goes on.",
    ),
    "js_trimmed": (
        "Начало вывода убрано из страницы, чтобы не занимать память; целиком он по ссылкам выше.",
        "The beginning was taken off this page to save memory; the links above have all of it.",
    ),
    "js_follow": ("Следить за концом", "Follow the end"),
    "js_search": ("Поиск в выводе", "Search the output"),
    "js_matches": ("{at} из {n}", "{at} of {n}"),
    "js_no_matches": ("не найдено", "not found"),
    "js_previous_match": ("Предыдущее совпадение", "Previous match"),
    "js_next_match": ("Следующее совпадение", "Next match"),
    "js_keys": ("Клавиши", "Keys"),
    "js_close": ("Закрыть", "Close"),
    "js_key_help": ("показать или убрать эту справку", "show or hide this help"),
    "js_key_down": ("следующая сборка в списке", "next build in the list"),
    "js_key_up": ("предыдущая сборка в списке", "previous build in the list"),
    "js_key_new": ("перейти к форме новой сборки", "go to the form for a new build"),
    "js_key_list": ("к списку сборок", "to the list of builds"),
    "js_key_agents": ("к агентам", "to the agents"),
    "js_key_older": ("предыдущая сборка", "previous build"),
    "js_key_newer": ("следующая сборка", "next build"),
    "js_key_top": ("к началу страницы", "to the top of the page"),
    "js_key_end": ("к концу вывода и следить за ним", "to the end of the output, following it"),
    "js_key_search": ("поиск", "search"),
    "js_line": ("Строка {n}", "Line {n}"),
    "js_day": ("д", "d"),
    "js_hour": ("ч", "h"),
    "js_minute": ("мин", "m"),
    "js_second": ("с", "s"),
}
