"""The pages as data: what is escaped, what stands where, and that nothing comes from outside.

How they look and behave in a browser is in test_pages.py.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
import zipfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from string import Template
from typing import Any, Optional

import pytest

from minici import html
from minici.reasons import Reason
from minici.ui.attempts import repeat_lines
from minici.ui.components import asset, short_ref
from minici.ui.i18n import LANGUAGES, Translator
from minici.ui.markup import Html, escape, fill, input_value, join, markup, phrase, visible
from minici.ui.models import AgentsView, AgentView, FormView, IndexView, ProjectView, Waiting
from minici.ui.palette import GROUND, PALETTE, contrast, legible, palette_css
from minici.ui.summary import uncounted_sentence, verdict_sentence
from tests.support.harness import ROOT
from tests.support.page_samples import (
    STATUSES,
    agents_view,
    all_pages,
    branch_view,
    build_json,
    build_view,
    context,
    index_view,
    iso,
    plain,
)

PACKAGE = ROOT / "minici"
SCRIPTS = sorted((PACKAGE / "ui" / "static").glob("*.js"))
TEMPLATES = sorted(path.stem for path in (PACKAGE / "ui" / "templates").glob("*.html"))
assert len(TEMPLATES) > 10, "where are the templates?"
VOID = "area base br col embed hr img input link meta source track wbr".split()
SVG = "path circle rect".split()
HOSTILE = (
    "</title></textarea></script><script>alert(1)</script><!--"
    "\"'><img src=x onerror=alert(1) style=x>&lt;$t_all ${id}{n}%s\x1b[2J\x07\u202e\u2066"
)


class Page(HTMLParser):
    """The shape of a page: its elements with their attributes, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, Optional[str]]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.by_id: dict[str, str] = {}
        self.feed(source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        assert tag in SVG + VOID, tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> does not close {self.open}"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def shape(self) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in self.elements]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts).replace("\u00a0", " "))

    def all(self, tag: str, **wanted: str) -> list[dict[str, Optional[str]]]:
        named = {name.rstrip("_").replace("_", "-"): value for name, value in wanted.items()}
        return [
            attributes
            for found, attributes in self.elements
            if found == tag and all(attributes.get(name) == named[name] for name in named)
        ]

    def values(self, name: str) -> list[str]:
        return [str(a[name]) for _, a in self.elements if name in a]


def hostile(field: str) -> str:
    return f"{field} {HOSTILE}"


IN_VIEW = (
    "waiting max_attempts previous next shown_attempt first_line earlier later output "
    "kept checkout damage failures"
).split()


def english_build(status: str, **changes: Any) -> Page:
    """The page of a build, with changes to its record or to its view."""
    view = {name: changes.pop(name) for name in list(changes) if name in IN_VIEW}
    return Page(html.build_page("en", build_view(build_json(12, status, **changes), **view)))


# A value is HTML only if its type says so


def test_whatever_is_not_html_by_type_is_escaped() -> None:
    assert escape('<a href="x">\'&') == "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;"
    assert escape(Html("<b>")) == "<b>"
    assert escape(None) == ""
    assert escape(7) == "7"
    assert markup('<i title="$a">$b</i>', a='"', b=Html("<b>1</b>")) == (
        '<i title="&quot;"><b>1</b></i>'
    )
    assert join(["<", Html("<br>"), 3], "&") == "&lt;&amp;<br>&amp;3"
    assert type(join([])) is Html and type(escape("x")) is Html


def test_putting_html_into_a_plain_text_makes_it_plain_again() -> None:
    bold = Html("<b>")
    for text in (bold + "<i>", "<i>" + bold, f"{bold}", bold.upper(), bold[:3]):
        assert type(text) is str
        assert "<" not in escape(text)


def test_a_text_with_values_escapes_them() -> None:
    said = phrase(Translator("en"), "verdict_agent", agent="<{x}>")
    assert said == " on agent &lt;{x}&gt;"
    assert phrase(Translator("en"), "verdict_agent", agent=Html("<b>x</b>")) == " on agent <b>x</b>"


def test_only_markup_py_makes_html_out_of_text() -> None:
    """So that "by construction" needs no looking at more than that one module."""
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 60
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "Html":
                assert path.name == "markup.py", f"{path.name}:{node.lineno}"
            if node.func.id == "markup":
                snippet = node.args[0]
                assert isinstance(snippet, ast.Constant), f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_field_of_a_template_can_break_out(name: str) -> None:
    """Hostile text in a field changes neither the elements of a template nor their attributes."""
    source = (PACKAGE / "ui" / "templates" / f"{name}.html").read_text(encoding="utf-8")
    fields = {a or b for _, a, b, _ in Template.pattern.findall(source)}
    fields = {field for field in fields if not field.startswith("t_")}
    translate = Translator("en")
    # Fields that stand for whole attributes are Html by type; as text they would be escaped,
    # and a browser would take the escaped text for an attribute's name.
    whole = set(re.findall(r'"\$(\w+)', re.sub(r'="[^"]*"', '""', source)))
    harmless = {field: Html("") if field in whole else "x" for field in fields}
    bad = {field: Html("") if field in whole else HOSTILE for field in fields}
    good_page, bad_page = fill(name, translate, **harmless), fill(name, translate, **bad)
    assert _starts(good_page) == _starts(bad_page)
    assert whole <= {"builds_current", "agents_current", "commit_invalid", "command_invalid"} | {
        "final",
        "state",
    }


def _starts(source: str) -> list[tuple[str, list[str]]]:
    starts: list[tuple[str, list[str]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: starts.append((tag, [n for n, _ in attrs]))  # type: ignore[method-assign]
    parser.feed(source)
    parser.close()
    return starts


def test_a_name_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("row", Translator("en"), id=1)
    with pytest.raises(KeyError):
        markup("$a")


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_text_in_every_field_changes_no_page(language: str) -> None:
    harmless, bad = dict(all_pages(language, plain)), dict(all_pages(language, hostile))
    assert harmless.keys() == bad.keys()
    for name, page in bad.items():
        assert Page(page).shape == Page(harmless[name]).shape, name
        assert "alert(1)" in page or name.startswith("no agents"), name


def test_every_text_field_of_a_build_is_shown() -> None:
    """The hostile test above proves nothing about a field that no page shows."""
    shown = Page(dict(all_pages("en", plain))["failure"])
    for field in (
        "commit subject author command repository agent started_by attempt_agent "
        "attempt_reason reason stdout stderr context_repository user"
    ).split():
        assert f"the {field}" in shown.text, field


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_acts_on_its_surroundings_is_made_visible(language: str) -> None:
    raw = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
    fields = ("form_commit", "form_command", "filter_text", "agent_address")
    for name, source in all_pages(language, hostile):
        rest = str(source)
        for field in fields:
            rest = rest.replace(input_value(hostile(field)), "")  # in a field, kept as it was
        assert not raw.search(rest), name
    page = Page(dict(all_pages(language, hostile))["failure"])
    assert "<U+202E>" in page.text and "<U+001B>[2J" in page.text


@pytest.mark.parametrize("code", [*range(9), 11, 13, 27, 127, 0x9B, 0x61C, 0x200B, 0x200E, 0x200F])
def test_control_characters_have_marks(code: int) -> None:
    assert visible(f"a{chr(code)}b") == f"a<U+{code:04X}>b"


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0xD800])
def test_directional_characters_have_marks(code: int) -> None:
    assert visible(f"a{chr(code)}b") == f"a<U+{code:04X}>b"


def test_ordinary_text_is_left_alone() -> None:
    text = "Ёлка\t日本語 🎉 👩\u200d💻 עברית\nx"
    assert visible(text) == text


def test_what_was_typed_is_given_back_as_it_was() -> None:
    assert input_value("a\r\n<\x1b\u202e\x00") == "a&#13;\n&lt;\x1b\u202e\ufffd"


# Nothing inline, nothing from outside


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pages_obey_their_own_policy(language: str) -> None:
    assert "unsafe" not in html.CONTENT_SECURITY_POLICY
    for name, source in all_pages(language):
        page = Page(source)
        scripts = page.all("script")
        assert scripts and all(script.get("src") for script in scripts), name
        assert not page.all("style") and not page.all("iframe") and not page.all("base"), name
        names = {attribute for _, attributes in page.elements for attribute in attributes}
        assert not [attribute for attribute in names if attribute.startswith("on")], name
        assert "style" not in names, name
        loaded = [a for tag, a in page.elements if tag in ("link", "script", "img", "source")]
        named = [str(a["href"]) for a in loaded if a.get("rel") == "alternate"]
        assert all(url.startswith("/feed.atom") for url in named), name
        loaded = [a for a in loaded if a.get("rel") != "alternate"]
        assert all(str(a.get("href") or a.get("src")).startswith("/static/") for a in loaded), name
        actions = page.values("action")
        assert all(action.startswith("/") and "//" not in action for action in actions), name


def test_every_static_file_is_served_and_named_by_its_content() -> None:
    names = {re.sub(r"^/static/([^?]+)\?v=[0-9a-f]{12}$", r"\1", url) for url in _assets()}
    on_disk = {path.name for path in (PACKAGE / "ui" / "static").iterdir()}
    for name in names | on_disk:
        found = html.static_file(name)
        assert found is not None and found[0], name
        kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        assert found[1].split(";")[0] == kinds[name.rsplit(".", 1)[1]]
    assert names <= on_disk | {"palette.css"}
    for wrong in ("", "nothing.css", "../html.py", "style.css/", "/etc/passwd", "STYLE.CSS"):
        assert html.static_file(wrong) is None


def _assets() -> set[str]:
    urls: set[str] = set()
    for _, page in all_pages("en"):
        urls.update(url for url in re.findall(r'"(/static/[^"]*)"', page))
    return urls


def test_the_scripts_put_in_no_html() -> None:
    assert len(SCRIPTS) >= 4
    for path in SCRIPTS:
        source = path.read_text(encoding="utf-8")
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in source, f"{path.name}: {way}"
        assert not re.search(r"\.style\b|https?://[a-z]", source), path.name


def test_pages_can_be_made_out_of_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "minici.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in PACKAGE.rglob("*"):
            if path.is_file() and path.suffix in (".py", ".html", ".css", ".js", ".svg"):
                packed.write(path, path.relative_to(PACKAGE.parent))
    code = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "from minici import html\n"
        "assert html.__file__.startswith(sys.path[0]), html.__file__\n"
        "print(len(html.error_page('en', 404)), len(html.static_file('style.css')[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert all(int(number) > 500 for number in done.stdout.split())


# For everyone


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_sound(language: str) -> None:
    for name, source in all_pages(language):
        page = Page(source)
        ids = Counter(page.values("id"))
        assert not [each for each, times in ids.items() if times > 1], name
        for attribute in ("aria-labelledby", "aria-describedby", "for"):
            for value in page.values(attribute):
                assert set(value.split()) <= set(ids), (name, attribute, value)
        assert page.all("html", lang=language) and page.all("main") and page.all("h1"), name
        assert page.all("meta", name="viewport") and len(page.all("title")) >= 1, name
        for field in page.all("input") + page.all("textarea"):
            labelled = field.get("type") == "hidden" or "aria-label" in field
            assert labelled or page.all("label", for_=str(field["id"])), (name, field)
        assert all(link.get("href") for link in page.all("a")), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_status_is_a_word_and_a_sign_of_its_own(language: str) -> None:
    contract = {
        "ru": "В очереди|Выполняется|Успешно|Неуспешно|Потеряна|Отменена",
        "en": "Queued|Running|Success|Failure|Lost|Cancelled",
    }
    signs = {}
    for status, word in zip(STATUSES, contract[language].split("|")):
        page = html.index_page(language, index_view(builds=[build_json(5, status)], last=[]))
        pattern = rf'<span class="badge badge-{status}"><svg[^>]*>(.*?)</svg>(.*?)</span>'
        found = re.search(pattern, page)
        assert found and word in found.group(2), status
        signs[status] = found.group(1)
    assert len(set(signs.values())) == len(STATUSES)


def test_the_button_and_the_title_are_the_contracts() -> None:
    for language, text in (("ru", "Запустить сборку"), ("en", "Start build")):
        page = html.index_page(language, index_view())
        assert f'<button type="submit" class="primary">{text}</button>' in page


def _colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", css))


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def _schemes() -> dict[str, dict[str, str]]:
    css = (PACKAGE / "ui" / "static" / "style.css").read_text(encoding="utf-8")
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    dark = dark[: dark.index("\n}\n")]
    return {"light": _colours(light), "dark": {**_colours(light), **_colours(dark)}}


def _painted() -> set[str]:
    """The colours that drawings on the start page and the agents' page are made of."""
    css = (PACKAGE / "ui" / "static" / "style.css").read_text(encoding="utf-8")
    rules = re.findall(r"(?m)^(\.(?:bar-|day )[^{]*)\{([^}]*)\}", css)
    assert len(rules) > 10 and not [rule for _, rule in rules if "opacity" in rule]
    paints = r"(?:fill|stroke): var\(--([\w-]+)\)"
    return {name for _, rule in rules for name in re.findall(paints, rule)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_drawings_is_wcag_aa(scheme: str) -> None:
    """WCAG 1.4.11: what is needed to understand a drawing stands out by 3 to 1. A wash is a
    ground, and has a line around it."""
    colours = {name: _channels(value) for name, value in _schemes()[scheme].items()}
    painted = {name for name in _painted() if not name.endswith("-wash")}
    assert {"calm", "failure", "running", "queued", "lost", "cancelled", "damaged"} <= painted
    poor = {
        (name, ground): round(contrast(colours[name], colours[ground]), 2)
        for name in painted
        for ground in ("paper", "card", "hover")
        if contrast(colours[name], colours[ground]) < 3
    }
    assert not poor
    on_band = contrast(colours["running"], colours["success-wash"])
    assert on_band >= 3
    marks = {each: contrast(colours["cut"], colours[each]) for each in ("failure", "cancelled")}
    assert min(marks.values()) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_wcag_aa(scheme: str) -> None:
    colours = {name: _channels(value) for name, value in _schemes()[scheme].items()}
    grounds = ["paper", "card", "hover", "field"]
    pairs = [(text, on) for text in ("ink", "soft", "accent") for on in grounds]
    pairs += [(status, on) for status in STATUSES for on in ("paper", "card", "hover")]
    for status in (*STATUSES, "damaged"):
        pairs += [(text, f"{status}-wash") for text in (status, "ink", "soft")]
    logged = ("log-ink", "log-soft", "log-err", "log-link")
    pairs += [(text, on) for text in logged for on in ("log", "log-hover")]
    pairs += [("accent-ink", "accent"), ("accent-ink", "accent-hover"), ("log-ink", "log-mark")]
    poor = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert not {pair: round(ratio, 2) for pair, ratio in poor.items() if ratio < 4.5}
    lines = [(line, on) for line in ("line-strong", "focus") for on in ("paper", "card")]
    assert not [pair for pair in lines if contrast(colours[pair[0]], colours[pair[1]]) < 3]


def test_colours_of_the_log_can_be_read() -> None:
    assert _channels(_schemes()["light"]["log"]) == GROUND
    assert len(PALETTE) == 256
    assert all(contrast(legible(colour), GROUND) >= 4.5 for colour in PALETTE)
    assert palette_css().count(b"\n.f") + palette_css().startswith(b".f") == 256


# The start page


def test_the_form_keeps_what_was_typed_and_says_what_is_wrong_beside_it() -> None:
    errors = {"commit": "error_commit_wrong", "command": "a sentence of the server's"}
    form = FormView('-x "<', "make\n  test\n", errors)
    for language in LANGUAGES:
        source = html.index_page(language, index_view(form=form))
        page = Page(source)
        field = page.all("input", id="commit")[0]
        assert field["value"] == '-x "<'
        assert field["aria-invalid"] == "true"
        assert field["aria-describedby"] == "commit-error commit-hint"
        assert re.search(r"<textarea[^>]*aria-invalid[^>]*>\nmake\n  test\n</textarea>", source)
        assert Translator(language)("error_commit_wrong") in page.text
        assert "a sentence of the server's" in page.text
        assert Translator(language)("form_wrong") in page.text


def test_the_form_says_what_stands_against_all_of_it() -> None:
    form = FormView("main", "make", {"form": "error_queue_full"})
    page = Page(html.index_page("en", index_view(form=form)))
    assert "The queue is full" in page.text
    assert page.all("input", id="commit")[0].get("aria-invalid") is None


def test_a_form_without_errors_complains_of_nothing() -> None:
    page = html.index_page("en", index_view())
    assert "aria-invalid" not in page and "form-error" not in page


def test_a_leading_line_feed_of_the_command_survives() -> None:
    """A browser drops one line feed at the start of a textarea: the template's own."""
    page = html.index_page("en", index_view(form=FormView("HEAD", "\nmake")))
    assert re.search(r"<textarea[^>]*>\n\nmake</textarea>", page)


def test_the_list_shows_each_build() -> None:
    page = Page(html.index_page("en", index_view()))
    for build in index_view().builds:
        assert f"/build/{build['id']}" in page.values("href")
    for text in ("the commit", "the subject", "the command", "the agent", "1 m 04 s", "1 min ago"):
        assert text in page.text
    assert "This build is damaged: the damaged" in page.text


def test_a_queued_build_in_the_list_says_why_it_waits() -> None:
    def why(waiting: Waiting) -> str:
        view = index_view(builds=[build_json(20, "queued")], waiting={20: waiting})
        return Page(html.index_page("en", view)).text

    assert "waiting for an agent" in why(Waiting(1, 0))
    assert "waiting for an agent" in why(Waiting(1, 2, blocked=True))
    assert "no. 4 in queue" in why(Waiting(4, 1))
    assert "no. 1" not in why(Waiting(1, 1)) and "next" in why(Waiting(1, 1))


def test_a_running_build_has_a_bar_against_the_usual_time() -> None:
    page = Page(html.index_page("en", index_view()))
    assert page.all("progress", max="120.0", value="100.0")
    without = Page(html.index_page("en", index_view(medians={})))
    assert not without.all("progress")


def test_a_long_hash_is_shortened_and_a_long_command_is_its_first_line() -> None:
    build = build_json(5, "success", commit="a" * 40, command="\nfirst\nsecond")
    page = Page(html.index_page("en", index_view(builds=[build], last=[])))
    assert "a" * 10 in page.text and "a" * 11 not in page.text
    assert "first …" in page.text and "second" not in page.text


def test_filters_keep_each_other() -> None:
    page = Page(html.index_page("en", index_view(filter="lost", text="a&b")))
    hrefs = page.values("href")
    assert "/?text=a%26b" in hrefs and "/?status=failure&text=a%26b" in hrefs
    chosen = [a["href"] for a in page.all("a", aria_current="true")]
    assert chosen == ["/?status=lost&text=a%26b"]
    assert page.all("input", name="status", value="lost")


def test_pages_of_the_list() -> None:
    page = Page(html.index_page("en", index_view(newer="/")))
    assert page.all("a", rel="next", href="/?before=9") and page.all("a", rel="prev")
    assert not page.all("svg", role="group"), "the last builds are those of the first page"
    assert not Page(html.index_page("en", index_view(older=None, newer=None))).all("a", rel="next")


def test_without_builds_there_is_the_line_that_makes_one(tmp_path: Path) -> None:
    where = context(url="http://127.0.0.1:8000", user=None)
    form = FormView("HEAD", "echo 'it'\n# $x &")
    view = index_view(context=where, builds=[], last=[], filter=None, text=None, form=form)
    page = Page(html.index_page("en", view))
    line = next(text for text in page.texts if text.startswith("curl "))
    (tmp_path / "curl").write_text('#!/bin/sh\nfor each; do printf "%s\\0" "$each"; done\n')
    (tmp_path / "curl").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    given = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True).stdout
    assert given.split("\0")[:-1] == [
        "http://127.0.0.1:8000/api/builds",
        "--data-urlencode",
        "commit=HEAD",
        "--data-urlencode",
        "command=echo 'it'\n# $x &",
    ]
    assert not page.all("table")


def test_without_agents_there_is_the_command_that_starts_one() -> None:
    alone = context(agents_total=0, start_agent_command="python3 -m minici.agent here.ini")
    for view in (
        html.index_page("en", index_view(context=alone)),
        html.agents_page("en", AgentsView(alone, [])),
    ):
        assert "No agent is connected" in view and "python3 -m minici.agent here.ini" in view
    assert "No agent is connected" not in html.index_page("en", index_view())


def test_nothing_matches_a_filter() -> None:
    page = Page(html.index_page("en", index_view(builds=[], filter="lost", older=None)))
    assert "No build matches" in page.text and "curl" not in page.text
    assert "Look further" not in page.text


def test_nothing_matches_among_the_builds_that_were_looked_at() -> None:
    page = Page(html.index_page("en", index_view(builds=[], filter="lost", older="/?before=9")))
    assert "None of the latest" in page.text
    assert page.all("a", class_="button", href="/?before=9")
    assert not page.all("a", rel="next"), "the same link twice"


def test_what_is_broken_is_said_first() -> None:
    page = Page(html.index_page("en", index_view()))
    assert "Branches · 1 of 3 broken" in page.text
    broken = page.text.index("the project / the branch_failure")
    assert broken < page.text.index("the branch_success")
    said = page.text[broken : broken + 200]
    assert "Broken 36 s ago: Build 4 0123456789 the subject the author" in said
    assert "usually 1 m 07 s, last 1 m 10 s" in page.text
    assert "/?branch=the+branch_failure" in page.values("href")
    assert "/build/4" in page.values("href") and page.all("svg", class_="branch-strip")


def test_a_project_whose_branches_are_all_broken_has_no_empty_section() -> None:
    projects = [
        ProjectView("tides", [branch_view("failure")]),
        ProjectView("moon", [branch_view("success")]),
    ]
    page = Page(html.index_page("en", index_view(overview=projects, builds=[])))
    assert len(page.all("h4")) == 1 and "tides / the branch_failure" in page.text
    assert page.values("href").count("/?project=tides") == 1


def test_the_links_of_a_list_keep_its_project_and_branch() -> None:
    narrowed = {"project": "tides", "branch": "a&b", "filter": "lost", "text": "x"}
    links = Page(html.index_page("en", index_view(looks=True, **narrowed))).values("href")
    for path in ("/feed.atom", "/badge.svg"):
        assert f"{path}?project=tides&branch=a%26b" in links
    assert "/?status=queued&text=x&project=tides&branch=a%26b" in links
    assert "/?status=lost&text=x&branch=a%26b" in links and "/cc.xml" in links


@pytest.mark.parametrize("changes", [{"overview": []}, {"branch": "b"}, {"filter": "lost"}])
def test_the_branches_are_on_the_whole_list_only(changes: dict[str, Any]) -> None:
    assert "Branches" not in Page(html.index_page("en", index_view(**changes))).text


def test_the_list_says_what_has_started_a_build() -> None:
    push = build_json(12, "success", commit="main", ref="refs/heads/main", event="push")
    page = Page(html.index_page("en", index_view(builds=[push])))
    assert "0123456789 the subject main the command" in page.text, "the branch is said once"
    assert "the started_by · push · rebuild of 3" in page.text
    typed = {**push, "ref": None, "event": "manual", "rebuild_of": None, "started_by": None}
    page = Page(html.index_page("en", index_view(builds=[typed], overview=[])))
    assert "main 0123456789 the subject the command" in page.text and "push" not in page.text


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "event, ref, said, address",
    [
        ("push", "refs/heads/a&b", "push to a&b", "branch=a%26b"),
        ("tag", "refs/tags/v1", "tag v1", "text=v1"),
    ],
)
def test_a_builds_page_leads_to_the_lists_of_its_project_and_ref(
    event: str, ref: str, said: str, address: str, several: bool
) -> None:
    """With one project, nothing on the page speaks of it."""
    push = build_json(12, "success", event=event, ref=ref, commit=short_ref(ref), project="tides")
    where = dataclasses.replace(context(), several_projects=several)
    page = Page(html.build_page("en", build_view(push, context=where)))
    links = [each for each in page.values("href") if each.startswith("/?")]
    assert said in page.text
    if several:
        assert "Builds / tides / 12" in page.text
        assert sorted(map(parts, links)) == sorted([{"project=tides"}, {address, "project=tides"}])
    else:
        assert links == [f"/?{address}"] and "tides" not in page.text


