"""scripts/deployment.py over brownie's own connection; the rest of it is tested in tests/deploy, without brownie"""

import json

from brownie import web3

from scripts.deployment import Deployment, deploy
from scripts.deployment_check import facts, require
from scripts.deployment_settings import Settings
from scripts.roles import ROLES


def test_deploy_over_brownies_connection_writes_a_book_that_checks(world, tmp_path):
    made = Settings(
        book=tmp_path / "addresses.json",
        chain_name="test",
        signers=tuple(sorted((world.stranger.address, world.buyer.address), key=str.lower)),
        threshold=2,
        holders={role.name: world.recorder.address for role in ROLES},
        admin_delay_seconds=100,
        certificate_uri="https://w.example/c/",
        outcome_uri="https://w.example/o/",
    )
    run = deploy(Deployment(web3, world.admin.address, made, {}))
    assert len(run.deployed) == 7 and run.sent == 11
    assert require(facts(web3, json.loads(made.book.read_text()))) > 100
