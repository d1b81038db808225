"""Evidence bundles: a zip that proves a statement, a certificate, a retirement or an outcome without us: docs/bundle.md.

A bundle is written from archive and chain alone and holds the stand-alone :mod:`oracle.verify`, whose zip, RLP and
JSON forms are used here, so that there is one of each. What a chain does not let us prove (headers that do not hash as
Ethereum's, transactions of unknown types) is left out and named, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import verify
from .archive import Archive, ArchivedStatement, read_archive
from .chain import ChainView, Event, NotarizedEvent
from .errors import ArchiveError, ChainError, ProtocolError
from .protocol import keccak256, manifest_bytes, parse_token_id, statement_leaf, token_id

CERTIFICATE, OUTCOME = "EnergyCertificate", "MitigationOutcome"
#: Assessments of a whole batch come along only up to this size; their hash is in the manifest anyway.
MAX_ASSESSMENTS_BYTES = 2 << 20

# Fields of what is hashed, in order (Ethereum yellow paper, EIPs 1559, 2930, 4844, 4788, 4895, 7685, 7702).
_PLACE = ["parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom"]
_WORK = ["difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce"]
_LATER = ["baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash"]
_HEADER = [*_PLACE, *_WORK, *_LATER]
_SIGNATURE = ["yParity", "r", "s"]
_FEES = ["chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "input", "accessList"]
_TRANSACTION = {
    0: ["nonce", "gasPrice", "gas", "to", "value", "input", "v", "r", "s"],
    1: ["chainId", "nonce", "gasPrice", "gas", "to", "value", "input", "accessList", *_SIGNATURE],
    2: [*_FEES, *_SIGNATURE],
    3: [*_FEES, "maxFeePerBlobGas", "blobVersionedHashes", *_SIGNATURE],
    4: [*_FEES, "authorizationList", *_SIGNATURE],
}
#: Fields that are bytes as they stand; the others are numbers, without leading zeros.
_BYTES = {"to", "input", *_PLACE, "extraData", "mixHash", "withdrawalsRoot", "parentBeaconBlockRoot", "requestsHash"}


class Unproven(Exception):
    """Why a transaction cannot be proven into its block; goes into the bundle as text."""


# -- bundles -----------------------------------------------------------------------------------------------------------
# Each returns the zip's bytes; the same chain and archives give the same bytes. ``include_readings`` adds profile and
# salts; None adds them for public devices only. The manifest and assessments of a private batch are never added,
# because they speak of other devices too. All raise ArchiveError if an archive is missing or not what it was, ChainError
# if the chain does not have what the bundle is to be about, ProtocolError if it would be larger than can be verified.


def statement_bundle(
    chain: ChainView, archive: Archive, record: ArchivedStatement, *, include_readings: bool | None = None
) -> bytes:
    """The bundle of a notarized statement of ``archive``."""
    evidence = _Evidence(chain, include_readings)
    evidence.add_statement(archive, record)
    return evidence.packed("statement", None)


def certificate_bundle(
    chain: ChainView, archive_folder: Path, certificate_id: int, *, include_readings: bool | None = None
) -> bytes:
    """The bundle of a certificate: every statement that issued or corrected it."""
    evidence = _Evidence(chain, include_readings)
    evidence.add_certificates([certificate_id], archive_folder)
    return evidence.packed("certificate", certificate_id)


def retirement_bundle(
    chain: ChainView, archive_folder: Path, number: int, *, include_readings: bool | None = None
) -> bytes:
    """The bundle of retirement ``number`` of the EnergyCertificate, with every statement behind its certificates."""
    evidence = _Evidence(chain, include_readings)
    evidence.add_certificates(evidence.add_retirement(CERTIFICATE, number), archive_folder)
    return evidence.packed("retirement", number)


def outcome_bundle(
    chain: ChainView, archive_folder: Path, outcome_id: int, *, include_readings: bool | None = None
) -> bytes:
    """The bundle of a mitigation outcome: its factor, its conversions and the statements behind what was converted."""
    evidence = _Evidence(chain, include_readings)
    evidence.add_certificates(evidence.add_outcomes([outcome_id]), archive_folder)
    return evidence.packed("outcome", outcome_id)


def outcome_retirement_bundle(
    chain: ChainView, archive_folder: Path, number: int, *, include_readings: bool | None = None
) -> bytes:
    """The bundle of retirement ``number`` of the MitigationOutcome, with all that was ever converted into its outcomes."""
    evidence = _Evidence(chain, include_readings)
    certificates = evidence.add_outcomes(evidence.add_retirement(OUTCOME, number))
    evidence.add_certificates(certificates, archive_folder)
    return evidence.packed("outcome retirement", number)


class _Evidence:
    """What goes into one bundle, gathered bit by bit; each transaction once, with its proof."""

    def __init__(self, chain: ChainView, include_readings: bool | None):
        self._chain, self._include_readings = chain, include_readings
        self._statements: list[dict[str, Any]] = []
        self._transactions: dict[bytes, dict[str, Any]] = {}
        self._members: dict[str, bytes] = {}

    def add_retirement(self, token: str, number: int) -> list[int]:
        """The transaction of a retirement; ids of what it retired."""
        found = [e for name in ("Retired", "RetiredBatch") for e in self._chain.events(token, name, arguments={"number": number})]  # fmt: skip
        if not found:
            raise ChainError(f"there is no retirement {number} of the {token} on chain {self._chain.config.chain_id}")
        self._prove(found[0])
        return [found[0].values["id"]] if found[0].name == "Retired" else list(found[0].values["ids"])

    def add_outcomes(self, outcome_ids: Iterable[int]) -> list[int]:
        """Every conversion into these outcomes and their factors; ids of the certificates that were converted."""
        certificates: list[int] = []
        for outcome_id in sorted(set(outcome_ids)):
            conversions = list(self._chain.events(OUTCOME, "Converted", arguments={"outcomeId": outcome_id}))
            if not conversions:
                raise ChainError(
                    f"nothing was converted into outcome {outcome_id:#x} on chain {self._chain.config.chain_id}"
                )
            for event in conversions:
                self._prove(event)
            certificates += [event.values["certificateId"] for event in conversions]
            for event in self._chain.events(
                "EmissionFactors", "FactorPublished", arguments={"factorId": outcome_id >> 224}
            ):
                self._prove(event)
        return certificates

    def add_certificates(self, certificate_ids: Iterable[int], archive_folder: Path) -> None:
        """Every statement behind these certificates; one that was corrected has several."""
        for certificate_id in sorted(set(certificate_ids)):
            behind = _roots_behind(self._chain, certificate_id)
            if not behind:
                raise ChainError(
                    f"certificate {certificate_id:#x} was never issued on chain {self._chain.config.chain_id}"
                )
            for root, hashed in behind:
                archive = read_archive(archive_folder, root)
                self.add_statement(archive, _record_behind(archive, certificate_id, hashed))

    def add_statement(self, archive: Archive, record: ArchivedStatement) -> None:
        """A statement, its archive's manifest, and the transactions that notarized and issued it and appointed its witnesses."""
        manifest = manifest_bytes(archive.manifest)
        if archive.problem or keccak256(manifest) != archive.archive_hash:
            raise ArchiveError(archive.problem or "its manifest is not in canonical form", root=_hex(archive.root))
        notarized = self._chain.find_notarization(archive.root)
        if notarized is None:
            raise ChainError(f"root {_hex(archive.root)} is not notarized on chain {self._chain.config.chain_id}")
        if notarized.batch.archive_hash != archive.archive_hash:
            raise ArchiveError("its manifest is not the one that was notarized", root=_hex(archive.root))
        block, statement = notarized.block_number, record.statement
        self._prove(notarized)
        for event in self._chain.events("Notary", "SignersSet", None, block, {"epoch": notarized.batch.signer_epoch}):
            self._prove(event)
        filters = {"id": token_id(statement.device_id, statement.start, statement.duration), "root": archive.root}
        for name in ("Issued", "Corrected"):
            for event in self._chain.events(CERTIFICATE, name, block, None, filters):
                self._prove(event)

        public = archive.is_public
        if public:
            self._members[f"archives/{archive.root.hex()}.json"] = manifest
            assessments = "\n".join(one.assessment for one in archive.records).encode()
            if len(assessments) <= MAX_ASSESSMENTS_BYTES:
                self._members[f"archives/{archive.root.hex()}.assessments"] = assessments
        shown = public if self._include_readings is None else self._include_readings
        salts = [_hex(record.salts[at : at + 32]) for at in range(0, len(record.salts), 32)]
        self._statements.append(
            {
                "statement": {
                    "deviceId": str(statement.device_id),
                    "start": statement.start,
                    "duration": statement.duration,
                    "version": statement.version,
                    "energyWh": str(statement.energy_wh),
                    "previousWh": str(statement.previous_wh),
                    "profileHash": _hex(statement.profile_hash),
                },
                "root": _hex(archive.root),
                "proof": [_hex(node) for node in archive.tree.proof(statement_leaf(statement))],
                "readings": {"profile": _hex(record.profile), "salts": salts} if shown else None,
            }
        )

    def packed(self, kind: str, number: int | None) -> bytes:
        """The zip about a subject of :data:`oracle.verify.SUBJECTS`."""
        members = self._members | {
            "statements.json": verify.canonical(self._statements),
            "transactions.json": verify.canonical(list(self._transactions.values())),
            "verify.py": Path(verify.__file__).read_bytes(),
        }
        manifest = {
            "schema": verify.SCHEMA,
            "chainId": self._chain.config.chain_id,
            "contracts": {
                name: {"address": one.address.lower(), "codeHash": _hex(one.code_hash)}
                for name, one in self._chain.book.contracts.items()
            },
            "subject": {"kind": kind, "id": None if number is None else str(number)},
            "members": {name: verify.stated(content) for name, content in members.items()},
        }
        manifest["seal"] = verify.seal(manifest)
        packed = verify.pack_zip(members | {"manifest.json": verify.canonical(manifest)})
        most = max(len(self._statements), len(self._transactions))
        if len(packed) > verify.MAX_BYTES or most > verify.MAX_ITEMS:
            raise ProtocolError(
                f"the bundle would have {len(packed)} bytes and {most} statements or transactions; at most"
                f" {verify.MAX_BYTES} and {verify.MAX_ITEMS} can be verified"
            )
        return packed

    def _prove(self, event: Event | NotarizedEvent) -> None:
        if event.transaction not in self._transactions:
            self._transactions[event.transaction] = proven_transaction(self._chain, event.transaction)