def parts(address: str) -> set[str]:
    """The parameters of an address."""
    return set(address.partition("?")[2].split("&"))


def test_all_queued_builds_of_a_filter_can_be_cancelled_at_once() -> None:
    page = Page(html.index_page("en", index_view(filter="queued", project="p", cancellable=7)))
    assert page.all("form", action="/cancel") and "Cancel all 7 queued builds" in page.text
    assert page.all("input", type="hidden", name="project", value="p")
    assert not Page(html.index_page("en", index_view())).all("form", action="/cancel")


def test_the_strip_says_what_it_shows() -> None:
    page = Page(html.index_page("en", index_view(overview=[])))
    picture = page.all("svg", role="group")[0]
    counts = "1 queued, 1 running, 1 succeeded, 1 failed, 1 lost, 1 cancelled, 1 damaged"
    assert f"The last 7 builds: {counts}. Height is duration." in page.text
    assert "1 failed" in str(picture["aria-label"]) and "1 succeeded" in str(picture["aria-label"])
    links = [url for url in page.values("href") if url.startswith("/build/")]
    assert links[: len(index_view().last)] == [f"/build/{b['id']}" for b in index_view().last]
    bars = page.all("rect", class_="body")
    assert len(bars) == len(index_view().last)
    heights = [float(str(bar["height"])) for bar in bars]
    assert all(4 <= height <= 44 for height in heights)
    assert (
        Page(html.index_page("en", index_view(last=[], overview=[]))).all("svg", role="group") == []
    )
    many = [build_json(n, "success") for n in range(200, 1, -1)]
    assert (
        len(
            Page(html.index_page("en", index_view(last=many, overview=[]))).all(
                "rect", class_="body"
            )
        )
        == 60
    )


