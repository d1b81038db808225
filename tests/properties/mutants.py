"""Bugs to plant into copies of the contracts: each must be caught, by the machine that is named."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from scripts import compile as compiler

from . import machines
from .bed import CONTRACTS, ROOT


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`. `invariant` (a pattern) fails then even without the model, where one does."""

    name: str
    machine: type
    file: str
    old: str
    new: str
    invariant: str = ""

    def artifacts(self, folder: Path) -> dict[str, dict]:
        """Compiled from a copy of the contracts in `folder`. Raises ValueError if `old` is not there exactly once."""
        shutil.copytree(ROOT / "contracts", folder / "contracts")
        shutil.copy(ROOT / "package-lock.json", folder)
        (folder / ".wattmark").symlink_to(compiler.STATE)
        path = folder / "contracts" / self.file
        source = path.read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {source.count(self.old)} times {self.old!r}")
        path.write_text(source.replace(self.old, self.new), encoding="utf-8")
        output = compiler.compile_contracts(folder, compiler.STATE)
        return {name: compiler.artifact(output, name) for name in CONTRACTS}


CERTIFICATE, TOKEN, OUTCOME = "EnergyCertificate.sol", "RetirableToken.sol", "MitigationOutcome.sol"
REGISTRY, NOTARY, SLOTS, FACTORS = "DeviceRegistry.sol", "Notary.sol", "CertifiedSlots.sol", "EmissionFactors.sol"

