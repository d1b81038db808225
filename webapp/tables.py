"""The tables that pages, JSON, CSV and API show: what is in each, by what it can be sorted and filtered."""

from __future__ import annotations

from flask_babel import lazy_gettext

from oracle.domain import DeviceKind, Verdict

from .queries import ADDRESS, BLOCK, CHOICE, CODE, DAY, HASH, NUMBER, WORDS, Column, Filter, Kind, Table

CERTIFICATE, OUTCOME = "EnergyCertificate", "MitigationOutcome"
ZERO = "0x" + "0" * 40


def _since(column: str) -> tuple[Filter, Filter]:
    return (
        Filter("from", lazy_gettext("From day"), f"{column} >= ?", DAY),
        Filter("to", lazy_gettext("To day"), f"{column} < ? + 86400", DAY),
    )


# -- the tables -------------------------------------------------------------------------------------

_DEVICE_NUMBER = "printf('%020s', device_id)"
_DEVICE = Column("device_id", lazy_gettext("Device"), "device", sort=_DEVICE_NUMBER)
_WHEN = Column("time", lazy_gettext("When"), "time", "integer", sort="time")
_BLOCK = Column("block", type="integer")
_TX = Column("tx", lazy_gettext("Transaction"), "tx")
_NEWEST = Column("block", lazy_gettext("Block"), "block", "integer", sort="block")
_FINAL = (
    Column("confirmations", type="integer", nullable=True, made=True),
    Column("final", type="boolean", nullable=True, made=True),
)
_BY_DEVICE = Filter("device", lazy_gettext("Device"), "device_id = ?", NUMBER)
#: First digits of an EECS fuel code, as numbers without the leading zero, by the name a filter knows them by.
TECHNOLOGIES = {
    "solar": lazy_gettext("Solar"), "wind": lazy_gettext("Wind"), "hydro": lazy_gettext("Hydro"), "marine": lazy_gettext("Marine"),
    "other": lazy_gettext("Other"),
}  # fmt: skip
TECHNOLOGY_SQL = (
    "CASE substr(printf('%08d', fuel_code), 1, 6) WHEN '010401' THEN 'solar' WHEN '010501' THEN 'wind'"
    " WHEN '010502' THEN 'hydro' WHEN '010503' THEN 'marine' ELSE 'other' END"
)
_BY_TECHNOLOGY = Filter("technology", lazy_gettext("Technology"), f"{TECHNOLOGY_SQL} = ?", CHOICE, TECHNOLOGIES)
_BY_ZONE = Filter("zone", lazy_gettext("Grid zone"), "grid_zone = ?", CODE)
_BY_COUNTRY = Filter("country", lazy_gettext("Country"), "country = upper(?)", CODE)

#: When "now" is for terms that begin later: the newest block's time, so that an answer depends on the index alone.
AS_OF = "(SELECT MAX(timestamp) FROM block)"


def _current(name: str, condition: str = "") -> str:
    return (
        f"(SELECT value FROM device_change c WHERE c.device_id = d.device_id AND c.field = '{name}' {condition}"
        " ORDER BY c.since DESC, c.block DESC, c.log_index DESC LIMIT 1)"
    )