def test_the_line_above_the_list() -> None:
    page = Page(html.index_page("en", index_view()))
    line = "2 agents, 1 of 3 slots free · 2 builds waiting · longest wait 1 m 24 s"
    assert line in page.text
    missing = index_view(context=context(agents_gone=3, queued=0))
    assert "1 of 3 slots free, 3 gone · queue empty" in Page(html.index_page("en", missing)).text


# A build


ON = " on agent the agent"
BARE = {"attempt": 1, "agent": None}
VERDICTS: list[tuple[str, dict[str, object], str]] = [
    ("success", {}, f"Success in 1 m 04 s{ON}, attempt 2 of 3"),
    ("failure", {"reason": None}, f"Failure: exit status 2 after 1 m 04 s{ON}, attempt 2 of 3"),
    ("failure", {}, f"Failure{ON}, attempt 2 of 3: the reason"),
    (
        "failure",
        {"reason": "exit status 2", "attempt": 1},
        f"Failure: exit status 2 after 1 m 04 s{ON}",
    ),
    (
        "failure",
        {"exit_status": -9, "reason": None, "attempt": 1},
        f"Failure: killed by SIGKILL after 1 m 04 s{ON}",
    ),
    (
        "failure",
        {"exit_status": -200, "reason": None, "attempt": 1},
        f"Failure: killed by signal 200 after 1 m 04 s{ON}",
    ),
    ("failure", {"exit_status": None, "reason": "no commit x.", **BARE}, "Failure: no commit x"),
    ("failure", {"exit_status": None, "reason": None, **BARE}, "Failure"),
    ("running", {}, f"Running for 1 m 40 s{ON}, attempt 2 of 3"),
    ("running", {"attempt": 7}, f"Running for 1 m 40 s{ON}, attempt 7"),
    ("running", {"cancel_requested": True, "attempt": 1}, f"Being cancelled{ON}"),
    ("lost", {}, "Lost after 2 attempts"),
    ("cancelled", {}, "Cancelled by the cancelled_by after 1 m 04 s"),
    ("cancelled", {"cancelled_by": None, "started_at": None}, "Cancelled"),
]


