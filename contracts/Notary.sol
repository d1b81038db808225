// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {INotary} from "./interfaces/INotary.sol";
import {StatementLeaf} from "./StatementLeaf.sol";
import {Batch, BatchKind, BatchStatus, Notarization, Statement} from "./Types.sol";

/// @title What was measured, and who vouched for it
contract Notary is INotary, EIP712, AccessManaged {
    using Checkpoints for Checkpoints.Trace208;

    /// @dev What every notarization asks for, in one slot.
    struct State {
        uint16 epoch;
        uint8 threshold;
        bool paused;
    }

    struct SignerSet {
        address[] signers;
        uint8 threshold;
        uint40 since;
    }

    uint256 private constant MAX_SIGNERS = 32;
    bytes32 private constant BATCH_TYPEHASH = keccak256(
        "Batch(uint8 kind,uint16 signerEpoch,bytes32 head,bytes32 root,uint40 start,uint40 end,uint32 statements,uint64 energyWh,bytes32 archiveHash,uint40 deadline)"
    );

    State private _state;
    bytes32 private _head;
    mapping(bytes32 root => Notarization) private _notarizations;
    mapping(uint16 epoch => SignerSet) private _sets;
    mapping(uint16 epoch => mapping(address signer => bool)) private _isSigner;
    Checkpoints.Trace208 private _epochs; // time => epoch

    constructor(address authority, address[] memory signers, uint8 threshold)
        EIP712("Wattmark Notary", "1")
        AccessManaged(authority)
    {
        _startEpoch(signers, threshold);
    }

    // -- notarizing ----------------------------------------------------------------------------------

    /// @inheritdoc INotary
    function notarize(Batch calldata batch, bytes[] calldata signatures) external {
        State memory state = _state;
        if (state.paused) revert Paused();
        _checkBatch(batch, state.epoch);
        bytes32 previousHead = _checkHead(batch);

        bytes32 batchDigest = digest(batch);
        address[] memory signers = _recover(state, batchDigest, signatures);

        bytes32 newHead;
        if (batch.kind == BatchKind.FINAL) {
            newHead = keccak256(abi.encodePacked(previousHead, batchDigest));
            _head = newHead;
        }
        _notarizations[batch.root] = Notarization({
            notarizedAt: uint40(block.timestamp),
            start: batch.start,
            end: batch.end,
            statements: batch.statements,
            energyWh: batch.energyWh,
            kind: batch.kind,
            status: BatchStatus.OPEN,
            signerEpoch: batch.signerEpoch
        });
        emit Notarized(batch.root, newHead, batch, signers);
    }

    /// @inheritdoc INotary
    function revoke(bytes32 root, string calldata reason) external restricted {
        Notarization storage record = _notarizations[root];
        if (record.status == BatchStatus.NONE) revert RootNotNotarized(root);
        if (record.status == BatchStatus.REVOKED) revert RootAlreadyRevoked(root);
        record.status = BatchStatus.REVOKED;
        emit Revoked(root, msg.sender, reason);
    }

    // -- signers and pause ---------------------------------------------------------------------------

    /// @inheritdoc INotary
    function setSigners(address[] calldata signers, uint8 threshold) external restricted {
        _startEpoch(signers, threshold);
    }

    /// @inheritdoc INotary
    function removeSigner(address signer, string calldata reason) external restricted {
        uint16 epoch = _state.epoch;
        if (!_isSigner[epoch][signer]) revert SignerNotAuthorised(epoch, signer);

        address[] memory current = _sets[epoch].signers;
        address[] memory remaining = new address[](current.length - 1);
        uint256 kept = 0;
        for (uint256 i = 0; i < current.length; ++i) {
            if (current[i] != signer) remaining[kept++] = current[i];
        }
        // Too few may be left to reach the threshold: then nothing is notarized until the administrator's new set.
        uint16 newEpoch = _putEpoch(remaining, _state.threshold);
        emit SignerRemoved(newEpoch, signer, reason);
    }

    /// @inheritdoc INotary
    function pause() external restricted {
        if (_state.paused) revert Paused();
        _state.paused = true;
        emit NotarizingPaused(msg.sender);
    }

    /// @inheritdoc INotary
    function unpause() external restricted {
        if (!_state.paused) revert NotPaused();
        _state.paused = false;
        emit NotarizingResumed(msg.sender);
    }

    // -- views ---------------------------------------------------------------------------------------

    /// @inheritdoc INotary
    function verify(bytes32 root, Statement calldata statement, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        return _notarizations[root].status == BatchStatus.OPEN
            && MerkleProof.verifyCalldata(proof, root, StatementLeaf.hash(statement));
    }

    /// @inheritdoc INotary
    function notarization(bytes32 root) external view returns (Notarization memory) {
        return _notarizations[root];
    }

    /// @inheritdoc INotary
    function issuable(bytes32 root) external view returns (uint40 start, uint40 end, uint64 energyWh) {
        Notarization memory record = _notarizations[root];
        if (record.kind != BatchKind.FINAL || record.status != BatchStatus.OPEN) revert RootNotIssuable(root);
        return (record.start, record.end, record.energyWh);
    }

    /// @inheritdoc INotary
    function head() external view returns (bytes32) {
        return _head;
    }

    /// @inheritdoc INotary
    function digest(Batch calldata batch) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(BATCH_TYPEHASH, batch)));
    }

    /// @inheritdoc INotary
    function paused() external view returns (bool) {
        return _state.paused;
    }

    /// @inheritdoc INotary
    function signerEpoch() external view returns (uint16) {
        return _state.epoch;
    }

    /// @inheritdoc INotary
    function signerSet(uint16 epoch)
        external
        view
        returns (address[] memory signers, uint8 threshold, uint40 since, uint40 until)
    {
        SignerSet storage set = _sets[epoch];
        (signers, threshold, since) = (set.signers, set.threshold, set.since);
        if (epoch < _state.epoch) until = _sets[epoch + 1].since;
    }

    /// @inheritdoc INotary
    function isSigner(uint16 epoch, address signer) external view returns (bool) {
        return _isSigner[epoch][signer];
    }

    /// @inheritdoc INotary
    function epochAt(uint40 time) external view returns (uint16) {
        return uint16(_epochs.upperLookupRecent(time));
    }

    // -- checks --------------------------------------------------------------------------------------

    function _checkBatch(Batch calldata batch, uint16 epoch) private view {
        if (batch.kind == BatchKind.NONE) revert BatchInvalid("kind");
        if (batch.root == 0) revert BatchInvalid("root");
        if (batch.statements == 0) revert BatchInvalid("statements");
        if (batch.start >= batch.end) revert BatchInvalid("start");
        if (batch.end > block.timestamp) revert PeriodNotEnded(batch.end, block.timestamp);
        if (batch.deadline < block.timestamp) revert DeadlinePassed(batch.deadline, block.timestamp);
        if (batch.signerEpoch != epoch) revert EpochNotCurrent(epoch, batch.signerEpoch);
        if (_notarizations[batch.root].status != BatchStatus.NONE) revert RootAlreadyNotarized(batch.root);
    }

    /// @dev INTERIM batches stand beside the chain: their head is zero.
    function _checkHead(Batch calldata batch) private view returns (bytes32 expected) {
        if (batch.kind == BatchKind.FINAL) expected = _head;
        if (batch.head != expected) revert HeadMismatch(expected, batch.head);
    }

    function _recover(State memory state, bytes32 batchDigest, bytes[] calldata signatures)
        private
        view
        returns (address[] memory signers)
    {
        uint256 count = signatures.length;
        if (count < state.threshold) revert TooFewSignatures(count, state.threshold);
        signers = new address[](count);
        mapping(address signer => bool) storage isSigner_ = _isSigner[state.epoch];
        address previous = address(0);
        for (uint256 i = 0; i < count; ++i) {
            address signer = ECDSA.recoverCalldata(batchDigest, signatures[i]);
            if (signer <= previous) revert SignersNotSorted(previous, signer);
            if (!isSigner_[signer]) revert SignerNotAuthorised(state.epoch, signer);
            signers[i] = signer;
            previous = signer;
        }
    }

    // -- epochs --------------------------------------------------------------------------------------

    function _startEpoch(address[] memory signers, uint8 threshold) private {
        uint256 count = signers.length;
        if (threshold == 0 || threshold > count || count > MAX_SIGNERS) revert SignerSetInvalid(count, threshold);
        address previous = address(0);
        for (uint256 i = 0; i < count; ++i) {
            if (signers[i] <= previous) revert SignersNotSorted(previous, signers[i]);
            previous = signers[i];
        }
        _putEpoch(signers, threshold);
    }

    function _putEpoch(address[] memory signers, uint8 threshold) private returns (uint16 epoch) {
        epoch = _state.epoch + 1;
        _state.epoch = epoch;
        _state.threshold = threshold;
        _sets[epoch] = SignerSet({signers: signers, threshold: threshold, since: uint40(block.timestamp)});
        for (uint256 i = 0; i < signers.length; ++i) {
            _isSigner[epoch][signers[i]] = true;
        }
        _epochs.push(uint48(block.timestamp), epoch);
        emit SignersSet(epoch, threshold, signers);
    }
}
