"""Tests about the oracle's state run twice, on SQLite and on PostgreSQL."""

import pytest

from tests.oracle import databases

#: Modules of which every test runs on both; of the others those that `databases.both` marks. Most tests of witnesses and
#: sources are about signatures and protocols, and cost processes and servers that the database has no part in.
BOTH = {
    "test_store",
    "test_outbox",
    "test_pipeline",
    "test_issuance",
    "test_review",
    "test_decisions",
    "test_corrections",
    "test_watch",
    "test_rebuild",
    "test_slotcache",
    "test_metrics",
}


def pytest_generate_tests(metafunc):
    own = ("database" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if metafunc.module.__name__.rpartition(".")[2] in BOTH and not any(own):
        metafunc.parametrize("database", databases.KINDS, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def database(request):
    """The kind of database that `databases.url` gives to the tests of this module."""
    databases.kind = getattr(request, "param", "sqlite")
    yield databases.kind
    databases.kind = "sqlite"