DEVICES = Table(
    "devices",
    lazy_gettext("Devices"),
    lazy_gettext("Who measures. A device is registered once, and what it is never changes."),
    lazy_gettext("No device is registered yet."),
    f"SELECT {TECHNOLOGY_SQL} AS technology, d.device_id, d.kind, d.visibility, d.country, d.grid_zone, d.granularity, d.fuel_code, d.technology_code, d.meter_hash,"
    f" COALESCE({_current('account', f'AND c.since <= {AS_OF}')}, d.account) AS account,"
    f" CAST(COALESCE({_current('capacity_w', f'AND c.since <= {AS_OF}')}, d.capacity_w) AS INTEGER) AS capacity_w,"
    f" d.active_from, d.active_from <= {AS_OF} AND CAST(COALESCE({_current('active_until')}, d.active_until) AS INTEGER) > {AS_OF}"
    " AS active, b.timestamp AS registered_at, d.tx, d.block,"
    " (SELECT COUNT(*) FROM web.statement s JOIN notarization n USING (root) WHERE s.device_id = d.device_id AND n.kind = 1)"
    " AS statements, COALESCE((SELECT SUM(energy_wh) FROM issuance i WHERE i.device_id = d.device_id AND i.event = 'Issued'), 0)"
    " AS issued_wh FROM device d JOIN block b ON b.number = d.block",
    (_DEVICE_NUMBER,),
    "device_id",
    (
        Column("device_id", lazy_gettext("Device"), "device_place", sort=_DEVICE_NUMBER),
        Column("name", made=True), Column("place", type="object", nullable=True, made=True),
        Column("technology", lazy_gettext("Technology"), "technology", sort="fuel_code"),
        Column("capacity_w", lazy_gettext("Capacity"), "kw", "integer", sort="capacity_w"),
        Column("grid_zone", lazy_gettext("Grid zone"), "zone", sort="grid_zone"), Column("country"),
        Column("account", lazy_gettext("Account"), "account", sort="account"),
        Column("statements", lazy_gettext("Statements"), "number", "integer", sort="statements"),
        Column("issued_wh", lazy_gettext("Issued"), "kwh", "integer", sort="issued_wh"),
        Column("registered_at", lazy_gettext("Registered"), "time", "integer", sort="registered_at"),
        Column("active", type="boolean"), Column("kind", type="integer"), Column("visibility", type="integer"),
        Column("granularity", type="integer"), Column("fuel_code", type="integer"), Column("technology_code", type="integer"),
        Column("meter_hash"), Column("active_from", type="integer"), Column("tx"), _BLOCK,
    ),
    (
        _BY_TECHNOLOGY, _BY_ZONE, _BY_COUNTRY,
        Filter("kind", lazy_gettext("Kind"), "kind = CAST(? AS INTEGER)", CHOICE, {
            str(int(DeviceKind.GENERATION)): lazy_gettext("generation"),
            str(int(DeviceKind.CONSUMPTION)): lazy_gettext("consumption"),
            str(int(DeviceKind.STORAGE_CHARGE)): lazy_gettext("storage, charging"),
            str(int(DeviceKind.STORAGE_DISCHARGE)): lazy_gettext("storage, discharging"),
        }),
        Filter("state", lazy_gettext("State"), "active = (? = 'active')", CHOICE,
               {"active": lazy_gettext("active"), "inactive": lazy_gettext("not active")}),
        Filter("account", lazy_gettext("Account"), "account = ?", ADDRESS),
    ),
)  # fmt: skip