def _roots_behind(chain: ChainView, certificate_id: int) -> list[tuple[bytes, bytes]]:
    """Root and profile hash of each statement that issued or corrected a certificate, in chain order."""
    events = [
        e
        for name in ("Issued", "Corrected")
        for e in chain.events("EnergyCertificate", name, arguments={"id": certificate_id})
    ]
    ordered = sorted(events, key=lambda event: (event.block_number, event.log_index))
    return list(dict.fromkeys((bytes(event.values["root"]), bytes(event.values["profileHash"])) for event in ordered))


def _record_behind(archive: Archive, certificate_id: int, hashed: bytes) -> ArchivedStatement:
    period = parse_token_id(certificate_id)
    for record in archive.records:
        statement = record.statement
        if (statement.device_id, statement.start, statement.duration, statement.profile_hash) == (*period, hashed):
            return record
    raise ArchiveError(f"it has no statement behind certificate {certificate_id:#x}", root=_hex(archive.root))


# -- transactions and their proofs -------------------------------------------------------------------------------------


def proven_transaction(chain: ChainView, transaction: bytes) -> dict[str, Any]:
    """A mined transaction as ``transactions.json`` has it: raw bytes, receipt, the proof of both into the block header.

    Where the chain cannot be proven the way Ethereum is, ``proof`` is None and ``unproven`` says why.
    """
    receipt = chain.request("eth_getTransactionReceipt", _hex(transaction))
    if receipt is None:
        raise ChainError(f"transaction {_hex(transaction)} has no receipt")
    block = chain.request("eth_getBlockByHash", receipt["blockHash"], True)
    if block is None:
        raise ChainError(f"block {receipt['blockHash']} is no longer part of the chain")
    index = int(receipt["transactionIndex"], 16)
    entry: dict[str, Any] = {
        "blockHash": receipt["blockHash"],
        "index": index,
        "transaction": _hex(_raw_transaction(chain, block["transactions"][index])),
        "receipt": _hex(encode_receipt(receipt)),
        "proof": None,
        "unproven": None,
    }
    try:
        header = encode_header(block)
        if _hex(keccak256(header)) != receipt["blockHash"]:
            raise Unproven("block headers of this chain do not hash to their block hashes as Ethereum's do")
        raws = [_raw_transaction(chain, one) for one in block["transactions"]]
        receipts = [encode_receipt(one) for one in _receipts(chain, block)]
        entry["proof"] = {
            "header": _hex(header),
            "transaction": _proof(raws, index, block["transactionsRoot"], "transactions"),
            "receipt": _proof(receipts, index, block["receiptsRoot"], "receipts"),
        }
    except Unproven as why:
        entry["unproven"] = str(why)
    return entry


