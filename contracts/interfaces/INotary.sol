// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Batch, BatchKind, Notarization, Statement} from "../Types.sol";

/// @title What was measured, and who vouched for it
/// @notice One transaction notarizes the statements of any number of devices under one Merkle root, signed by
/// k of n witnesses of the current epoch.
/// @dev EIP-712 domain: name "Wattmark Notary", version "1", chain id, this contract.
interface INotary {
    /// @notice `root` was notarized. `signers` are sorted; `newHead` is zero for INTERIM batches.
    event Notarized(bytes32 indexed root, bytes32 indexed newHead, Batch batch, address[] signers);
    /// @notice Nothing more is issued from `root`; every check shows it revoked.
    event Revoked(bytes32 indexed root, address indexed by, string reason);
    /// @notice From `epoch` on, `signers` (sorted) vouch, `threshold` at a time.
    event SignersSet(uint16 indexed epoch, uint8 threshold, address[] signers);
    /// @notice `signer` no longer counts; `epoch` is the new epoch without it.
    event SignerRemoved(uint16 indexed epoch, address indexed signer, string reason);
    event NotarizingPaused(address indexed by);
    event NotarizingResumed(address indexed by);

    error RootAlreadyNotarized(bytes32 root);
    error RootNotNotarized(bytes32 root);
    error RootAlreadyRevoked(bytes32 root);
    error RootNotIssuable(bytes32 root);
    error BatchInvalid(string field);
    error HeadMismatch(bytes32 expected, bytes32 given);
    error DeadlinePassed(uint40 deadline, uint256 time);
    error PeriodNotEnded(uint40 end, uint256 time);
    error EpochNotCurrent(uint16 current, uint16 given);
    error TooFewSignatures(uint256 given, uint256 threshold);
    /// @dev Signers must be recovered in strictly rising order of address.
    error SignersNotSorted(address previous, address next);
    error SignerNotAuthorised(uint16 epoch, address signer);
    error SignerSetInvalid(uint256 signers, uint8 threshold);
    error Paused();
    error NotPaused();

    /// @notice Notarizes a batch; anyone may send it. Signatures are 65 bytes, in rising order of signer.
    function notarize(Batch calldata batch, bytes[] calldata signatures) external;

    /// @notice Stops all further issuance from `root`. Role: guardian.
    function revoke(bytes32 root, string calldata reason) external;

    /// @notice Starts a new epoch with these signers (sorted, distinct, at most 32). Role: administrator, delayed.
    function setSigners(address[] calldata signers, uint8 threshold) external;

    /// @notice Starts a new epoch without `signer`, the threshold unchanged. Role: guardian.
    function removeSigner(address signer, string calldata reason) external;

    /// @notice Stops notarizing. Role: guardian.
    function pause() external;

    /// @notice Lets notarizing go on. Role: administrator, delayed.
    function unpause() external;

    /// @notice Whether `statement` is in the notarized, not revoked batch `root`.
    function verify(bytes32 root, Statement calldata statement, bytes32[] calldata proof) external view returns (bool);

    /// @notice What is kept of `root`; all zero if it was never notarized.
    function notarization(bytes32 root) external view returns (Notarization memory);

    /// @notice What bounds the certificates of `root`. Reverts unless it is a FINAL batch that is not revoked.
    function issuable(bytes32 root) external view returns (uint40 start, uint40 end, uint64 energyWh);

    /// @notice Head of the chain of FINAL batches: keccak256(previous head, digest), zero before the first.
    function head() external view returns (bytes32);

    /// @notice The EIP-712 digest that witnesses sign for `batch`.
    function digest(Batch calldata batch) external view returns (bytes32);

    function paused() external view returns (bool);

    function signerEpoch() external view returns (uint16);

    /// @notice The signers of `epoch` (sorted), how many must sign, and from when to when it was current
    /// (`until` is zero for the current one).
    function signerSet(uint16 epoch)
        external
        view
        returns (address[] memory signers, uint8 threshold, uint40 since, uint40 until);

    /// @notice Whether `signer` belongs to `epoch`.
    function isSigner(uint16 epoch, address signer) external view returns (bool);

    /// @notice The epoch that was current at the end of the second `time`; 0 before the first.
    function epochAt(uint40 time) external view returns (uint16);
}