BATCHES = Table(
    "batches",
    lazy_gettext("Batches"),
    lazy_gettext("One transaction notarizes the statements of any number of devices under one root."),
    lazy_gettext("Nothing is notarized yet."),
    "SELECT n.*, n.end - n.start AS duration, b.timestamp AS notarized_at, r.reason AS revoked_reason, r.by AS revoked_by,"
    " r.tx AS revoked_tx,"
    " COALESCE((SELECT SUM(energy_wh) FROM issuance i WHERE i.root = n.root AND i.event = 'Issued'), 0) AS issued_wh,"
    " a.problem AS archive_problem, a.root IS NOT NULL AND a.present AS archive_present"
    " FROM notarization n JOIN block b ON b.number = n.block LEFT JOIN revocation r ON r.root = n.root"
    " LEFT JOIN web.archive a ON a.root = n.root",
    ("block", "log_index"),
    "-block",
    (
        Column("root", lazy_gettext("Root"), "batch"),
        Column("start", lazy_gettext("Period"), "period", "integer", sort="start"),
        Column("end", type="integer"), Column("duration", type="integer"),
        Column("statements", lazy_gettext("Statements"), "number", "integer", sort="statements"),
        Column("energy_wh", lazy_gettext("Energy"), "kwh", "integer", sort="energy_wh"),
        Column("issued_wh", lazy_gettext("Issued"), "kwh", "integer", sort="issued_wh"),
        Column("signers", lazy_gettext("Signers"), "count", "object"),
        Column("notarized_at", lazy_gettext("Notarized"), "time", "integer"),
        Column("kind", lazy_gettext("State"), "batch_state", "integer"),
        Column("block", type="integer", sort="block"), Column("log_index", type="integer"), Column("item", type="integer"),
        Column("tx"), Column("new_head"), Column("head"), Column("signer_epoch", type="integer"), Column("archive_hash"),
        Column("deadline", type="integer"), Column("revoked_reason", nullable=True), Column("revoked_by", nullable=True),
        Column("revoked_tx", nullable=True), Column("archive_problem", nullable=True), Column("archive_present", type="boolean"),
        *_FINAL,
    ),
    (
        *_since("start"),
        Filter("kind", lazy_gettext("Kind"), "kind = CASE ? WHEN 'final' THEN 1 ELSE 2 END", CHOICE,
               {"final": lazy_gettext("Final"), "interim": lazy_gettext("Interim: evidence only")}),
        Filter("state", lazy_gettext("State"), "(revoked_tx IS NOT NULL) = (? = 'revoked')", CHOICE,
               {"notarized": lazy_gettext("Notarized"), "revoked": lazy_gettext("Revoked")}),
        Filter("signer", lazy_gettext("Signer"), "instr(signers, ?) > 0", ADDRESS),
    ),
)  # fmt: skip

_RESULTS = {
    Verdict.VERIFIED.value: lazy_gettext("Verified"), Verdict.NOT_FINAL.value: lazy_gettext("Not final yet"),
    Verdict.CANNOT_CHECK.value: lazy_gettext("Cannot check"), Verdict.NOT_FOUND.value: lazy_gettext("Not found"),
    Verdict.REVOKED.value: lazy_gettext("Revoked"), Verdict.MISMATCH.value: lazy_gettext("Altered"),
    "unchecked": lazy_gettext("Not checked yet"),
}  # fmt: skip

CHECKS = Table(
    "checks",
    lazy_gettext("Notarization checks"),
    "",
    lazy_gettext("Nothing is notarized yet."),
    # A notarized batch whose archive was never seen is one row without a device.
    "SELECT n.root, COALESCE(s.device_id, '') AS device_id, COALESCE(s.start, n.start) AS start, COALESCE(s.version, 0) AS version,"
    " COALESCE(s.duration, n.end - n.start) AS duration, s.energy_wh, s.previous_wh, s.profile_hash, s.leaf, s.readings,"
    " n.block, n.tx, n.kind, b.timestamp AS notarized_at, v.headline, v.data, v.inclusion, v.finality, v.authority,"
    " v.calculated, v.reasons, v.checked_at"
    " FROM notarization n JOIN block b ON b.number = n.block LEFT JOIN web.statement s ON s.root = n.root"
    " LEFT JOIN web.validation v ON v.root = n.root AND v.device_id = COALESCE(s.device_id, '')"
    " AND v.start = COALESCE(s.start, n.start) AND v.version = COALESCE(s.version, 0)",
    ("start", _DEVICE_NUMBER, "root", "version"),
    "-start",
    (
        Column("start", lazy_gettext("Date"), "", "integer", sort="start"),
        Column("device_id", lazy_gettext("Participant"), sort=_DEVICE_NUMBER),
        Column("leaf", lazy_gettext("ID notarized"), nullable=True),
        Column("calculated", lazy_gettext("Address calculated"), nullable=True),
        Column("energy_wh", lazy_gettext("Energy"), "kwh", "integer", nullable=True, sort="COALESCE(energy_wh, -1)"),
        Column("headline", lazy_gettext("Result"), nullable=True, sort="COALESCE(headline, '')"),
        Column("checked_at", lazy_gettext("Last validation"), "time", "integer", nullable=True, sort="COALESCE(checked_at, 0)"),
        Column("root", lazy_gettext("Batch")),
        Column("device_name", made=True), Column("version", type="integer"), Column("duration", type="integer"),
        Column("previous_wh", type="integer", nullable=True), Column("profile_hash", nullable=True),
        Column("readings", type="integer", nullable=True), Column("kind", type="integer"), _BLOCK, Column("tx"),
        Column("notarized_at", type="integer", sort="notarized_at"), Column("data", nullable=True), Column("inclusion", nullable=True),
        Column("finality", nullable=True), Column("authority", nullable=True), Column("reasons", type="object", nullable=True),
    ),
    (
        _BY_DEVICE,
        Filter("result", lazy_gettext("Result"), "COALESCE(headline, 'unchecked') = ?", CHOICE, _RESULTS),
        *_since("start"),
        Filter("root", lazy_gettext("Batch"), "root = ?", HASH, hidden=True),
        Filter("start", lazy_gettext("Start"), "start = ?", BLOCK, hidden=True),
    ),
)  # fmt: skip