@pytest.mark.parametrize("status, changes, sentence", VERDICTS)
def test_the_verdict(status: str, changes: dict[str, Any], sentence: str) -> None:
    view = build_view(build_json(12, status, **changes))
    assert verdict_sentence(Translator("en"), view).replace("\u00a0", " ") == sentence
    page = Page(html.build_page("en", view))
    assert sentence in page.text
    assert page.text.count("12 " + sentence) == 1, "the title of the tab"


@pytest.mark.parametrize(
    "waiting, sentence",
    [
        (None, "Queued"),
        (Waiting(3, 2), "Queued: no. 3 in queue"),
        (Waiting(1, 2), "Queued: it is next"),
        (Waiting(1, 0), "Queued: no agent is connected"),
        (Waiting(1, 2, blocked=True), "Queued: no agent can take it now"),
    ],
)
def test_the_verdict_of_a_queued_build(waiting: Optional[Waiting], sentence: str) -> None:
    view = build_view(build_json(12, "queued"), waiting=waiting)
    assert verdict_sentence(Translator("en"), view) == sentence


def test_a_queued_build_says_why_it_waits() -> None:
    assert "the start_agent_command" in english_build("queued", waiting=Waiting(1, 0)).text
    reason = Reason("wait_label_missing", labels="arm64")
    waiting = Waiting(1, 2, reason, blocked=True)
    assert f"N{reason[1:]}." in english_build("queued", waiting=waiting).text
    russian = Page(html.build_page("ru", build_view(build_json(12, "queued"), waiting=waiting)))
    assert "Метки arm64 нет ни у одного агента" in russian.text


