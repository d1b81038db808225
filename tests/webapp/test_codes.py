"""Every page says whether the code at the contracts' addresses is the code that was deployed, also when it is not."""

from __future__ import annotations

from itertools import count

import pytest
from bs4 import BeautifulSoup

MATCHES = "Code matches"


def told(client, path: str) -> tuple[str, dict[str, str], str]:
    """What head, list of contracts and the sentence below it say of the code."""
    page = BeautifulSoup(client.get(f"{path}?lang=en").data, "html.parser")
    foot = page.select_one("#contracts")
    each = {
        name.get_text(): value.select_one(".code")["title"]
        for name, value in zip(foot.select("dt"), foot.select("dd"), strict=True)
    }
    return page.select_one("header a.code")["title"], each, foot.select_one("p").get_text()


@pytest.fixture
def altered(fresh_world, app_of):
    """A world, its app, and what makes it ask the node again, as it does after a minute."""
    app = app_of(fresh_world)
    codes, minutes = app.extensions["wattmark"].codes, count(10**6)

    def later() -> None:
        codes.look(now=61.0 * next(minutes))

    return fresh_world, app.test_client(), later


def test_pages_with_the_code_that_was_deployed_say_so(altered):
    world, client, _ = altered
    for path in ("/", "/checks"):
        head, each, sentence = told(client, path)
        assert head == MATCHES and set(each.values()) == {MATCHES} and len(each) == len(world.contracts)
        assert "is the code that was deployed" in sentence


@pytest.mark.parametrize(
    ("code", "state", "words"),
    [("0x6001600101", "differs", "Code differs from what was deployed"), ("0x", "missing", "No code at this address")],
)
def test_pages_with_other_or_no_code_at_an_address_say_which(altered, code, state, words):
    world, client, later = altered
    world.anvil.rpc("anvil_setCode", world.contracts["Notary"].address, code)
    later()
    head, each, sentence = told(client, "/certificates")
    assert head == words and sentence == f"{words}."
    assert each.pop("Notary") == words and set(each.values()) == {MATCHES}
    chain = client.get("/.json").json["chain"]
    assert {name: one["code"] for name, one in chain["code"].items()} == {
        name: state if name == "Notary" else "matches" for name in world.contracts
    }


def test_pages_once_the_node_is_gone_cannot_tell(altered):
    world, client, later = altered
    world.anvil.stop()
    later()
    head, each, sentence = told(client, "/")
    assert head == "Code cannot be checked" and set(each.values()) == {head} and sentence == f"{head}."