_SUM_OF = "COALESCE((SELECT SUM({what}) FROM {table} x WHERE {where}), 0)"


def _sums(name: str, what: str, source: str, key: str) -> str:
    """A join that gives each certificate ``i`` its sum: all are added up at once, which is quicker than one by one."""
    return f" LEFT JOIN (SELECT {key} AS id, SUM({what}) AS {name} FROM {source} GROUP BY {key}) AS {name}_of ON {name}_of.id = i.id"


CERTIFICATE_SUMS = (
    _sums("live_wh", "amount", f"balance WHERE contract = '{CERTIFICATE}'", "id")
    + _sums("retired_wh", "amount", f"retirement WHERE contract = '{CERTIFICATE}'", "id")
    + _sums("converted_wh", "amount_wh", "conversion", "certificate_id")
)

CERTIFICATES = Table(
    "certificates",
    lazy_gettext("Certificates"),
    lazy_gettext(
        "One unit is one watt-hour of one device and period, and carries that period’s 15-minute shape wherever it goes."
    ),
    lazy_gettext("No certificate has been issued yet."),
    # An id is issued again when a correction adds to it; MIN makes SQLite take the other columns of the first time.
    "SELECT i.id, i.device_id, i.start, i.duration, i.root, i.account, i.tx, MIN(i.block) AS block, i.log_index, i.item,"
    " SUM(i.energy_wh) AS issued_wh, b.timestamp AS issued_at, d.fuel_code, d.technology_code, d.grid_zone, d.country,"
    " COALESCE(live_wh, 0) AS live_wh, COALESCE(retired_wh, 0) AS retired_wh, COALESCE(converted_wh, 0) AS converted_wh"
    " FROM issuance i JOIN block b ON b.number = i.block JOIN device d ON d.device_id = i.device_id"
    f"{CERTIFICATE_SUMS} WHERE i.event = 'Issued' GROUP BY i.id, i.device_id, i.start, i.duration",
    ("block", "log_index", "item"),
    "-block",
    (
        Column("id", lazy_gettext("Certificate"), "certificate", sort="id"),
        _DEVICE,
        Column("start", lazy_gettext("Period"), "period", "integer", sort="start"), Column("duration", type="integer"),
        Column("issued_wh", lazy_gettext("Issued"), "kwh", "integer", sort="issued_wh"),
        Column("live_wh", lazy_gettext("Live"), "kwh", "integer", sort="live_wh"),
        Column("retired_wh", lazy_gettext("Retired"), "kwh", "integer", sort="retired_wh"),
        Column("converted_wh", lazy_gettext("Converted"), "kwh", "integer", sort="converted_wh"),
        Column("issued_at", type="integer"), Column("account"), Column("root"), Column("tx"),
        Column("block", type="integer", sort="block"), Column("log_index", type="integer"), Column("item", type="integer"),
        Column("grid_zone"), Column("country"), Column("fuel_code", type="integer"), Column("technology_code", type="integer"),
    ),
    (
        _BY_DEVICE, _BY_TECHNOLOGY, _BY_ZONE, *_since("start"),
        Filter("state", lazy_gettext("State"), "(live_wh > 0) = (? = 'live')", CHOICE,
               {"live": lazy_gettext("Live"), "used": lazy_gettext("Used up")}),
        Filter("account", lazy_gettext("First holder"), "account = ?", ADDRESS),
        Filter("root", lazy_gettext("Batch"), "root = ?", HASH, hidden=True),
    ),
)  # fmt: skip

