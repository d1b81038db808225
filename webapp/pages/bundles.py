"""Evidence bundles for download: a zip that proves what a page shows without this site (docs/bundle.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from flask import Blueprint, Response, abort, request
from flask_babel import gettext

from oracle import bundle
from oracle.errors import ArchiveError, ChainError, ChainUnreachable, ProtocolError

from ..app import explorer, services
from ..words import isoday, token_name
from .public import hash_of

html = Blueprint("bundles", __name__)


@html.get("/bundles/statement/<root>/<device_id>/<int:start>.zip")
def statement(root: str, device_id: str, start: int) -> Response:
    """The bundle of one notarized statement."""
    root = hash_of(root)
    if not device_id.isdecimal() or len(device_id) > 20 or not explorer().batch(root):
        abort(404)

    def make() -> bytes:
        archive = services().archives.read(root)
        record = archive.record(int(device_id), start)
        if record is None:
            abort(404)
        return bundle.statement_bundle(services().chain, archive, record)

    return _download(make, f"statement-{device_id}-{isoday(start)}")


@html.get("/bundles/certificate/<token>.zip")
def certificate(token: str) -> Response:
    """The bundle of a certificate, with every statement behind it."""
    token = hash_of(token)
    if not explorer().one("SELECT 1 FROM issuance WHERE id = ? LIMIT 1", token):
        abort(404)
    return _download(
        lambda: bundle.certificate_bundle(services().chain, services().config.archive_folder, int(token, 16)),
        f"certificate-{token_name(token)}",
    )


@html.get("/bundles/retirement/<token>/<int:number>.zip")
def retirement(token: str, number: int) -> Response:
    """The bundle of a retirement of certificates or of outcomes."""
    make = retirement_maker(token, number)
    return _download(make, f"retirement-{token}-{number}")


@html.get("/bundles/outcome/<token>.zip")
def outcome(token: str) -> Response:
    """The bundle of a mitigation outcome: its factor, its conversions and the statements behind them."""
    token = hash_of(token)
    if not explorer().one("SELECT 1 FROM conversion WHERE outcome_id = ? LIMIT 1", token):
        abort(404)
    return _download(
        lambda: bundle.outcome_bundle(services().chain, services().config.archive_folder, int(token, 16)),
        f"outcome-{token_name(token, 'outcomes')}",
    )


def retirement_maker(token: str, number: int) -> Callable[[], bytes]:
    """What makes the bundle of a retirement; 404 if there is no such retirement."""
    makers = {"certificate": bundle.retirement_bundle, "outcome": bundle.outcome_retirement_bundle}
    contract = {"certificate": bundle.CERTIFICATE, "outcome": bundle.OUTCOME}.get(token)
    sql = "SELECT 1 FROM retirement WHERE contract = ? AND number = ? LIMIT 1"
    if contract is None or number >= 1 << 63 or not explorer().one(sql, contract, number):
        abort(404)
    return lambda: makers[token](services().chain, services().config.archive_folder, number)


def bundle_bytes(make: Callable[[], bytes]) -> bytes:
    """What ``make`` gives; an answer in words where it cannot."""
    try:
        return make()
    except ChainUnreachable:
        abort(503, gettext("The node cannot be reached, so the evidence cannot be put together now."))
    except ArchiveError as fault:
        abort(
            409, gettext("An archive that this rests on is not at hand or not whole: %(problem)s", problem=str(fault))
        )
    except ProtocolError as fault:
        abort(422, gettext("The evidence is too large for one bundle: %(problem)s", problem=str(fault)))
    except ChainError as fault:
        abort(404, str(fault))


def _download(make: Callable[[], bytes], name: str) -> Response:
    content = bundle_bytes(make)
    answer = Response(content, mimetype="application/zip")
    answer.headers["Content-Disposition"] = f'attachment; filename="wattmark-{name}.zip"'
    answer.headers["Access-Control-Allow-Origin"] = "*"
    answer.set_etag(hashlib.sha256(content).hexdigest())
    return answer.make_conditional(request)  # type: ignore[return-value]
