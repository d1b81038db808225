// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Arrays} from "@openzeppelin/contracts/utils/Arrays.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {CertifiedSlots} from "./CertifiedSlots.sol";
import {IDeviceRegistry} from "./interfaces/IDeviceRegistry.sol";
import {IEnergyCertificate} from "./interfaces/IEnergyCertificate.sol";
import {IMitigationOutcome} from "./interfaces/IMitigationOutcome.sol";
import {INotary} from "./interfaces/INotary.sol";
import {RetirableToken} from "./RetirableToken.sol";
import {StatementLeaf} from "./StatementLeaf.sol";
import {RetirementDetails, Statement} from "./Types.sol";

/// @title kWh certificates, 1 unit = 1 Wh
/// @dev For every id: sum of Issued.energyWh = balances + retired + consumed + sum of Settled.amountWh. Whatever
/// an act changes is written before the receiver of a mint is called.
contract EnergyCertificate is IEnergyCertificate, RetirableToken, AccessManaged {
    using CertifiedSlots for mapping(uint256 word => uint256);

    /// @dev What `correct` leaves of an id; absent where it was never corrected.
    struct Correction {
        uint32 version;
        uint64 energyWh;
    }

    /// @dev What a root may be issued for.
    struct Issuable {
        uint40 start;
        uint40 end;
        uint64 energyWh;
    }

    /// @dev A statement that passed its bounds.
    struct Admitted {
        uint256 id;
        address account;
        bool isPrivate;
        uint256 firstSlot; // on the device's grid
        uint256 slots;
    }

    /// @dev Certificates of one account that `issueMany` mints together.
    struct Run {
        address account;
        uint256 count;
        uint256[] ids;
        uint256[] amounts;
    }

    /// @dev For one item of `issueMany` to an account with code: some 215,000 for the item at worst (31 hourly days), the
    /// rest for its receiver.
    uint256 private constant ITEM_GAS = 300_000;

    IDeviceRegistry private immutable _registry;
    INotary private immutable _notary;

    address private _converter;
    bool private _paused;
    mapping(bytes32 root => uint256 wh) private _issuedFrom;
    mapping(uint64 deviceId => uint64 wh) private _debts;
    mapping(uint64 deviceId => mapping(uint256 word => uint256)) private _certified;
    mapping(uint256 id => Correction) private _corrections;

    constructor(address authority, address registry_, address notary_, string memory baseUri)
        RetirableToken("Wattmark Energy Certificate", baseUri)
        AccessManaged(authority)
    {
        _registry = IDeviceRegistry(registry_);
        _notary = INotary(notary_);
    }

    // -- issuing -------------------------------------------------------------------------------------

    /// @inheritdoc IEnergyCertificate
    function issue(bytes32 root, Statement memory statement, bytes32[] calldata proof)
        external
        returns (uint256 id)
    {
        Issuable memory batch = _issuable(root);
        _checkProof(root, statement, proof);
        Admitted memory admitted = _admitFirst(root, batch, statement);
        _checkCaller(statement.deviceId, admitted);
        _issueAndMint(root, batch.energyWh, statement, admitted);
        return admitted.id;
    }

    /// @inheritdoc IEnergyCertificate
    function issueMany(
        bytes32 root,
        Statement[] calldata statements,
        bytes32[] calldata proof,
        bool[] calldata proofFlags
    ) external {
        Issuable memory batch = _issuable(root);
        _checkMultiProof(root, statements, proof, proofFlags);

        Run memory run;
        run.ids = new uint256[](statements.length);
        run.amounts = new uint256[](statements.length);
        for (uint256 i = 0; i < statements.length; ++i) {
            _issueOneOfMany(root, batch, statements[i], run);
        }
        _mintRun(run);
    }

    /// @notice One item of `issueMany` for an account with code, alone in a call so that its failure undoes it whole.
    /// @dev Only this contract calls it.
    function issueItem(
        bytes32 root,
        uint64 notarizedWh,
        Statement memory statement,
        Admitted calldata admitted
    ) external {
        if (msg.sender != address(this)) revert OnlySelf(msg.sender);
        _issueAndMint(root, notarizedWh, statement, admitted);
    }

    /// @inheritdoc IEnergyCertificate
    function issueAndRetire(
        bytes32 root,
        Statement memory statement,
        bytes32[] calldata proof,
        RetirementDetails calldata details
    ) external returns (uint256 number) {
        uint256 id = _idOf(statement);
        uint256 balance = balanceOf(msg.sender, id);
        // Somebody else may have issued it a moment before: then the caller has it.
        if (balance != 0) return _retire(msg.sender, id, Math.min(balance, statement.energyWh), details);

        Issuable memory batch = _issuable(root);
        _checkProof(root, statement, proof);
        Admitted memory admitted = _admitFirst(root, batch, statement);
        if (msg.sender != admitted.account) {
            revert NotEntitled(statement.deviceId, msg.sender, admitted.account);
        }
        uint256 amount = _certify(root, batch.energyWh, statement, admitted);
        _checkAmount(amount);
        return _recordRetirement(msg.sender, id, amount, details);
    }

    // -- corrections and debts -----------------------------------------------------------------------

    /// @inheritdoc IEnergyCertificate
    /// @dev Anyone may correct what is issued, of private devices too: else the account could hold a shortfall back.
    /// What is not issued yet is issued by its correction, of private devices by their account alone.
    function correct(bytes32 root, Statement memory statement, bytes32[] calldata proof) external {
        Issuable memory batch = _issuable(root);
        _checkProof(root, statement, proof);
        Admitted memory admitted = _admit(root, batch, statement);

        Correction memory stored = _corrections[admitted.id];
        if (statement.version == 0 || statement.version - 1 != stored.version) {
            revert VersionDoesNotFollow(admitted.id, stored.version, statement.version);
        }
        if (stored.version != 0 && statement.previousWh != stored.energyWh) {
            revert PreviousEnergyMismatch(admitted.id, stored.energyWh, statement.previousWh);
        }
        _corrections[admitted.id] = Correction({version: statement.version, energyWh: statement.energyWh});

        uint256 minted = _applyCorrection(root, batch.energyWh, statement, admitted);
        emit Corrected(
            admitted.id, root, statement.version, statement.previousWh, statement.energyWh, statement.profileHash
        );
        if (minted != 0) _mint(admitted.account, admitted.id, minted, "");
    }

    /// @inheritdoc IEnergyCertificate
    function settleDebt(uint256 id, uint256 amountWh) external {
        _checkAmount(amountWh);
        uint64 deviceId = _deviceOf(id);
        uint64 debtWh = _debts[deviceId];
        if (debtWh == 0) revert NoDebt(deviceId);
        if (amountWh > debtWh) revert AmountExceedsDebt(deviceId, amountWh, debtWh);
        debtWh -= uint64(amountWh);
        _debts[deviceId] = debtWh;
        _burn(msg.sender, id, amountWh);
        emit Settled(id, msg.sender, uint64(amountWh), debtWh);
    }

    // -- conversion ----------------------------------------------------------------------------------

    /// @inheritdoc IEnergyCertificate
    function consume(address account, uint256[] calldata ids, uint256[] calldata amounts) external {
        if (msg.sender != _converter) revert OnlyConverter(msg.sender);
        _checkAmounts(ids, amounts);
        _burnBatch(account, ids, amounts);
        emit Consumed(account, ids, amounts);
    }

    /// @inheritdoc IEnergyCertificate
    function bindConverter(address converter_) external restricted {
        if (_converter != address(0)) revert ConverterAlreadyBound(_converter);
        if (IMitigationOutcome(converter_).certificate() != address(this)) revert ConverterInvalid(converter_);
        _converter = converter_;
        emit ConverterBound(converter_);
    }

    // -- pause ---------------------------------------------------------------------------------------

    /// @inheritdoc IEnergyCertificate
    function pause() external restricted {
        if (_paused) revert Paused();
        _paused = true;
        emit IssuingPaused(msg.sender);
    }

    /// @inheritdoc IEnergyCertificate
    function unpause() external restricted {
        if (!_paused) revert NotPaused();
        _paused = false;
        emit IssuingResumed(msg.sender);
    }

    // -- views ---------------------------------------------------------------------------------------

    /// @inheritdoc IEnergyCertificate
    function paused() external view returns (bool) {
        return _paused;
    }

    /// @inheritdoc IEnergyCertificate
    function registry() external view returns (address) {
        return address(_registry);
    }

    /// @inheritdoc IEnergyCertificate
    function notary() external view returns (address) {
        return address(_notary);
    }

    /// @inheritdoc IEnergyCertificate
    function converter() external view returns (address) {
        return _converter;
    }

    /// @inheritdoc IEnergyCertificate
    function issuedFrom(bytes32 root) external view returns (uint256) {
        return _issuedFrom[root];
    }

    /// @inheritdoc IEnergyCertificate
    function debtOf(uint64 deviceId) external view returns (uint64) {
        return _debts[deviceId];
    }

    /// @inheritdoc IEnergyCertificate
    function isCertified(uint64 deviceId, uint40 start, uint32 duration) external view returns (bool) {
        if (duration == 0) return false;
        uint256 granularity = _granularityOf(deviceId);
        uint256 first = start / granularity;
        uint256 end = Math.ceilDiv(uint256(start) + duration, granularity);
        return !_certified[deviceId].areFree(first, end - first);
    }

    /// @inheritdoc IEnergyCertificate
    function isIssued(uint256 id) external view returns (bool) {
        (uint64 deviceId, uint40 start, uint32 duration) = (_deviceOf(id), uint40(id >> 152), uint32(id >> 120));
        if (duration == 0 || uint120(id) != 0) return false;
        uint256 granularity = _granularityOf(deviceId);
        if (start % granularity != 0 || duration % granularity != 0) return false;
        return _certified[deviceId].isOneCertificate(start / granularity, duration / granularity);
    }

    /// @inheritdoc IEnergyCertificate
    function correctionOf(uint256 id) external view returns (uint32 version, uint64 energyWh) {
        Correction memory stored = _corrections[id];
        return (stored.version, stored.energyWh);
    }

    // -- checks --------------------------------------------------------------------------------------

    function _issuable(bytes32 root) private view returns (Issuable memory batch) {
        if (_paused) revert Paused();
        (batch.start, batch.end, batch.energyWh) = _notary.issuable(root);
    }

    function _checkProof(bytes32 root, Statement memory statement, bytes32[] calldata proof) private pure {
        if (!MerkleProof.verifyCalldata(proof, root, StatementLeaf.hash(statement))) revert ProofInvalid(root);
    }

    function _checkMultiProof(
        bytes32 root,
        Statement[] calldata statements,
        bytes32[] calldata proof,
        bool[] calldata proofFlags
    ) private pure {
        if (statements.length == 0) revert NothingToIssue();
        bytes32[] memory leaves = new bytes32[](statements.length);
        for (uint256 i = 0; i < statements.length; ++i) {
            leaves[i] = StatementLeaf.hash(statements[i]);
        }
        if (!MerkleProof.multiProofVerifyCalldata(proof, proofFlags, root, leaves)) revert ProofInvalid(root);
    }

    function _checkCaller(uint64 deviceId, Admitted memory admitted) private view {
        if (admitted.isPrivate && msg.sender != admitted.account) {
            revert NotEntitled(deviceId, msg.sender, admitted.account);
        }
    }

    function _admitFirst(bytes32 root, Issuable memory batch, Statement memory statement)
        private
        view
        returns (Admitted memory)
    {
        if (statement.version != 0) revert VersionNotZero(statement.version);
        return _admit(root, batch, statement);
    }

    /// @dev Inside its batch, and nothing but what its device may have generated.
    function _admit(bytes32 root, Issuable memory batch, Statement memory statement)
        private
        view
        returns (Admitted memory admitted)
    {
        uint256 granularity;
        (admitted.account, admitted.isPrivate, granularity) = _registry.admit(
            statement.deviceId,
            statement.start,
            statement.duration,
            // The energy before a correction is held to the same bound: it is what a shortfall is counted from.
            statement.energyWh > statement.previousWh ? statement.energyWh : statement.previousWh
        );
        uint40 end = statement.start + statement.duration;
        if (statement.start < batch.start || end > batch.end) revert PeriodOutsideBatch(root, statement.start, end);

        admitted.id = _idOf(statement);
        admitted.firstSlot = statement.start / granularity;
        admitted.slots = statement.duration / granularity;
    }

    // -- effects -------------------------------------------------------------------------------------

    /// @dev Certifies a version 0 and books its energy. Returns what is left for the account.
    function _certify(bytes32 root, uint64 notarizedWh, Statement memory statement, Admitted memory admitted)
        private
        returns (uint256 leftWh)
    {
        _takeSlots(statement, admitted);
        _count(root, notarizedWh, statement.energyWh);
        return _credit(root, statement, admitted, statement.energyWh);
    }

    function _issueAndMint(bytes32 root, uint64 notarizedWh, Statement memory statement, Admitted memory admitted)
        private
    {
        uint256 minted = _certify(root, notarizedWh, statement, admitted);
        if (minted != 0) _mint(admitted.account, admitted.id, minted, "");
    }

    function _takeSlots(Statement memory statement, Admitted memory admitted) private {
        if (!_certified[statement.deviceId].certify(admitted.firstSlot, admitted.slots)) {
            revert SlotAlreadyCertified(statement.deviceId, statement.start);
        }
    }

    /// @dev Never more from a root than it notarized.
    function _count(bytes32 root, uint64 notarizedWh, uint64 energyWh) private {
        _issuedFrom[root] = _issuedWith(root, notarizedWh, energyWh);
    }

    function _issuedWith(bytes32 root, uint64 notarizedWh, uint64 energyWh) private view returns (uint256 issuedWh) {
        issuedWh = _issuedFrom[root] + energyWh;
        if (issuedWh > notarizedWh) revert BatchExhausted(root, issuedWh, notarizedWh);
    }

    /// @dev Books `energyWh` as issued, first against the device's debt. Returns what is left for the account.
    function _credit(bytes32 root, Statement memory statement, Admitted memory admitted, uint64 energyWh)
        private
        returns (uint256 leftWh)
    {
        uint64 debtWh = _debts[statement.deviceId];
        uint64 settledWh = debtWh < energyWh ? debtWh : energyWh;
        if (settledWh != 0) _debts[statement.deviceId] = debtWh - settledWh;
        emit Issued(admitted.id, root, admitted.account, energyWh, statement.profileHash);
        if (settledWh != 0) emit Settled(admitted.id, admitted.account, settledWh, debtWh - settledWh);
        return energyWh - settledWh;
    }

    /// @dev What is issued: more is credited, a shortfall becomes debt. What is not: all of it is issued now, and the
    /// original with it, for its slots are taken. Returns what is left for the account.
    function _applyCorrection(
        bytes32 root,
        uint64 notarizedWh,
        Statement memory statement,
        Admitted memory admitted
    ) private returns (uint256 leftWh) {
        (uint64 energyWh, uint64 previousWh) = (statement.energyWh, statement.previousWh);
        if (energyWh > previousWh) _count(root, notarizedWh, energyWh - previousWh);
        if (!_certified[statement.deviceId].isOneCertificate(admitted.firstSlot, admitted.slots)) {
            _checkCaller(statement.deviceId, admitted);
            _takeSlots(statement, admitted);
            return _credit(root, statement, admitted, energyWh);
        }
        if (energyWh > previousWh) return _credit(root, statement, admitted, energyWh - previousWh);
        if (energyWh < previousWh) _incurDebt(admitted.id, statement.deviceId, previousWh - energyWh);
    }

    function _incurDebt(uint256 id, uint64 deviceId, uint64 shortfallWh) private {
        uint64 debtWh = _debts[deviceId] + shortfallWh;
        _debts[deviceId] = debtWh;
        emit DebtIncurred(id, deviceId, shortfallWh, debtWh);
    }

    // -- issuing many --------------------------------------------------------------------------------

    function _issueOneOfMany(
        bytes32 root,
        Issuable memory batch,
        Statement memory statement,
        Run memory run
    ) private {
        Admitted memory admitted = _admitFirst(root, batch, statement);
        _checkCaller(statement.deviceId, admitted);
        if (!_certified[statement.deviceId].areFree(admitted.firstSlot, admitted.slots)) {
            emit SkippedCertified(admitted.id, root);
            return;
        }
        if (run.account != admitted.account) {
            _mintRun(run);
            run.account = admitted.account;
        }
        if (admitted.account.code.length != 0) {
            _issueToCode(root, batch.energyWh, statement, admitted);
            return;
        }
        uint256 amount = _certify(root, batch.energyWh, statement, admitted);
        if (amount == 0) return;
        run.ids[run.count] = admitted.id;
        run.amounts[run.count] = amount;
        ++run.count;
    }

    /// @dev The receiver may revert, refuse or burn its gas: then this item is undone and the others go on.
    function _issueToCode(bytes32 root, uint64 notarizedWh, Statement memory statement, Admitted memory admitted)
        private
    {
        // An exhausted batch is not the receiver's refusal, and must not be logged as one.
        _issuedWith(root, notarizedWh, statement.energyWh);
        // A call gets at most 63/64 of the gas left: with less, the sender could starve an honest receiver.
        uint256 needed = ITEM_GAS + ITEM_GAS / 32;
        if (gasleft() < needed) revert GasTooLow(gasleft(), needed);
        try this.issueItem{gas: ITEM_GAS}(root, notarizedWh, statement, admitted) {}
        catch {
            emit SkippedRefused(admitted.id, root, admitted.account);
        }
    }

    /// @dev Accounts without code only, so nothing is called: what the run holds is minted before anybody else acts.
    function _mintRun(Run memory run) private {
        if (run.count == 0) return;
        uint256 count = run.count;
        run.count = 0;
        _mintBatch(run.account, Arrays.slice(run.ids, 0, count), Arrays.slice(run.amounts, 0, count), "");
    }

    // -- ids -----------------------------------------------------------------------------------------

    function _idOf(Statement memory statement) private pure returns (uint256) {
        return uint256(statement.deviceId) << 192 | uint256(statement.start) << 152 | uint256(statement.duration) << 120;
    }

    function _granularityOf(uint64 deviceId) private view returns (uint256) {
        return _registry.granularityOf(deviceId);
    }

    function _deviceOf(uint256 id) private pure returns (uint64) {
        return uint64(id >> 192);
    }
}