ACCOUNTS = Table(
    "accounts",
    lazy_gettext("Accounts"),
    lazy_gettext("Everyone who ever held, retired or converted anything here, or was entitled by a device."),
    lazy_gettext("No account has taken part in anything yet."),
    "SELECT a.address, a.block, a.events, b.timestamp AS time, "
    + _SUM_OF.format(what="amount", table="balance", where=f"x.account = a.address AND x.contract = '{CERTIFICATE}'") + " AS live_wh,"
    + _SUM_OF.format(what="amount", table="retirement", where=f"x.account = a.address AND x.contract = '{CERTIFICATE}'")
    + " AS retired_wh,"
    + _SUM_OF.format(what="amount", table="balance", where=f"x.account = a.address AND x.contract = '{OUTCOME}'") + " AS live_g,"
    + _SUM_OF.format(what="amount", table="retirement", where=f"x.account = a.address AND x.contract = '{OUTCOME}'")
    + " AS retired_g FROM (SELECT address, MAX(block) AS block, COUNT(*) AS events FROM account GROUP BY address) a"
    " JOIN block b ON b.number = a.block",
    ("address",),
    "-time",
    (
        Column("address", lazy_gettext("Account"), "account", sort="address"),
        Column("label", nullable=True, made=True),
        Column("live_wh", lazy_gettext("Certificates held"), "kwh", "integer", sort="live_wh"),
        Column("retired_wh", lazy_gettext("Retired"), "kwh", "integer", sort="retired_wh"),
        Column("live_g", lazy_gettext("Mitigation outcomes held"), "kg", "integer", sort="live_g"),
        Column("retired_g", lazy_gettext("Mitigation outcomes retired"), "kg", "integer", sort="retired_g"),
        Column("events", lazy_gettext("Events"), "number", "integer", sort="events"),
        Column("time", lazy_gettext("Last seen"), "time", "integer", sort="time"), _BLOCK,
    ),
    (
        Filter("holds", lazy_gettext("Holds"), "CASE ? WHEN 'certificates' THEN live_wh ELSE live_g END > 0", CHOICE,
               {"certificates": lazy_gettext("Certificates"), "outcomes": lazy_gettext("Mitigation outcomes")}),
        Filter("address", lazy_gettext("Account"), "address = ?", ADDRESS),
    ),
)  # fmt: skip

_TOKENS = {CERTIFICATE: lazy_gettext("Energy certificates"), OUTCOME: lazy_gettext("Mitigation outcomes")}

HOLDINGS = Table(
    "holdings",
    lazy_gettext("What this account holds"),
    "",
    lazy_gettext("This account holds nothing here."),
    "SELECT contract, id, amount FROM balance WHERE account = ?",
    ("contract", "id"),
    "-amount",
    (
        Column("id", lazy_gettext("Token"), "token", sort="id"),
        Column("contract", lazy_gettext("Contract"), "contract", sort="contract"),
        Column("device_id", lazy_gettext("Device"), "device", nullable=True, made=True),
        Column("start", lazy_gettext("Period"), "period", "integer", nullable=True, made=True),
        Column("duration", type="integer", nullable=True, made=True),
        Column("amount", lazy_gettext("Amount"), "amount", "integer", sort="amount"),
        Column("estimate", type="boolean", made=True), Column("illustrative", type="boolean", made=True),
    ),
    (Filter("contract", lazy_gettext("Contract"), "contract = ?", CHOICE, _TOKENS),),
)  # fmt: skip