def test_the_verdict_in_russian() -> None:
    translate = Translator("ru")

    def said(status: str, **changes: Any) -> str:
        view = build_view(build_json(12, status, **changes))
        return verdict_sentence(translate, view).replace("\u00a0", " ")

    assert said("failure", reason=None, agent="b") == (
        "Неуспешно: код выхода 2 через 1 мин 04 с на агенте b, попытка 2 из 3"
    )
    assert said("success", attempt=1, agent="b") == "Успешно за 1 мин 04 с на агенте b"
    assert said("lost") == "Потеряна после 2 попыток"


def test_a_long_reason_is_whole_below_the_verdict() -> None:
    reason = "x" * 500
    page = english_build("failure", exit_status=None, reason=reason)
    assert "X" + reason[1:] + "." in page.text and "x" * 140 + "…" in page.text
    nothing = {"exit_status": None, "output": (), "stdout_bytes": 0, "stderr_bytes": 0}
    short = english_build("failure", reason="no such commit", **nothing, dropped_bytes=0)
    assert short.text.count("no such commit") == 2, "in the title and in the verdict, nowhere else"


def test_everything_about_a_build_is_shown() -> None:
    text = english_build("failure").text
    for each in (
        "the commit", "0123456789abcdef0123456789abcdef01234567", "the subject", "the author",
        "the command", "the repository", "24 Nov 2026, 02:28:16 UTC", "24 Nov 2026, 02:28:20 UTC",
        "24 Nov 2026, 02:29:24 UTC", "1 m 04 s", "the agent", "the reason", "2.0 KB", "10 B", "5 B",
        "Rebuild of build3", "the started_by",
    ):  # fmt: skip
        assert each in text, each