def _proof(values: Sequence[bytes], index: int, root: str, what: str) -> list[str]:
    trie = Trie({verify.rlp_encode(verify.big_endian(i)): value for i, value in enumerate(values)})
    if _hex(trie.root) != root:
        raise Unproven(f"the {what} of the block, encoded as Ethereum's, do not hash to its {what} root")
    return [_hex(node) for node in trie.proof(verify.rlp_encode(verify.big_endian(index)))]


def _receipts(chain: ChainView, block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    try:
        receipts = chain.request("eth_getBlockReceipts", block["hash"])
        if receipts is not None and len(receipts) == len(block["transactions"]):
            return list(receipts)
    except ChainError:
        pass  # not every node has this call: ask one by one
    one_by_one = [chain.request("eth_getTransactionReceipt", one["hash"]) for one in block["transactions"]]
    if None in one_by_one:
        raise Unproven("the node does not give every receipt of the block")
    return one_by_one


def _raw_transaction(chain: ChainView, transaction: Mapping[str, Any]) -> bytes:
    """Signed bytes of a transaction: from its fields, or from the node where they do not lead to its hash."""
    try:
        raw = encode_transaction(transaction)
        if _hex(keccak256(raw)) == transaction["hash"]:
            return raw
    except (KeyError, ValueError):
        pass  # a type of its own, as some chains have
    for method in ("eth_getRawTransactionByHash", "debug_getRawTransaction"):
        try:
            raw = bytes.fromhex(str(chain.request(method, transaction["hash"])).removeprefix("0x"))
        except (ChainError, ValueError):
            continue
        if _hex(keccak256(raw)) == transaction["hash"]:
            return raw
    raise ChainError(f"the node does not give the signed bytes of transaction {transaction['hash']}")


# -- encodings ---------------------------------------------------------------------------------------------------------


def encode_header(block: Mapping[str, Any]) -> bytes:
    """RLP of a block header from its JSON-RPC fields, with as many of the later forks' fields as it has."""
    names = [name for name in _HEADER if block.get(name) is not None]
    if names != _HEADER[: len(names)] or len(names) < len(_PLACE + _WORK):
        raise Unproven("block headers of this chain have not the fields of Ethereum's")
    return verify.rlp_encode([_field(name, block[name]) for name in names])


def encode_transaction(transaction: Mapping[str, Any]) -> bytes:
    """Signed bytes of a transaction of type 0 to 4 from its JSON-RPC fields; KeyError for another type."""
    kind = int(transaction.get("type") or "0x0", 16)
    fields = [
        _field(name, _yparity(transaction) if name == "yParity" else transaction[name]) for name in _TRANSACTION[kind]
    ]
    return (bytes((kind,)) if kind else b"") + verify.rlp_encode(fields)


def encode_receipt(receipt: Mapping[str, Any]) -> bytes:
    """A receipt as the receipts trie holds it, from its JSON-RPC fields (after Byzantium: with a status)."""
    kind = int(receipt.get("type") or "0x0", 16)
    logs = [
        [_bytes(log["address"]), [_bytes(topic) for topic in log["topics"]], _bytes(log["data"])]
        for log in receipt["logs"]
    ]
    fields = [_number(receipt["status"]), _number(receipt["cumulativeGasUsed"]), _bytes(receipt["logsBloom"]), logs]
    return (bytes((kind,)) if kind else b"") + verify.rlp_encode(fields)


def _yparity(transaction: Mapping[str, Any]) -> str:
    return str(transaction.get("yParity") or transaction["v"])


def _field(name: str, value: Any) -> Any:
    if name == "accessList":
        return [[_bytes(one["address"]), [_bytes(key) for key in one["storageKeys"]]] for one in value]
    if name == "blobVersionedHashes":
        return [_bytes(one) for one in value]
    if name == "authorizationList":
        return [
            [
                _number(one["chainId"]),
                _bytes(one["address"]),
                _number(one["nonce"]),
                _number(_yparity(one)),
                _number(one["r"]),
                _number(one["s"]),
            ]
            for one in value
        ]
    if name == "nonce" and len(value) == 18:
        return _bytes(value)  # a header's nonce is eight bytes, a transaction's a number
    if name == "to" and value is None:
        return b""
    return _bytes(value) if name in _BYTES else _number(value)


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))