_CONTRACTS = {
    "DeviceRegistry": lazy_gettext("Device registry"), "Notary": lazy_gettext("Notary"), **_TOKENS,
    "EmissionFactors": lazy_gettext("Emission factors"), "AccessManager": lazy_gettext("Access manager"),
}  # fmt: skip

ACTIVITY = Table(
    "activity",
    lazy_gettext("History of this account"),
    "",
    lazy_gettext("No event names this account."),
    "SELECT e.block, e.log_index, e.tx, e.contract, e.name, e.args, b.timestamp AS time FROM account a"
    " JOIN event e USING (block, log_index) JOIN block b ON b.number = e.block WHERE a.address = ?",
    ("block", "log_index"),
    "-block",
    (
        Column("time", lazy_gettext("When"), "time", "integer"),
        Column("name", lazy_gettext("What"), "event", sort="name"),
        Column("contract", lazy_gettext("Contract"), "contract", sort="contract"),
        Column("block", lazy_gettext("Block"), "number", "integer", sort="block"),
        _TX, Column("log_index", type="integer"), Column("args", type="object"),
    ),
    (Filter("contract", lazy_gettext("Contract"), "contract = ?", CHOICE, _CONTRACTS),
     Filter("name", lazy_gettext("Event"), "name = ?", CODE, hidden=True), *_since("time")),
)  # fmt: skip

TRANSACTIONS = Table(
    "transactions",
    lazy_gettext("Transactions"),
    lazy_gettext("Every transaction that left a trace in these contracts, and those sent to them that were refused."),
    lazy_gettext("No transaction has touched these contracts yet."),
    "SELECT t.hash, t.block, t.position, t.sender, t.receiver, t.function, t.value AS value_wei, b.timestamp AS time, b.hash AS block_hash,"
    " (SELECT COUNT(*) FROM event e WHERE e.tx = t.hash) AS events,"
    " (SELECT COUNT(*) FROM transfer x WHERE x.block = t.block AND x.tx = t.hash) AS moves,"
    + _SUM_OF.format(what="amount", table="transfer", where=f"x.block = t.block AND x.tx = t.hash AND x.contract = '{CERTIFICATE}'") + " AS moved_wh,"
    + _SUM_OF.format(what="amount", table="transfer", where=f"x.block = t.block AND x.tx = t.hash AND x.contract = '{OUTCOME}'")
    + " AS moved_g FROM tx t JOIN block b ON b.number = t.block",
    ("block", "position"),
    "-block",
    (
        Column("hash", lazy_gettext("Transaction"), "tx"),
        Column("function", lazy_gettext("Action"), "act", nullable=True, sort="COALESCE(function, '')"),
        Column("block", lazy_gettext("Block"), "block", "integer", sort="block"),
        Column("time", lazy_gettext("When"), "time", "integer"),
        Column("sender", lazy_gettext("From"), "account", sort="sender"),
        Column("receiver", lazy_gettext("To"), "account", nullable=True, sort="COALESCE(receiver, '')"),
        Column("moved_wh", lazy_gettext("Tokens moved"), "moved", "integer", sort="moved_wh"),
        Column("moved_g", type="integer"), Column("moves", type="integer"), Column("events", type="integer"),
        Column("fee_wei", lazy_gettext("Fee"), "wei", "text", nullable=True, made=True),
        Column("status", lazy_gettext("Status"), "status", nullable=True, made=True),
        Column("position", type="integer"), Column("value_wei"), Column("block_hash"), *_FINAL,
    ),
    (
        Filter("account", lazy_gettext("From or to"), "? IN (sender, receiver)", ADDRESS),
        Filter("function", lazy_gettext("Action"), "function = ?", CODE, hidden=True),
        *_since("time"),
        Filter("block", lazy_gettext("Block"), "block = ?", BLOCK),
    ),
)  # fmt: skip

