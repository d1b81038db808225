"""``python -m webapp.texts``: bring the .po files in step with the texts in code and templates.

New texts are added untranslated (the tests name them), texts no longer used are dropped. In English the text is its own
translation.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from .app import TRANSLATIONS
from .config import LANGUAGES

_METHODS = [("templates/**.html", "jinja2"), ("templates/**.svg", "jinja2"), ("**.py", "python")]
_OPTIONS = {
    "templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false", "encoding": "utf-8"}
}
_KEYWORDS = {"_": None, "gettext": None, "lazy_gettext": None, "ngettext": (1, 2), "sentence": None}


def texts() -> Catalog:
    """Every text that pages show, as code and templates have them."""
    catalogue = Catalog(charset="utf-8")
    found = extract_from_dir(str(Path(__file__).parent), _METHODS, _OPTIONS, keywords=_KEYWORDS)
    for filename, _line, message, _comments, _context in found:
        catalogue.add(message, None, [(filename, 0)])
    return catalogue


def update(language: str) -> Catalog:
    """The language's catalogue with exactly the texts of today."""
    path = TRANSLATIONS / f"{language}.po"
    catalogue = Catalog(locale=language, charset="utf-8")
    if path.exists():
        with path.open("rb") as file:
            catalogue = read_po(file, locale=language)
    catalogue.update(texts(), no_fuzzy_matching=True, update_creation_date=False)
    catalogue.obsolete.clear()
    catalogue.project, catalogue.version, catalogue.header_comment, catalogue.fuzzy = "Wattmark", "1", "", False
    catalogue.last_translator = catalogue.language_team = catalogue.msgid_bugs_address = catalogue.copyright_holder = (
        "Wattmark"
    )
    catalogue.creation_date = catalogue.revision_date = datetime(2026, 1, 1, tzinfo=UTC)
    if language == "en":
        for message in catalogue:
            if message.id:
                message.string = message.id
    return catalogue


def write(language: str, catalogue: Catalog) -> None:
    with (TRANSLATIONS / f"{language}.po").open("wb") as file:
        write_po(file, catalogue, sort_output=True, width=140, include_lineno=False)


def main() -> None:
    for language in LANGUAGES:
        catalogue = update(language)
        write(language, catalogue)
        missing = [m.id for m in catalogue if m.id and not (all(m.string) if isinstance(m.string, tuple) else m.string)]
        print(f"{language}: {len(catalogue)} texts, {len(missing)} without a translation")


if __name__ == "__main__":
    main()
