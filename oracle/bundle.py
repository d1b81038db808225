"""Evidence bundles: a zip that proves one statement or one retirement without us. Format: docs/bundle.md.

A bundle is written from archive and chain alone and holds the stand-alone :mod:`oracle.verify`, whose zip, RLP and
JSON forms are used here, so that there is one of each. What a chain does not let us prove (headers that do not hash as
Ethereum's, transactions of unknown types) is left out and named, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import verify
from .archive import Archive, ArchivedStatement, read_archive, write_whole
from .chain import ChainView, Event
from .errors import ArchiveError, ChainError, ProtocolError
from .protocol import keccak256, manifest_bytes, parse_token_id, statement_leaf, token_id

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


def make_statement_bundle(
    chain: ChainView,
    archive: Archive,
    record: ArchivedStatement,
    path: Path,
    *,
    include_profile: bool | None = None,
) -> Path:
    """Write the bundle of a notarized statement to ``path`` and return it.

    ``include_profile`` adds profile and salts; None adds them for public devices only. The manifest and assessments of
    a private batch are never added, because they speak of other devices too. The same chain and archive give the same
    bytes.

    Raises ArchiveError if the archive is not what it was, ChainError if its root is not notarized.
    """
    transactions = _Transactions(chain)
    entry, members = _statement(chain, transactions, archive, record, include_profile)
    return _write(chain, path, [entry], transactions, members, None)


def make_retirement_bundle(
    chain: ChainView,
    archive_folder: Path,
    number: int,
    path: Path,
    *,
    include_profiles: bool | None = None,
) -> Path:
    """Write the bundle of retirement ``number`` of the EnergyCertificate, with the statements behind its certificates.

    A certificate that was corrected comes with every statement that stands behind it. ``include_profiles`` as in
    :func:`make_statement_bundle`. Raises ChainError if there is no such retirement, ArchiveError if the archive
    of a batch is missing or is not what it was.
    """
    transactions = _Transactions(chain)
    retired = _first(
        event
        for name in ("Retired", "RetiredBatch")
        for event in chain.events("EnergyCertificate", name, arguments={"number": number})
    )
    if retired is None:
        raise ChainError(f"there is no retirement {number} on chain {chain.config.chain_id}")
    transactions.add(retired)
    ids = [retired.values["id"]] if retired.name == "Retired" else retired.values["ids"]
    entries: list[dict[str, Any]] = []
    members: dict[str, bytes] = {}
    for certificate_id in sorted(set(ids)):
        for root, hashed in _roots_behind(chain, certificate_id):
            archive = read_archive(archive_folder, root)
            record = _record_behind(archive, certificate_id, hashed)
            entry, more = _statement(chain, transactions, archive, record, include_profiles)
            entries.append(entry)
            members |= more
    return _write(chain, path, entries, transactions, members, number)


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


def _statement(
    chain: ChainView,
    transactions: _Transactions,
    archive: Archive,
    record: ArchivedStatement,
    include_profile: bool | None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A statement as ``statements.json`` has it, and its archive's members; ``transactions`` gets what proves them."""
    manifest = manifest_bytes(archive.manifest)
    if archive.problem or keccak256(manifest) != archive.archive_hash:
        raise ArchiveError(archive.problem or "its manifest is not in canonical form", root=_hex(archive.root))
    notarized = chain.find_notarization(archive.root)
    if notarized is None:
        raise ChainError(f"root {_hex(archive.root)} is not notarized on chain {chain.config.chain_id}")
    transactions.add(notarized)
    epoch = notarized.batch.signer_epoch
    transactions.add(_first(chain.events("Notary", "SignersSet", None, notarized.block_number, {"epoch": epoch})))
    statement = record.statement
    for name in ("Issued", "Corrected"):
        filters = {"id": token_id(statement.device_id, statement.start, statement.duration), "root": archive.root}
        for event in chain.events("EnergyCertificate", name, notarized.block_number, None, filters):
            transactions.add(event)

    public = archive.manifest.get("visibility") == "public"
    members = {}
    if public:
        members[f"archives/{archive.root.hex()}.json"] = manifest
        assessments = "\n".join(one.assessment for one in archive.records).encode()
        if len(assessments) <= MAX_ASSESSMENTS_BYTES:
            members[f"archives/{archive.root.hex()}.assessments"] = assessments
    shown = public if include_profile is None else include_profile
    salts = [_hex(record.salts[at : at + 32]) for at in range(0, len(record.salts), 32)]
    entry = {
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
    return entry, members


def _write(
    chain: ChainView,
    path: Path,
    statements: list[dict[str, Any]],
    transactions: _Transactions,
    members: dict[str, bytes],
    retirement: int | None,
) -> Path:
    members = members | {
        "statements.json": verify.canonical(statements),
        "transactions.json": verify.canonical(transactions.entries()),
        "verify.py": Path(verify.__file__).read_bytes(),
    }
    manifest = {
        "schema": verify.SCHEMA,
        "chainId": chain.config.chain_id,
        "contracts": {
            name: {"address": one.address.lower(), "codeHash": _hex(one.code_hash)}
            for name, one in chain.book.contracts.items()
        },
        "retirement": None if retirement is None else str(retirement),
        "members": {name: verify.stated(content) for name, content in members.items()},
    }
    manifest["seal"] = verify.seal(manifest)
    packed = verify.pack_zip(members | {"manifest.json": verify.canonical(manifest)})
    if len(packed) > verify.MAX_BYTES:
        raise ProtocolError(f"the bundle would have {len(packed)} bytes; at most {verify.MAX_BYTES} can be verified")
    write_whole(path, packed)
    return path


# -- transactions and their proofs -------------------------------------------------------------------------------------


class _Transactions:
    """The transactions of a bundle, each once, each with its proof."""

    def __init__(self, chain: ChainView):
        self._chain = chain
        self._found: dict[bytes, dict[str, Any]] = {}

    def add(self, event: Any) -> None:
        """Prove the transaction that ``event`` (anything with ``transaction``, a hash) came from; None adds nothing."""
        if event is not None and event.transaction not in self._found:
            self._found[event.transaction] = proven_transaction(self._chain, event.transaction)

    def entries(self) -> list[dict[str, Any]]:
        return list(self._found.values())


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


def _first(events: Iterable[Event]) -> Event | None:
    return next(iter(events), None)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