RETIREMENTS = Table(
    "retirements",
    lazy_gettext("Retirements"),
    lazy_gettext("What is retired can never be sold, moved or claimed again. Each retirement has a public statement."),
    lazy_gettext("Nothing is retired yet."),
    "SELECT r.contract, r.number, r.account, r.block, r.log_index, r.tx, SUM(r.amount) AS amount, COUNT(*) AS items,"
    " GROUP_CONCAT(r.id) AS ids,"
    " r.beneficiary, r.beneficiary_name, r.purpose, r.country, r.location, r.consumption_start, r.consumption_end,"
    " b.timestamp AS time FROM retirement r JOIN block b ON b.number = r.block GROUP BY r.contract, r.number, r.account",
    ("block", "log_index"),
    "-block",
    (
        Column("number", lazy_gettext("No."), "retirement", "integer", sort="number"),
        Column("beneficiary_name", lazy_gettext("For"), "beneficiary", sort="beneficiary_name"),
        Column("purpose", lazy_gettext("Purpose"), "text", sort="purpose"),
        Column("amount", lazy_gettext("Amount"), "amount", "integer", sort="amount"),
        Column("account", lazy_gettext("By"), "account", sort="account"), _WHEN,
        Column("contract"), Column("beneficiary"), Column("country"), Column("location"),
        Column("consumption_start", type="integer"), Column("consumption_end", type="integer"), Column("items", type="integer"),
        Column("block", type="integer", sort="block"), Column("log_index", type="integer"), Column("tx"),
        Column("estimate", type="boolean", made=True), Column("illustrative", type="boolean", made=True),
    ),
    (
        Filter("contract", lazy_gettext("Of"), "contract = ?", CHOICE, _TOKENS),
        Filter("q", lazy_gettext("For or purpose"), "beneficiary_name LIKE ? ESCAPE '\\' OR purpose LIKE ? ESCAPE '\\'", WORDS),
        _BY_COUNTRY,
        Filter("account", lazy_gettext("By"), "account = ?", ADDRESS),
        *_since("time"),
    ),
)  # fmt: skip

CONVERSIONS = Table(
    "conversions",
    lazy_gettext("Conversions"),
    lazy_gettext("Converting consumes certificates and issues mitigation outcomes in the same step."),
    lazy_gettext("Nothing has been converted yet."),
    "SELECT c.*, b.timestamp AS time FROM conversion c JOIN block b ON b.number = c.block",
    ("block", "log_index", "item"),
    "-block",
    (
        _WHEN, Column("account", lazy_gettext("Account"), "account", sort="account"),
        Column("certificate_id", lazy_gettext("Certificate"), "certificate", sort="certificate_id"),
        Column("outcome_id", lazy_gettext("Mitigation outcome"), "outcome", sort="outcome_id"),
        Column("amount_wh", lazy_gettext("Consumed"), "kwh", "integer", sort="amount_wh"),
        Column("co2e_g", lazy_gettext("Converted"), "kg", "integer", sort="co2e_g"),
        Column("rest_micrograms", type="integer"), _TX, Column("block", type="integer", sort="block"),
        Column("log_index", type="integer"), Column("item", type="integer"), Column("outcome", type="object", made=True),
    ),
    (
        Filter("account", lazy_gettext("Account"), "account = ?", ADDRESS),
        Filter("certificate", lazy_gettext("Certificate"), "certificate_id = ?", HASH, hidden=True),
        Filter("outcome", lazy_gettext("Mitigation outcome"), "outcome_id = ?", HASH, hidden=True), *_since("time"),
    ),
)  # fmt: skip

