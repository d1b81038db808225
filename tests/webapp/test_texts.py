"""All texts exist in all languages, and figures and dates follow the reader."""

from __future__ import annotations

import re
from datetime import date

import pytest

from webapp import words
from webapp.app import TRANSLATIONS, catalogue_of
from webapp.charts import calendar, day_chart
from webapp.config import LANGUAGES
from webapp.texts import read_po, texts

PLACE = re.compile(r"%\(\w+\)[sd]")


def faults(language: str) -> list[str]:
    """What is missing, fuzzy, left over or has other placeholders in a language's file."""
    with (TRANSLATIONS / f"{language}.po").open("rb") as file:
        return catalogue_faults(read_po(file, locale=language), texts())


def catalogue_faults(catalogue, wanted) -> list[str]:
    found = []
    known = {message.id: message for message in catalogue if message.id}
    for message in wanted:
        if not message.id:
            continue
        translated = known.get(message.id)
        if translated is None:
            found.append(f"missing: {message.id}")
            continue
        forms = translated.string if isinstance(translated.string, tuple) else (translated.string,)
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        if (
            translated.fuzzy
            or not all(forms)
            or (isinstance(message.id, tuple) and len(forms) != catalogue.num_plurals)
        ):
            found.append(f"untranslated: {message.id}")
        for form in forms:
            if set(PLACE.findall(form or "")) != set(PLACE.findall(ids[-1])):
                found.append(f"placeholders: {message.id}")
    found += [f"left over: {key}" for key in known if key not in {message.id for message in wanted}]
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_of_each_language_are_complete(language):
    assert faults(language) == []


def test_texts_checker_finds_what_is_planted():
    with (TRANSLATIONS / "es.po").open("rb") as file:
        catalogue = read_po(file, locale="es")
    wanted = texts()
    wanted.add("A text nobody translated")
    catalogue["Verified"].string = ""
    catalogue["Revoked"].flags.add("fuzzy")
    catalogue["block %(block)s"].string = "bloque"
    catalogue.add("Gone", "Ido")
    found = catalogue_faults(catalogue, wanted)
    assert sorted(f.split(":")[0] for f in found) == [
        "left over",
        "missing",
        "placeholders",
        "untranslated",
        "untranslated",
    ]


def test_texts_of_other_languages_are_not_english():
    english = {m for m in catalogue_of("en")._catalog.values() if isinstance(m, str) and len(m) > 25}
    for language in ("es", "ru"):
        same = [m for m in catalogue_of(language)._catalog.values() if m in english]
        assert not same, same[:5]


