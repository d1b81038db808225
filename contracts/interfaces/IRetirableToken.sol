// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {RetirementDetails} from "../Types.sol";

/// @title What happened to it
/// @notice Retiring ends a token for good, for a beneficiary and a purpose. Nothing undoes a retirement and
/// nobody can pause it.
/// @dev EIP-712 domain: the token's name, version "1", chain id, this contract. Signatures may be ECDSA or ERC-1271.
interface IRetirableToken {
    /// @notice Retirement `number` (running, from 1) of `amount` of `id` by `account`.
    event Retired(
        uint256 indexed number, address indexed account, uint256 indexed id, uint256 amount, RetirementDetails details
    );
    /// @notice Retirement `number` of several ids for one reason.
    event RetiredBatch(
        uint256 indexed number, address indexed account, uint256[] ids, uint256[] amounts, RetirementDetails details
    );
    /// @notice `account` made its signed but unused requests up to `nonce` void.
    event NonceCancelled(address indexed account, uint256 nonce);

    error AmountZero();
    error LengthsDiffer(uint256 ids, uint256 amounts);
    error DetailsInvalid(string field);
    error SignatureInvalid(address account);
    error SignatureExpired(uint256 deadline, uint256 time);

    /// @notice Retires `amount` of `id` from the caller. Returns the running number.
    function retire(uint256 id, uint256 amount, RetirementDetails calldata details) external returns (uint256 number);

    /// @notice Retires several ids from the caller for one reason, under one number.
    function retireBatch(uint256[] calldata ids, uint256[] calldata amounts, RetirementDetails calldata details)
        external
        returns (uint256 number);

    /// @notice Retires from `account` by its signature over
    /// `Retire(address account,uint256 id,uint256 amount,RetirementDetails details,uint256 nonce,uint256 deadline)`.
    function retireBySig(
        address account,
        uint256 id,
        uint256 amount,
        RetirementDetails calldata details,
        uint256 deadline,
        bytes calldata signature
    ) external returns (uint256 number);

    /// @notice As `retireBySig`, over
    /// `RetireBatch(address account,uint256[] ids,uint256[] amounts,RetirementDetails details,uint256 nonce,uint256 deadline)`.
    function retireBatchBySig(
        address account,
        uint256[] calldata ids,
        uint256[] calldata amounts,
        RetirementDetails calldata details,
        uint256 deadline,
        bytes calldata signature
    ) external returns (uint256 number);

    /// @notice Makes the caller's current nonce void.
    function cancelNonce() external;

    /// @notice What `account` has retired of `id`; never falls.
    function retiredOf(address account, uint256 id) external view returns (uint256);

    /// @notice Number of the last retirement.
    function retirementCount() external view returns (uint256);
}
