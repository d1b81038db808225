"""Every sentence that a checker can say is among the texts to translate, and is told with its values in each language."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from oracle import vee
from oracle.domain import DayState
from oracle.store import DeviceDay, Store
from webapp import reasons

ROOT = Path(__file__).resolve().parents[2]
CHECKERS = ("oracle/checks.py", "oracle/verify.py", "webapp/pages/verify.py")
#: Begin like sentences and are no reasons: they refuse a file, or begin one that the tests see whole.
NO_REASONS = ("An unreadable signature", "Statement of device", "\nAll of this", "7, but that they")


def told(node: ast.expr) -> str | None:
    """A text with 7 in the place of every value; None for what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    return None


def said_by(path: str) -> set[str]:
    """The sentences that a module gives as reasons: whole arguments and values that end with a full stop."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    places: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Finding", "Refused", "ensure", "_with"):
            places += node.args
        elif isinstance(node, ast.Assign | ast.Return) and node.value is not None:
            places.append(node.value)
    found = {text for place in places if (text := told(place)) and text.endswith(".") and len(text) > 12}
    return {text for text in found if not text.startswith(NO_REASONS)}


@pytest.mark.parametrize("path", CHECKERS)
def test_reasons_of_each_checker_are_all_among_the_texts(app, path):
    said = said_by(path)
    assert len(said) > 10
    with app.test_request_context("/?lang=ru"):
        unknown = {text for text in said if reasons.language_of(text) == "en"}
        # What no placeholder stands for is told in letters of the language.
        latin = {text for text in said if not re.search("[а-я]", reasons.in_words(text))}
    assert unknown == set() and latin == set()


def test_in_words_of_a_nested_reason_keeps_every_value(app):
    reason = "Cannot check: ab.parquet is not readable (ArrowInvalid)."
    names = "2 of the 3 witnesses of epoch 1 signed, where 2 are enough: 0xAb, 0xCd."
    with app.test_request_context("/?lang=es"):
        assert reasons.in_words(reason) == "No se puede comprobar: ab.parquet no es legible (ArrowInvalid)."
        assert reasons.in_words(names).endswith("bastan 2: 0xAb, 0xCd.")
        assert reasons.in_words("The outcome retirement 4 is in block 12, and all statements behind it in their roots.").startswith("Objeto: retiro de resultados 4. Está en el bloque 12")  # fmt: skip
    with app.test_request_context("/?lang=en"):
        assert reasons.in_words(reason) == reason


@pytest.mark.parametrize(
    "reason", ["", "%(x)s %s {0}", "A sentence of another program", "The archive is damaged: %(evil)s."]
)
def test_in_words_of_anything_else_changes_nothing_it_does_not_know(app, reason):
    with app.test_request_context("/?lang=ru"):
        shown = reasons.in_words(reason)
        assert shown == reason or "%(evil)s" in shown


def test_page_in_another_language_tells_its_reasons_in_it(client, world, w):
    path = f"/checks/0x{world.archives[0].root.hex()}/1/{w.FIRST_DAY}"
    said = BeautifulSoup(client.get(f"{path}?lang=ru").data, "html.parser").select(".said")
    assert len(said) == 4 and all(part["lang"] == "ru" and re.search("[а-я]", part.get_text()) for part in said)
    english = BeautifulSoup(client.get(f"{path}?lang=en").data, "html.parser").select(".said")
    assert "witnesses signed" in english[3].get_text() and english[3]["lang"] == "en"


def held_because(path: str) -> set[str]:
    """The pieces of the reasons for which a module holds days: what joins the list of reasons or is returned as one."""
    places: list[ast.expr] = []
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            places += node.args if getattr(node.func.value, "id", "") == "reasons" else []
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Corroboration":
            places += [one for part in node.args if isinstance(part, ast.Tuple) for one in part.elts]
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            places += [one for part in node.value.elts if isinstance(part, ast.List) for one in part.elts]
    texts = {text for place in places if (text := told(place))}
    # The words of a rule are its own.
    return {piece for text in texts - {"7: 7 (7)"} for piece in text.split("; ")}


@pytest.mark.parametrize("path", ["oracle/assessment.py", "oracle/corroboration.py"])
def test_pieces_of_reasons_for_holding_a_day_are_all_among_the_texts(app, path):
    # Two values are words: what is compared with, and on which side a clock is wrong; the rest stays.
    words = {"is 7 of 7": "is 7 of the assumed performance", "7 min 7": "7 min late", "correlation 77": "correlation 7"}
    pieces = {
        functools.reduce(lambda text, word: text.replace(*word), words.items(), one) for one in held_because(path)
    }
    assert len(pieces) >= 3
    with app.test_request_context("/?lang=ru"):
        assert {piece for piece in pieces if not re.search("[а-я]", reasons.in_pieces(piece))} == set()


def further_reasons(path: str) -> set[str]:
    """The pieces of a module's reasons that begin with the word by which days are held, or that a balance gives."""
    nodes = list(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = {re.sub(" $", " 7", text) for node in nodes if id(node) not in parts and (text := told(node))}
    begins = re.compile(
        r"(missing|copied|conflict|untimely|drift|balance 7): .|(no readings|all meters|only 7|an earlier|its device) "
    )
    return {
        piece.replace("7 %", "7").strip() for text in texts if begins.match(text) for piece in text.split("; ") if piece
    }


@pytest.mark.parametrize(
    ("path", "least"), [("oracle/pipeline.py", 6), ("oracle/drift.py", 2), ("oracle/balance.py", 4)]
)
def test_further_reasons_for_holding_a_day_are_all_among_the_texts(app, path, least):
    pieces = further_reasons(path)
    assert len(pieces) >= least, pieces
    with app.test_request_context("/?lang=ru"):
        assert {piece for piece in pieces if reasons.language_of(piece) == "en"} == set()


def test_rules_and_their_figures_are_those_of_validation(app):
    assert {rule.name: rule.says for rule in vee.RULES} == reasons.RULES
    tree = ast.parse((ROOT / "oracle" / "vee.py").read_text(encoding="utf-8"))
    named = {
        told(key)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name.startswith("_of_")
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
    }
    assert named == set(reasons.FIGURES)
    effects = {effect.value for effect in vee.Effect}
    with app.test_request_context("/?lang=ru"):
        told_so = [reasons.in_words(text) for text in (*reasons.RULES.values(), *effects)]
        assert all(re.search("[а-я]", text) for text in told_so)


def test_in_pieces_tells_rules_and_figures_in_words(app):
    held = "suspect: 12 slots (frozen 8, spike 4); at most 4 may be; low: far below the device's usual day (day_wh 100, usual_wh 2000, percent 5)"
    with app.test_request_context("/?lang=es"):
        assert reasons.in_pieces(held) == (
            "sospechoso: 12 intervalos (el mismo valor una y otra vez: 8; muy por encima del tercero más alto del día: 4); "
            "puede haber a lo sumo 4; demasiado poco: muy por debajo del día habitual del dispositivo "
            "(el día, Wh: 100; un día habitual, Wh: 2000; por ciento de ello: 5)"
        )
        assert reasons.in_words("frozen 8, unheard 4") == "frozen 8, unheard 4"


def test_reasons_are_translated_before_they_are_cut(fresh_world, app_of, w, tmp_path):
    reason = "; ".join(["contradicted: correlation with irradiance is 0.39"] * 20)
    fresh_world.register(1)
    url = f"sqlite:///{tmp_path / 'oracle.db'}"
    store = Store.open(url)
    with store.session() as session:
        session.add(DeviceDay(
            device_id=1, start=w.FIRST_DAY, state=DayState.HELD, reason=reason, profile=w.day_record(1, w.FIRST_DAY).profile, energy_wh=0,
            evidence=[], assessment={},
        ))  # fmt: skip
    store.engine.dispose()
    client = app_of(fresh_world, oracle_database_url=url).test_client()
    for path in ("/devices/1?lang=ru", "/devices/1/2016-07?lang=ru"):
        content = client.get(path).text
        assert "корреляция с освещённостью" in content and "0,39" in content and "contrad" not in content, path


def test_in_pieces_tells_a_day_with_its_values_and_leaves_the_unknown(app):
    held = "incomplete: 27 of 96 slots have no reading; contradicted: correlation with irradiance is 0.39; at least 0.5 is needed (psm3, modelled)"
    with app.test_request_context("/?lang=es"):
        assert reasons.in_pieces(held) == (
            "incompleto: 27 de 96 intervalos no tienen lectura; contradicho: la correlación con la irradiancia es 0,39; "
            "se necesita al menos 0,5 (psm3, modelado)"
        )
        assert reasons.in_pieces("spikes: nobody foresaw this; <b>") == "spikes: nobody foresaw this; <b>"
        assert (reasons.language_of_pieces(held), reasons.language_of_pieces("spikes: x")) == ("es", "en")
    with app.test_request_context("/?lang=en"):
        assert reasons.in_pieces(held) == held
