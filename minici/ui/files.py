"""The files of a build on its page: what was kept, and what was left out."""

from __future__ import annotations

from urllib.parse import quote

from minici.ui.i18n import Translator
from minici.ui.markup import NOTHING, Html, fill, join, markup
from minici.ui.models import BuildView, FilesView
from minici.ui.reasons import reason_text


def files_section(translate: Translator, view: BuildView) -> Html:
    """The files of a build, each with a link; nothing where there are none."""
    files = view.files
    if files is None:
        return NOTHING
    number = view.build.get("id")
    return fill(
        "files",
        translate,
        archive=_archive(translate, number, files),
        files=_files(translate, number, files),
        left_out=_left_out(translate, files),
    )


def _archive(translate: Translator, number: object, files: FilesView) -> Html:
    if not files.count:
        return NOTHING
    return markup(
        '<span class="files-sum">$count, $size</span>'
        '<a href="/build/$id/files.tar" download>$text</a>',
        id=number,
        count=translate("file_count", n=files.count),
        size=translate.size(files.size),
        text=translate("files_archive"),
    )


def _files(translate: Translator, number: object, files: FilesView) -> Html:
    if not files.shown:
        return NOTHING
    rows = join(_file(translate, number, path, size) for path, size in files.shown)
    more = files.count - len(files.shown)
    text = translate("files_more", n=more) if more else ""
    return markup("<ul>$rows</ul>$more", rows=rows, more=_more(text))


def _file(translate: Translator, number: object, path: str, size: int) -> Html:
    folder, slash, name = path.rpartition("/")
    return markup(
        '<li><a href="/build/$id/files/$address" download>'
        '<span class="file-folder">$folder</span>$name</a>'
        '<span class="file-size">$size</span></li>\n',
        id=number,
        address=quote(path),
        folder=folder + slash,
        name=name,
        size=translate.size(size),
    )


def _left_out(translate: Translator, files: FilesView) -> Html:
    if not files.left_count:
        return NOTHING
    rows = join(
        markup(
            '<li><code>$path</code><span class="file-reason">$reason</span></li>\n',
            path=path,
            reason=reason_text(translate, reason),
        )
        for path, reason in files.left_out
    )
    more = files.left_count - len(files.left_out)
    return markup(
        "<h3>$title</h3><ul>$rows</ul>$more",
        title=translate("files_left_out"),
        rows=rows,
        more=_more(translate("files_left_more", n=more) if more > 0 else ""),
    )


def _more(text: str) -> Html:
    return markup('<p class="files-more">$text</p>', text=text) if text else NOTHING
