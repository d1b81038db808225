// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {RetirementDetails, Statement} from "../Types.sol";

/// @title kWh certificates, 1 unit = 1 Wh
/// @notice Certificates are materialised from notarized statements; the id tells device, start and duration.
interface IEnergyCertificate {
    /// @notice `id` was certified from `root`; `account` got energyWh less what settled a debt or was retired at once.
    event Issued(
        uint256 indexed id, bytes32 indexed root, address indexed account, uint64 energyWh, bytes32 profileHash
    );
    /// @notice `amountWh` of `id` went against the device's debt instead of to `account`; `debtWh` is left.
    event Settled(uint256 indexed id, address indexed account, uint64 amountWh, uint64 debtWh);
    /// @notice An item of `issueMany` was left out because a slot of it is certified already.
    event SkippedCertified(uint256 indexed id, bytes32 indexed root);
    /// @notice An item of `issueMany` was left out because `account` refused the token.
    event SkippedRefused(uint256 indexed id, bytes32 indexed root, address indexed account);
    /// @notice The statement of `id` stands at `version` with `energyWh` instead of `previousWh`.
    event Corrected(
        uint256 indexed id, bytes32 indexed root, uint32 version, uint64 previousWh, uint64 energyWh, bytes32 profileHash
    );
    /// @notice A correction downwards of `id` became debt; `debtWh` is the device's total.
    event DebtIncurred(uint256 indexed id, uint64 indexed deviceId, uint64 amountWh, uint64 debtWh);
    /// @notice Certificates left circulation because they became a mitigation outcome.
    event Consumed(address indexed account, uint256[] ids, uint256[] amounts);
    event ConverterBound(address indexed converter);
    event IssuingPaused(address indexed by);
    event IssuingResumed(address indexed by);

    error ProofInvalid(bytes32 root);
    error NothingToIssue();
    error VersionNotZero(uint32 version);
    error NotEntitled(uint64 deviceId, address caller, address account);
    error PeriodOutsideBatch(bytes32 root, uint40 start, uint40 end);
    error SlotAlreadyCertified(uint64 deviceId, uint40 start);
    error BatchExhausted(bytes32 root, uint256 issuedWh, uint64 notarizedWh);
    error VersionDoesNotFollow(uint256 id, uint32 stored, uint32 given);
    error PreviousEnergyMismatch(uint256 id, uint64 stored, uint64 given);
    error NoDebt(uint64 deviceId);
    error AmountExceedsDebt(uint64 deviceId, uint256 amountWh, uint64 debtWh);
    error OnlyConverter(address caller);
    error OnlySelf(address caller);
    error ConverterAlreadyBound(address converter);
    /// @dev The contract does not name this one as the certificate it converts.
    error ConverterInvalid(address converter);
    /// @dev Too little gas to tell a refusing receiver from a starved one.
    error GasTooLow(uint256 gas, uint256 needed);
    error Paused();
    error NotPaused();

    /// @notice Issues the certificate of a version 0 statement to the account in force at its start. Anyone may call
    /// for a public device, only the account for a private one.
    function issue(bytes32 root, Statement calldata statement, bytes32[] calldata proof) external returns (uint256 id);

    /// @notice Issues several statements of one root, proven by one multi-proof (OpenZeppelin's MerkleProof; statements in
    /// the order it needs). Items already certified or refused by their receiver are skipped with an event.
    function issueMany(
        bytes32 root,
        Statement[] calldata statements,
        bytes32[] calldata proof,
        bool[] calldata proofFlags
    ) external;

    /// @notice Issues to the caller, who must be the entitled account, and retires it in the same call without a mint;
    /// where the id is issued already, retires the caller's balance of it, up to the statement's energy.
    function issueAndRetire(
        bytes32 root,
        Statement calldata statement,
        bytes32[] calldata proof,
        RetirementDetails calldata details
    ) external returns (uint256 number);

    /// @notice Applies a statement with the next version. More energy: the rest is minted after debts are netted; less: debt.
    function correct(bytes32 root, Statement calldata statement, bytes32[] calldata proof) external;

    /// @notice Uses up the caller's certificates of a device to pay that device's debt.
    function settleDebt(uint256 id, uint256 amountWh) external;

    /// @notice Takes certificates out of circulation for a conversion. Only the bound converter calls it.
    function consume(address account, uint256[] calldata ids, uint256[] calldata amounts) external;

    /// @notice Binds the contract that may call `consume`; once. Role: administrator.
    function bindConverter(address converter) external;

    /// @notice Stops issuing and correcting. Role: guardian. Transfers and retirements go on.
    function pause() external;

    /// @notice Lets issuing go on. Role: administrator, delayed.
    function unpause() external;

    function paused() external view returns (bool);

    /// @notice The registry whose devices are certified.
    function registry() external view returns (address);

    /// @notice The notary whose roots are issued from.
    function notary() external view returns (address);

    /// @notice The contract that may call `consume`; zero while unbound.
    function converter() external view returns (address);

    /// @notice Wh issued so far from `root`, never more than it notarized.
    function issuedFrom(bytes32 root) external view returns (uint256);

    /// @notice Wh the device owes.
    function debtOf(uint64 deviceId) external view returns (uint64);

    /// @notice Whether any slot of the period is certified, counted on the device's grid.
    function isCertified(uint64 deviceId, uint40 start, uint32 duration) external view returns (bool);

    /// @notice Whether a certificate with exactly this id, period and all, was issued; it need not be in circulation.
    function isIssued(uint256 id) external view returns (bool);

    /// @notice Last applied version of an id and the energy it stands at; zeros where never corrected.
    function correctionOf(uint256 id) external view returns (uint32 version, uint64 energyWh);
}