#: Words that would name by a second name what the other texts of a language call otherwise: chain, to notarize, kWh.
SECOND_NAMES = {
    "ru": r"заверен|Вт·ч|\bцеп(?:ь|и|очк)",
    "es": r"certificaci[oó]n notarial|blockchain|kW·h",
    "en": r"blockchain|attest",
}
#: A chain of batches is no network.
CHAINS_OF_BATCHES = {"Head of the chain of batches", "Final: chained, certificates can be issued from it"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_have_one_name_for_one_thing(language):
    texts = {key: text for key, text in catalogue_of(language)._catalog.items() if key not in CHAINS_OF_BATCHES}
    assert [
        text for text in texts.values() if isinstance(text, str) and re.search(SECOND_NAMES[language], text, re.I)
    ] == []


def test_verdict_words_differ_in_every_language(app):
    for language in ("en", "es", "ru"):
        with app.test_request_context(f"/?lang={language}"):
            shown = [str(word) for word in words.VERDICTS.values()]
            assert len(set(shown)) == len(shown) == 7
    looks = [words.STYLES[v] for v in words.VERDICTS]
    assert len({icon for _, icon in looks}) == 7
    assert words.STYLES["cannot check"][0] != words.STYLES["not found"][0]


@pytest.mark.parametrize(("language", "figure", "date"), [
    ("en", "1,234.567", "14 July 2016"), ("es", "1.234,567", "14 de julio de 2016"), ("ru", "1 234,567", "14 июля 2016 г."),
])  # fmt: skip
def test_figures_and_dates_follow_the_language(app, language, figure, date):
    with app.test_request_context(f"/?lang={language}"):
        # CLDR separates with spaces that do not break; which of them is its business.
        assert re.sub(r"\s", " ", words.kwh(1_234_567)) == figure
        assert re.sub(r"\s", " ", words.day(1_468_454_400)) == date
        assert words.utc(1_468_527_249) == "2016-07-14 20:14:09 UTC"


@pytest.mark.parametrize(
    ("language", "within", "alone"), [("es", "octubre 2016", "Octubre 2016"), ("ru", "октябрь 2016", "Октябрь 2016")]
)
def test_month_is_written_as_its_place_asks(app, language, within, alone):
    with app.test_request_context(f"/?lang={language}"):
        assert (words.month_of(date(2016, 10, 1)), words.month(date(2016, 10, 1))) == (within, alone)


def test_language_is_kept_in_a_cookie(client):
    assert client.get("/?lang=ru").headers["Content-Type"].startswith("text/html")
    assert '<html lang="ru">' in client.get("/devices").text
    assert '<html lang="es">' in client.get("/devices?lang=es").text
    fresh = client.application.test_client()
    assert '<html lang="es">' in fresh.get("/", headers={"Accept-Language": "es-MX,es;q=0.9,en;q=0.5"}).text
    assert '<html lang="en">' in fresh.get("/", headers={"Accept-Language": "fr"}).text


def test_kwh_of_any_whole_wh_loses_nothing(app):
    with app.test_request_context("/?lang=en"):
        for wh in (0, 1, 999, 1_000, 25_410, 2**53 + 1, 2**63 - 1, -5):
            assert words.kwh(wh).replace(",", "").replace(".", "").lstrip("0-") == str(abs(wh)).lstrip("0"), wh


def test_tame_of_hostile_texts_keeps_the_words():
    assert words.tame("a\u202eb\x00c\u2066d") == "a b c d"
    assert words.tame("x" * 500) == "x" * 240 + "…"
    assert words.tame("Ñandú № 7 — 東京") == "Ñandú № 7 — 東京"


def test_day_chart_of_a_day_has_bars_as_tall_as_their_energy():
    chart = day_chart(1_467_331_200, [0, 100, 200, 0], [33, 33, 2, 0], None, width=400, height=200)
    heights = [bar.height for bar in chart.bars]
    assert heights[2] == pytest.approx(2 * heights[1], abs=0.02) and heights[0] == 0
    assert [bar.state for bar in chart.bars] == ["measured", "measured", "estimated", "missing"]
    assert chart.line == "" and chart.irradiance_ticks == ()
    assert chart.bars[1].time == "00:15"


def test_day_chart_of_gaps_in_the_irradiance_breaks_the_line():
    chart = day_chart(0, [1, 1, 1, 1], [33] * 4, [10, None, 20, 30], width=400, height=200)
    assert chart.line.count("M") == 2 and chart.line.count("L") == 1


def test_calendar_of_days_puts_each_under_its_weekday():
    july = calendar(
        [{"start": 1_467_331_200, "state": "final"}, {"start": 1_469_923_200, "state": "held"}]
    )  # 1st, a Friday; 31st, a Sunday
    [month] = july
    assert [cell and cell["date"].day for cell in month["weeks"][0]] == [None, None, None, None, 1, 2, 3]
    assert month["weeks"][0][4]["day"]["state"] == "final" and month["weeks"][-1][6]["day"]["state"] == "held"
    assert sum(1 for week in month["weeks"] for cell in week if cell) == 31


@pytest.mark.parametrize(
    ("wei", "shown"), [(None, "–"), (0, "0"), (1, "< 0.000001"), (88_735_062_453_789, "0.000089"), (10**19 + 10**12, "10.000001")]
)  # fmt: skip
def test_fee_in_lists_has_six_places_and_is_never_nothing(app, wei, shown):
    with app.test_request_context("/?lang=en"):
        assert words.brief_ether(wei) == shown