OUTCOMES = Table(
    "outcomes",
    lazy_gettext("Mitigation outcomes"),
    lazy_gettext(
        "Converting consumes a certificate in the same step, so that one kilowatt-hour never makes two claims. Without an"
        " authorisation an outcome is only an estimate of avoided emissions."
    ),
    lazy_gettext("Nothing has been converted yet."),
    "SELECT c.outcome_id AS id, SUM(c.co2e_g) AS converted_g, SUM(c.amount_wh) AS amount_wh, MAX(c.block) AS block,"
    + _SUM_OF.format(what="amount", table="balance", where=f"x.contract = '{OUTCOME}' AND x.id = c.outcome_id") + " AS live_g,"
    + _SUM_OF.format(what="amount", table="retirement", where=f"x.contract = '{OUTCOME}' AND x.id = c.outcome_id")
    + " AS retired_g FROM conversion c GROUP BY c.outcome_id",
    ("id",),
    "-block",
    (
        Column("id", lazy_gettext("Outcome"), "outcome", sort="id"),
        Column("year", lazy_gettext("Vintage"), "vintage", "integer", made=True), Column("country", made=True),
        Column("estimate", lazy_gettext("State"), "standing", "boolean", made=True), Column("authorisation_id", made=True),
        Column("factor", lazy_gettext("Factor"), "factor", "object", nullable=True, made=True),
        Column("factor_id", type="integer", made=True),
        Column("converted_g", lazy_gettext("Converted"), "kg", "integer", sort="converted_g"),
        Column("live_g", lazy_gettext("Live"), "kg", "integer", sort="live_g"),
        Column("retired_g", lazy_gettext("Retired"), "kg", "integer", sort="retired_g"),
        Column("amount_wh", lazy_gettext("Consumed"), "kwh", "integer", sort="amount_wh"),
        Column("block", type="integer", sort="block"),
    ),
    (Filter("state", lazy_gettext("State"), "(live_g > 0) = (? = 'live')", CHOICE,
            {"live": lazy_gettext("Live"), "used": lazy_gettext("Used up")}),),
)  # fmt: skip

FACTORS = Table(
    "factors",
    lazy_gettext("Emission factors"),
    lazy_gettext(
        "What a megawatt-hour avoids, by grid zone and calendar year, with its source. A factor is never edited, only superseded."
    ),
    lazy_gettext("No factor has been published yet."),
    "SELECT f.*, b.timestamp AS published_at, s.superseded_by FROM factor f JOIN block b ON b.number = f.block"
    " LEFT JOIN factor_supersession s ON s.factor_id = f.factor_id",
    ("factor_id",),
    "factor_id",
    (
        Column("factor_id", lazy_gettext("No."), "number", "integer", sort="factor_id"),
        Column("grid_zone", lazy_gettext("Grid zone"), "text", sort="grid_zone"),
        Column("year", lazy_gettext("Year"), "year", "integer", sort="year"),
        Column("grams_per_mwh", lazy_gettext("Factor"), "per_mwh", "integer", sort="grams_per_mwh"),
        Column("source", lazy_gettext("Source"), "text", sort="source"),
        Column("illustrative", lazy_gettext("State"), "factor_state", "boolean"),
        Column("approver", lazy_gettext("Approved by"), "account", sort="approver"),
        Column("published_at", lazy_gettext("Published"), "time", "integer", sort="published_at"),
        Column("source_hash"), Column("superseded_by", type="integer", nullable=True), Column("tx"), _BLOCK,
        Column("log_index", type="integer"), Column("item", type="integer"),
    ),
    (
        _BY_ZONE, Filter("year", lazy_gettext("Year"), "year = ?", Kind("[0-9]{4}", "must be a year", int)),
        Filter("state", lazy_gettext("State"), "(superseded_by IS NULL) = (? = 'current')", CHOICE,
               {"current": lazy_gettext("In force"), "superseded": lazy_gettext("Superseded")}),
    ),
)  # fmt: skip

TABLES = (
    DEVICES, BATCHES, CHECKS, CERTIFICATES, ACCOUNTS, HOLDINGS, ACTIVITY, TRANSACTIONS, RETIREMENTS, CONVERSIONS, OUTCOMES, FACTORS,
)  # fmt: skip