def _number(value: str) -> bytes:
    return verify.big_endian(int(value, 16))


class Trie:
    """A Merkle-Patricia trie over all of its pairs at once (Ethereum yellow paper, appendix D). Not empty."""

    def __init__(self, pairs: Mapping[bytes, bytes]):
        self._nodes: dict[bytes, bytes] = {}
        items = sorted((tuple(verify.nibbles(key)), value) for key, value in pairs.items())
        top = verify.rlp_encode(self._node(items, 0))
        self.root = keccak256(top)
        self._nodes[self.root] = top

    def proof(self, key: bytes) -> list[bytes]:
        """The nodes from the root to ``key``, those left out that stand inside their parent."""
        path, found, node = verify.nibbles(key), [], self.root
        while True:
            if isinstance(node, bytes):
                found.append(self._nodes[node])
                node = verify.rlp_decode(found[-1])
            if len(node) == 17:
                if not path:
                    return found
                node = node[path.pop(0)]
                continue
            part = verify.nibbles(node[0])
            if part[0] & 2:
                return found
            path = path[len(part) - (1 if part[0] & 1 else 2) :]  # part begins with its flags
            node = node[1]

    def _node(self, items: list[tuple[tuple[int, ...], bytes]], depth: int) -> list[Any]:
        first, last = items[0][0], items[-1][0]
        if len(items) == 1:
            return [_compact(first[depth:], leaf=True), items[0][1]]
        # Sorted keys share what the first and the last share.
        shared = next((i for i in range(depth, len(first)) if i >= len(last) or first[i] != last[i]), len(first))
        if shared > depth:
            return [_compact(first[depth:shared], leaf=False), self._reference(items, shared)]
        branch: list[Any] = [b""] * 17
        if len(first) == depth:
            branch[16], items = items[0][1], items[1:]
        for nibble in range(16):
            below = [item for item in items if item[0][depth] == nibble]
            if below:
                branch[nibble] = self._reference(below, depth + 1)
        return branch

    def _reference(self, items: list[tuple[tuple[int, ...], bytes]], depth: int) -> Any:
        """A node as its parent holds it: itself if shorter than a hash, else its hash."""
        node = self._node(items, depth)
        encoded = verify.rlp_encode(node)
        if len(encoded) < 32:
            return node
        self._nodes[keccak256(encoded)] = encoded
        return keccak256(encoded)


def _compact(nibbles: Sequence[int], *, leaf: bool) -> bytes:
    flag = 2 * leaf + len(nibbles) % 2
    return bytes.fromhex(f"{flag:x}" + ("" if flag & 1 else "0") + "".join(f"{nibble:x}" for nibble in nibbles))


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