MUTANTS = (
    Mutant(
        "more than notarized",
        machines.Issuing,
        CERTIFICATE,
        "if (issuedWh > notarizedWh) revert",
        "if (false) revert",
        "issued <= notarized",
    ),
    Mutant(
        "slots not marked",
        machines.Issuing,
        SLOTS,
        "words[first / SLOTS_PER_WORD] = word | (mask & CERTIFIED_BITS) | begins;",
        "begins = 0;",
        "a slot is certified once",
    ),
    Mutant(
        "slots after a word's border not looked at",
        machines.Issuing,
        SLOTS,
        "if (word & mask != 0) return false;",
        "if (begins != 0 && word & mask != 0) return false;",
        "a slot is certified once",
    ),
    Mutant(
        "debt paid and minted",
        machines.Correcting,
        CERTIFICATE,
        "return energyWh - settledWh;",
        "return energyWh;",
        "conservation(, inside| of certificates)",
    ),
    Mutant(
        "debt not netted",
        machines.Correcting,
        CERTIFICATE,
        "uint64 settledWh = debtWh < energyWh ? debtWh : energyWh;",
        "uint64 settledWh = 0;",
    ),
    Mutant(
        "debt forgotten by account changes",
        machines.Correcting,
        REGISTRY,
        'if (account == address(0)) revert DeviceFieldInvalid(deviceId, "account");\n        _refuseDebt(deviceId);',
        'if (account == address(0)) revert DeviceFieldInvalid(deviceId, "account");',
    ),
    Mutant(
        "version not checked",
        machines.Correcting,
        CERTIFICATE,
        "if (statement.version == 0 || statement.version - 1 != stored.version) {",
        "if (statement.version == 0) {",
    ),
    Mutant(
        "energy before not checked",
        machines.Correcting,
        CERTIFICATE,
        "if (stored.version != 0 && statement.previousWh != stored.energyWh) {",
        "if (false) {",
    ),
    Mutant(
        "correction not counted",
        machines.Correcting,
        CERTIFICATE,
        "if (energyWh > previousWh) _count(root, notarizedWh, energyWh - previousWh);",
        "",
    ),
    Mutant(
        "settled without a burn",
        machines.Correcting,
        CERTIFICATE,
        "_burn(msg.sender, id, amountWh);",
        "",
        "conservation(, inside| of certificates)",
    ),
    Mutant(
        "retired without a burn",
        machines.Holding,
        TOKEN,
        "_burn(account, id, amount);\n",
        "",
        "conservation",
    ),
    Mutant(
        "retired overwritten",
        machines.Holding,
        TOKEN,
        "_retired[id][account] += amount;",
        "_retired[id][account] = amount;",
        "conservation",
    ),
    Mutant(
        "retirement undone",
        machines.Holding,
        TOKEN,
        "    // -- own affairs",
        """    function _update(address from, address to, uint256[] memory ids, uint256[] memory values) internal override {
        super._update(from, to, ids, values);
        if (from != to || ids.length != 1) return;
        uint256[] memory back = new uint256[](1);
        back[0] = _retired[ids[0]][to];
        _retired[ids[0]][to] = 0;
        super._update(address(0), to, ids, back);
    }

    // -- own affairs""",
        "retired never falls",
    ),
    Mutant(
        "batch not numbered",
        machines.Holding,
        TOKEN,
        "number = ++_retirementCount;\n        emit RetiredBatch",
        "number = _retirementCount;\n        emit RetiredBatch",
        "retirements are numbered one after another",
    ),
    Mutant(
        "nonce not used up",
        machines.Holding,
        TOKEN,
        "RETIRE_TYPEHASH, account, id, amount, _hashDetails(details), _useNonce(account), deadline",
        "RETIRE_TYPEHASH, account, id, amount, _hashDetails(details), nonces(account), deadline",
    ),
    Mutant(
        "anybody moves tokens",
        machines.Holding,
        TOKEN,
        "    // -- own affairs",
        "    function _checkAuthorized(address, address) internal view override {}\n\n    // -- own affairs",
        "only the holder moves tokens",
    ),
    Mutant(
        "converted without a burn",
        machines.Converting,
        CERTIFICATE,
        "_burnBatch(account, ids, amounts);\n",
        "",
        "conservation(, inside| of certificates)",
    ),
    Mutant(
        "anybody consumes",
        machines.Converting,
        CERTIFICATE,
        "if (msg.sender != _converter) revert OnlyConverter(msg.sender);",
        "",
    ),
    Mutant(
        "levy not taken off",
        machines.Converting,
        OUTCOME,
        "grams[i] -= shareG + mitigationG;",
        "grams[i] -= shareG;",
        "grams go to the converter and the share of proceeds",
    ),
    Mutant(
        "authorised cap not kept",
        machines.Converting,
        OUTCOME,
        "terms.convertedG = uint64(convertedG);",
        "",
        "authorised cap",
    ),
    Mutant(
        "old factor used",
        machines.Converting,
        FACTORS,
        "        _current[gridZone][year] = factorId;",
        "        if (_current[gridZone][year] == 0) _current[gridZone][year] = factorId;",
    ),
    Mutant(
        "retired before its first transfer",
        machines.Converting,
        OUTCOME,
        "if (state < AuthorisationState.FIRST_TRANSFERRED) revert",
        "if (false) revert",
        "used after its first transfer",
    ),
    Mutant(
        "account of today paid",
        machines.Issuing,
        REGISTRY,
        "if (latest.since <= time) return latest;",
        "if (latest.since <= time || record.earlier.length != 0) return latest;",
        "the account at the start is paid",
    ),
    Mutant(
        "account at a change is the one before it",
        machines.Issuing,
        REGISTRY,
        "if (record.earlier[middle].since <= time) low = middle;",
        "if (record.earlier[middle].since < time) low = middle;",
        "the account at the start is paid",
    ),
    Mutant(
        "meter used twice",
        machines.Registering,
        REGISTRY,
        "if (activeFrom < activeUntil) revert MeterInUse",
        "if (false) revert MeterInUse",
    ),
    Mutant(
        "a signature short",
        machines.Notarizing,
        NOTARY,
        "if (count < state.threshold) revert",
        "if (count + 1 < state.threshold) revert",
    ),
    Mutant(
        "one witness signs twice",
        machines.Notarizing,
        NOTARY,
        "if (signer <= previous) revert SignersNotSorted(previous, signer);",
        "if (signer < previous) revert SignersNotSorted(previous, signer);",
    ),
    Mutant(
        "revoked root issued from",
        machines.Issuing,
        NOTARY,
        "if (record.kind != BatchKind.FINAL || record.status != BatchStatus.OPEN) revert",
        "if (record.kind != BatchKind.FINAL) revert",
    ),
    Mutant(
        "anybody publishes factors",
        machines.Governing,
        FACTORS,
        "        string calldata source\n    ) external restricted returns (uint32 factorId) {",
        "        string calldata source\n    ) external returns (uint32 factorId) {",
        "only who has the role acts",
    ),
    Mutant(
        "counted after the receiver was called",
        machines.Reentering,
        CERTIFICATE,
        "        uint256 minted = _certify(root, notarizedWh, statement, admitted);\n"
        '        if (minted != 0) _mint(admitted.account, admitted.id, minted, "");',
        "        uint256 owedWh = _debts[statement.deviceId];\n"
        "        if (owedWh < statement.energyWh) {\n"
        '            _mint(admitted.account, admitted.id, statement.energyWh - owedWh, "");\n        }\n'
        "        _certify(root, notarizedWh, statement, admitted);",
        "conservation, inside a callback",
    ),
    Mutant(
        "converter bound again",
        machines.Governing,
        CERTIFICATE,
        "if (_converter != address(0)) revert ConverterAlreadyBound(_converter);",
        "",
    ),
    Mutant(
        "converted after the first transfer",
        machines.Converting,
        OUTCOME,
        "if (state != AuthorisationState.AUTHORISED) revert",
        "if (state > AuthorisationState.FIRST_TRANSFERRED) revert",
        "converted while authorised",
    ),
    Mutant(
        "converted when all is completed",
        machines.Converting,
        OUTCOME,
        "if (state != AuthorisationState.AUTHORISED) revert",
        "if (state > AuthorisationState.AUTHORISED && state < AuthorisationState.COMPLETED) revert",
        "converted while authorised",
    ),
    Mutant(
        "levy rounded down",
        machines.Converting,
        OUTCOME,
        "uint256 shareG = Math.ceilDiv(grams[i] * proceedsBps, BPS);",
        "uint256 shareG = grams[i] * proceedsBps / BPS;",
        "levies are rounded up",
    ),
    Mutant(
        "a state skipped",
        machines.Converting,
        OUTCOME,
        "if (uint8(known.state) + 1 != uint8(next)) revert",
        "if (uint8(known.state) >= uint8(next)) revert",
        "states move one at a time",
    ),
)