def test_every_attempt_is_shown_with_its_output() -> None:
    page = english_build("failure")
    assert "the attempt_reason" in page.text and "the agent is gone" not in page.text, "said once"
    assert "/build/12?attempt=1#output" in page.values("href")
    assert "/build/12?attempt=2#output" not in page.values("href")
    earlier = english_build("failure", shown_attempt=1)
    assert "Output of attempt 1" in earlier.text
    assert "/build/12/stderr?attempt=1" in earlier.values("href")


@pytest.mark.parametrize(
    "ending",
    [None, "finished", "refused", "returned", "silent", "forgotten", "overdue", "unanswered"]
    + ["superseded", "cancelled"],
)
def test_how_an_attempt_ended_is_said_in_words(ending: Optional[str]) -> None:
    attempt = {"attempt": 1, "agent": "a", "started_at": iso(9), "ending": ending, "reason": None}
    translate = Translator("ru")(f"ending_{ending or 'open'}")
    attempts = [attempt, {**attempt, "attempt": 2, "ending": "returned"}]
    view = build_view(build_json(12, "running", attempts=attempts, attempt=1))
    assert translate in Page(html.build_page("ru", view)).text


def test_buttons() -> None:
    def actions(page: Page) -> set[str]:
        return {str(form["action"]).rsplit("/", 1)[1] for form in page.all("form", method="post")}

    assert actions(english_build("running")) == {"cancel", "rebuild"}
    assert actions(english_build("queued")) == {"cancel", "rebuild"}
    assert actions(english_build("success")) == {"rebuild"}
    assert actions(english_build("running", cancel_requested=True)) == {"rebuild"}
    others = [form for form in english_build("running").all("form") if form["method"] != "post"]
    assert [form["id"] for form in others] == ["search"], "only what changes nothing"


def test_neighbours() -> None:
    page = english_build("success")
    assert page.all("a", rel="prev", href="/build/11") and page.all(
        "a", rel="next", href="/build/13"
    )
    assert not english_build("success", previous=None).all("a", rel="prev")


@pytest.mark.parametrize("status", STATUSES)
def test_an_unfinished_page_renews_itself_without_javascript(status: str) -> None:
    view = build_view(build_json(12, status))
    renewing = '<noscript><meta http-equiv="refresh" content="5"></noscript>'
    page = html.build_page("en", view)
    assert (renewing in page) == (status in ("queued", "running"))
    assert ("data-final" in page) == (status not in ("queued", "running"))


def test_the_output_with_its_numbers_marks_and_links() -> None:
    page = english_build("failure", first_line=41, earlier="/build/12?at=0", later="/build/12?at=9")
    assert [a.get("href") for a in page.all("a", class_="n")] == ["#L41", "#L42"]
    assert page.all("div", class_="line stdout", id="L41")
    assert page.all("div", class_="line stderr", id="L42")
    hrefs = page.values("href")
    assert {"/build/12?at=0", "/build/12?at=9", "/build/12/output", "/build/12/stdout"} <= set(
        hrefs
    )
    assert "0.5" in page.texts and "1.2" in page.texts
    assert "5 bytes were dropped" in page.text


def test_a_failure_and_its_exit_status_are_said_once() -> None:
    text = english_build("failure", reason="exit status 2", attempt=1, attempts=[]).text
    assert "12 Failure: exit status 2 after" in text, "the title of the tab"
    body = text.partition("Skip to content")[2].replace("Build 12: Failure", "")
    assert body.count("Failure") == 1 and body.count("xit status") == 1
    assert "End of the output" in body


def test_one_attempt_that_ended_with_its_build_is_not_told_apart() -> None:
    attempt = {"attempt": 1, "agent": "a", "started_at": iso(9), "ending": "finished"}
    page = english_build("success", attempts=[attempt], attempt=1)
    assert not page.all("ol", class_="attempts")
    silent = {**attempt, "ending": "silent"}
    assert english_build("lost", attempts=[silent], attempt=1).all("ol", class_="attempts")


def test_a_checkout_that_failed_has_no_empty_log_below_it() -> None:
    def output(status: str, **changes: Any) -> dict[str, Optional[str]]:
        (section,) = english_build(status, **changes).all("section", id="output")
        return section

    nothing = {"kept": (0, 0, 0), "output": (), "exit_status": 128}
    assert "hidden" in output("failure", checkout="fatal: no such commit", **nothing)
    assert "hidden" not in output("failure", **nothing), "an agent that tells nothing of it"
    assert "hidden" not in output("running", checkout="Fetching", **nothing)
    assert "hidden" not in output("failure", checkout="x", kept=(5, 0, 0))


def test_where_there_is_no_output_nothing_is_searched() -> None:
    for status, bare in (("success", True), ("running", False)):
        (section,) = english_build(status, kept=(0, 0, 0)).all("section", id="output")
        assert ("data-bare" in section) == bare


def test_no_output_is_said_in_words() -> None:
    nothing = {"output": (), "stdout_bytes": 0, "stderr_bytes": 0}
    assert "The command wrote nothing." in english_build("success", **nothing).text
    assert "No output yet." in english_build("running", **nothing).text
    assert "once the build begins" in english_build("queued", **nothing).text
    failed = english_build("failure", reason="exit status 2", **nothing, dropped_bytes=0)
    assert "The command wrote nothing." in failed.text and "End of" not in failed.text
    lost = english_build("lost", **nothing)
    assert "There is no output." in lost.text and "wrote nothing" not in lost.text


def test_the_exit_status_is_the_last_line_of_the_log() -> None:
    assert re.search(r"the stderr Exit status 2", english_build("failure").text)
    assert re.search(r"the stderr Exit status 0", english_build("success").text)
    assert "Killed by SIGTERM" in english_build("cancelled").text
    log_end = "log-end-"
    running = html.build_page("en", build_view(build_json(12, "running")))
    assert log_end not in running
    part = html.build_page("en", build_view(build_json(12, "failure"), later="/build/12?at=9"))
    assert log_end not in part, "the end is on a later part"


def test_the_first_failing_line_is_a_link() -> None:
    page = english_build("failure", failures=(7, 9))
    assert "First failure: line 7" in page.text and "#L7" in page.values("href")
    (section,) = page.all("section", id="output")
    assert section["data-failures"] == "7 9"
    part = english_build("failure", failures=(7,), later="/build/12?at=9")
    assert "/build/12?line=7#L7" in part.values("href")
    assert "First failure" not in english_build("failure", failures=()).text


def test_a_damaged_build_has_a_page() -> None:
    page = Page(html.build_page("en", build_view({"id": 12, "damaged": "cut short"}, output=())))
    assert "The record of this build is damaged" in page.text and "cut short" in page.text
    assert "builds/12" in page.text and not page.all("form")


def test_a_record_with_nothing_in_it_has_a_page() -> None:
    for language in LANGUAGES:
        Page(html.build_page(language, build_view({"id": 1, "status": "running"})))
        Page(html.index_page(language, index_view(builds=[{"id": 1, "status": "success"}])))


def test_how_to_repeat_a_build_by_hand_works(tmp_path: Path) -> None:
    origin = tmp_path / "re po"
    origin.mkdir()

    def git(*translate: str) -> str:
        done = subprocess.run(["git", *translate], cwd=origin, check=True, capture_output=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    git(*who, "commit", "-q", "--allow-empty", "-m", "one")
    revision = git("rev-parse", "HEAD")
    git(*who, "commit", "-q", "--allow-empty", "-m", "two")
    command = "git rev-parse HEAD > 'o u t'\necho \"$CI\" >> 'o u t'"
    build = build_json(12, "success", repository=str(origin), revision=revision, command=command)
    lines = repeat_lines(build)
    subprocess.run(["sh", "-e", "-c", lines], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "build-12" / "o u t").read_text() == f"{revision}\ntrue\n"


# Agents and errors


def test_the_agents() -> None:
    page = Page(html.agents_page("en", agents_view()))
    for text in ("Ready", "Busy", "Gone", "Refusing", "the agent_name", "the agent_address"):
        assert text in page.text
    assert "1 / 2" in page.text and "/build/7" in page.values("href")
    assert "the running_commit 30 s" in page.text and "just now" in page.text
    assert len(page.all("form", action="/agents/forget")) == 1, "only one that is gone"
    assert page.all("input", name="address", value="the agent_address")


def test_agents_show_their_labels_and_a_pause() -> None:
    page = Page(html.agents_page("en", agents_view()))
    assert "Paused" in page.text and "the agent_label" in page.text and "linux" in page.text
    assert len(page.all("form", action="/agents/pause")) == 3
    assert len(page.all("form", action="/agents/resume")) == 2, "one is gone, and stays paused"
    assert page.all("input", name="agent", value="the agent_address paused")
    gone = dataclasses.replace(agents_view().agents[2], paused=False)
    page = Page(html.agents_page("en", agents_view(agents=[gone])))
    assert not page.all("form", action="/agents/pause"), "it gets no builds anyway"
    view = index_view(context=context(agents_paused=2))
    assert "2 paused" in Page(html.index_page("en", view)).text


def drawn(page: Page, part: str) -> list[str]:
    return [str(path["d"]) for path in page.all("path", class_=part)]


def test_a_day_is_drawn_and_told() -> None:
    page = Page(html.agents_page("en", agents_view()))
    told = {str(svg["aria-label"]).replace("\u00a0", " ") for svg in page.all("svg", class_="day")}
    assert told == {"Last 24 hours: connected for 22 h 30 m, 13% busy, gone for 30 m 00 s"}
    assert drawn(page, "here")[0] == "M8 1H88V22H8zM92 1H192V22H92z", "one stroke each"
    assert drawn(page, "busy")[0] == "M144 12H192V22H144z"
    assert drawn(page, "gone")[0] == "M88 11H92"


def test_an_agent_that_is_gone_says_since_when_and_why() -> None:
    for language, lost in (("en", "lost 3 min ago"), ("ru", "пропал 3 мин назад")):
        page = Page(html.agents_page(language, agents_view()))
        assert f"{lost}the agent_note" in page.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 418, 421, 500, 502, 503])
def test_an_error_says_what_to_do(status: int) -> None:
    for language in LANGUAGES:
        page = Page(html.error_page(language, status, "more of it"))
        assert str(status) in page.text and "More of it." in page.text
        assert "/" in page.values("href")
    advices = {html.error_page("en", each).split("advice")[1] for each in (400, 401, 403, 404, 421)}
    assert len(advices) == 5


def test_an_error_without_a_site_tells_nothing_about_the_server() -> None:
    page = html.error_page("en", 401)
    assert "the context_repository" not in page and "the user" not in page
    assert "the context_repository" in html.error_page("en", 404, "", context())


def test_an_error_may_name_a_text() -> None:
    assert "Очередь полна" in html.error_page("ru", 503, "error_queue_full")


def test_an_error_does_not_say_the_same_twice() -> None:
    page = html.error_page("en", 404, "there is no such page")
    assert page.count("here is no such page") == 2, "in the title of the tab and in the heading"


def test_views_are_values() -> None:
    for view in (context(), index_view(), FormView(), Waiting(1, 1)):
        assert dataclasses.is_dataclass(view)
        with pytest.raises(dataclasses.FrozenInstanceError):
            view.anything = 1  # type: ignore[union-attr]
    assert isinstance(index_view(), IndexView)
    assert asset("style.css").startswith("/static/style.css?v=")


def test_fault_62_damaged_output_is_said_on_the_page() -> None:
    text = "The files of this output are damaged: some reason. What can be read is shown."
    assert text in english_build("failure", damage="some reason").text
    assert text not in english_build("failure").text


def test_rule_21_trouble_is_shown_beside_the_agent() -> None:
    agent = AgentView(
        "a",
        "h:1",
        1,
        "trouble",
        trouble="the disk is full",
        mirrors_bytes=3 << 30,
        workspaces_bytes=512,
    )
    page = Page(html.agents_page("en", AgentsView(context(), [agent])))
    assert "In trouble" in page.text and "the disk is full" in page.text
    assert "mirrors 3.0 GB, workspaces 512 B" in page.text.replace("\u00a0", " ")


def test_agents_without_sizes_show_none() -> None:
    assert "mirrors" not in Page(html.agents_page("en", agents_view())).text


@pytest.mark.parametrize(
    "endings, attempt, sentence",
    [
        ([], 1, ""),
        (["silent"], 2, ""),
        (
            ["returned"],
            2,
            "Attempt 2: 1 earlier attempt was returned by an agent that stopped or could not work; "
            "this does not count.",
        ),
        (["refused", "refused"], 3, "Attempt 3: 2 were refused by agents; this does not count."),
        (["silent"], 14, "12 were refused by agents; this does not count; 1 lost its agent"),
        (["returned", "returned", "silent"], 4, "2 earlier attempts were returned by agents"),
    ],
)
def test_fault_70_attempts_that_do_not_count(
    endings: list[str], attempt: int, sentence: str
) -> None:
    attempts = [{"attempt": n, "ending": ending} for n, ending in enumerate(endings, 1)]
    attempts.append({"attempt": attempt, "ending": None})
    build = build_json(12, "running", attempts=attempts, attempt=attempt)
    said = uncounted_sentence(Translator("en"), build)
    assert sentence in said and bool(sentence) == bool(said)


@pytest.mark.parametrize(
    "status, changes, unfolded",
    [
        ("running", {"kept": (0, 0, 0)}, True),
        ("running", {"kept": (0, 1, 0)}, False),
        ("success", {"kept": (0, 0, 0)}, False),
        ("failure", {"kept": (0, 0, 0)}, True),
        ("lost", {"kept": (0, 0, 0)}, True),
        ("lost", {"kept": (5, 0, 0)}, False),
    ],
)
def test_fault_56_the_checkout_is_folded_once_the_command_has_begun(
    status: str, changes: dict[str, Any], unfolded: bool
) -> None:
    page = english_build(status, checkout="\x1b[1mone\x1b[m\n 1%\r 2%\r", **changes)
    (section,) = page.all("details", id="checkout")
    assert ("open" in section) == unfolded and "hidden" not in section
    assert page.all("div", id="C2") and " 2%" in page.text and " 1%" not in page.text
    assert page.all("a", href="/build/12/checkout")
    assert "hidden" in english_build(status, **changes).all("details", id="checkout")[0]


def test_a_failed_command_without_output_folds_the_checkout() -> None:
    build = build_json(12, "failure", reason="exit status 2")
    view = build_view(build, checkout="x", kept=(0, 0, 0))
    assert "open" not in Page(html.build_page("en", view)).all("details", id="checkout")[0]
