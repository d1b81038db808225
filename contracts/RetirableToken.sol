// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC1155} from "@openzeppelin/contracts/token/ERC1155/ERC1155.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

import {IRetirableToken} from "./interfaces/IRetirableToken.sol";
import {RetirementDetails} from "./Types.sol";

/// @title What happened to it
/// @dev Token metadata: `uri` is the base URI given at deployment and "{id}.json", to be filled in as ERC-1155 says.
abstract contract RetirableToken is ERC1155, EIP712, Nonces, IRetirableToken {
    string private constant DETAILS_TYPE =
        "RetirementDetails(address beneficiary,string beneficiaryName,string purpose,bytes2 country,string location,uint40 consumptionStart,uint40 consumptionEnd)";
    bytes32 private constant DETAILS_TYPEHASH = keccak256(bytes(DETAILS_TYPE));
    bytes32 private constant RETIRE_TYPEHASH = keccak256(
        abi.encodePacked(
            "Retire(address account,uint256 id,uint256 amount,RetirementDetails details,uint256 nonce,uint256 deadline)",
            DETAILS_TYPE
        )
    );
    bytes32 private constant RETIRE_BATCH_TYPEHASH = keccak256(
        abi.encodePacked(
            "RetireBatch(address account,uint256[] ids,uint256[] amounts,RetirementDetails details,uint256 nonce,uint256 deadline)",
            DETAILS_TYPE
        )
    );

    mapping(uint256 id => mapping(address account => uint256 amount)) private _retired;
    uint256 private _retirementCount;

    constructor(string memory name, string memory baseUri)
        ERC1155(string.concat(baseUri, "{id}.json"))
        EIP712(name, "1")
    {}

    // -- retiring ------------------------------------------------------------------------------------

    /// @inheritdoc IRetirableToken
    function retire(uint256 id, uint256 amount, RetirementDetails calldata details)
        external
        returns (uint256 number)
    {
        return _retire(msg.sender, id, amount, details);
    }

    /// @inheritdoc IRetirableToken
    function retireBatch(uint256[] calldata ids, uint256[] calldata amounts, RetirementDetails calldata details)
        external
        returns (uint256 number)
    {
        return _retireBatch(msg.sender, ids, amounts, details);
    }

    /// @inheritdoc IRetirableToken
    function retireBySig(
        address account,
        uint256 id,
        uint256 amount,
        RetirementDetails calldata details,
        uint256 deadline,
        bytes calldata signature
    ) external returns (uint256 number) {
        bytes32 structHash = keccak256(
            abi.encode(
                RETIRE_TYPEHASH, account, id, amount, _hashDetails(details), _useNonce(account), deadline
            )
        );
        _checkSignature(account, structHash, deadline, signature);
        return _retire(account, id, amount, details);
    }

    /// @inheritdoc IRetirableToken
    function retireBatchBySig(
        address account,
        uint256[] calldata ids,
        uint256[] calldata amounts,
        RetirementDetails calldata details,
        uint256 deadline,
        bytes calldata signature
    ) external returns (uint256 number) {
        bytes32 structHash = _hashBatch(account, _hashList(ids), _hashList(amounts), _hashDetails(details), deadline);
        _checkSignature(account, structHash, deadline, signature);
        return _retireBatch(account, ids, amounts, details);
    }

    /// @inheritdoc IRetirableToken
    function cancelNonce() external {
        emit NonceCancelled(msg.sender, _useNonce(msg.sender));
    }

    // -- views ---------------------------------------------------------------------------------------

    /// @inheritdoc IRetirableToken
    function retiredOf(address account, uint256 id) external view returns (uint256) {
        return _retired[id][account];
    }

    /// @inheritdoc IRetirableToken
    function retirementCount() external view returns (uint256) {
        return _retirementCount;
    }

    // -- for the tokens ------------------------------------------------------------------------------

    /// @dev Where a token refuses that `id` is retired now.
    function _checkRetirable(uint256 id) internal view virtual {}

    /// @dev Takes `amount` of `id` from the balance of `account` and retires it.
    function _retire(address account, uint256 id, uint256 amount, RetirementDetails calldata details)
        internal
        returns (uint256 number)
    {
        _checkAmount(amount);
        _checkRetirable(id);
        _burn(account, id, amount);
        return _recordRetirement(account, id, amount, details);
    }

    /// @dev Books a retirement of what is, or never was, in the balance of `account`.
    function _recordRetirement(address account, uint256 id, uint256 amount, RetirementDetails calldata details)
        internal
        returns (uint256 number)
    {
        _checkDetails(details);
        _addRetired(account, id, amount);
        number = ++_retirementCount;
        emit Retired(number, account, id, amount, details);
    }

    function _addRetired(address account, uint256 id, uint256 amount) internal {
        _retired[id][account] += amount;
    }

    function _checkAmount(uint256 amount) internal pure {
        if (amount == 0) revert AmountZero();
    }

    /// @dev As many amounts as ids, none of them zero, at least one.
    function _checkAmounts(uint256[] calldata ids, uint256[] calldata amounts) internal pure {
        if (ids.length != amounts.length) revert LengthsDiffer(ids.length, amounts.length);
        if (ids.length == 0) revert AmountZero();
        for (uint256 i = 0; i < amounts.length; ++i) {
            _checkAmount(amounts[i]);
        }
    }

    // -- own affairs ---------------------------------------------------------------------------------

    function _retireBatch(
        address account,
        uint256[] calldata ids,
        uint256[] calldata amounts,
        RetirementDetails calldata details
    ) private returns (uint256 number) {
        _checkAmounts(ids, amounts);
        _checkDetails(details);
        _burnBatch(account, ids, amounts);
        for (uint256 i = 0; i < ids.length; ++i) {
            _checkRetirable(ids[i]);
            _addRetired(account, ids[i], amounts[i]);
        }
        number = ++_retirementCount;
        emit RetiredBatch(number, account, ids, amounts, details);
    }

    function _checkDetails(RetirementDetails calldata details) private pure {
        if (details.beneficiary == address(0) && bytes(details.beneficiaryName).length == 0) {
            revert DetailsInvalid("beneficiary");
        }
        if (bytes(details.purpose).length == 0) revert DetailsInvalid("purpose");
        if (details.consumptionStart > details.consumptionEnd) revert DetailsInvalid("consumptionStart");
    }

    function _checkSignature(address account, bytes32 structHash, uint256 deadline, bytes calldata signature)
        private
        view
    {
        if (block.timestamp > deadline) revert SignatureExpired(deadline, block.timestamp);
        if (!SignatureChecker.isValidSignatureNowCalldata(account, _hashTypedDataV4(structHash), signature)) {
            revert SignatureInvalid(account);
        }
    }

    /// @dev Uses up the nonce that it hashes. A function of its own only because the stack is not deep enough.
    function _hashBatch(
        address account,
        bytes32 idsHash,
        bytes32 amountsHash,
        bytes32 detailsHash,
        uint256 deadline
    ) private returns (bytes32) {
        return keccak256(
            abi.encode(
                RETIRE_BATCH_TYPEHASH, account, idsHash, amountsHash, detailsHash, _useNonce(account), deadline
            )
        );
    }

    function _hashList(uint256[] calldata list) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(list));
    }

    function _hashDetails(RetirementDetails calldata details) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                DETAILS_TYPEHASH,
                details.beneficiary,
                keccak256(bytes(details.beneficiaryName)),
                keccak256(bytes(details.purpose)),
                details.country,
                keccak256(bytes(details.location)),
                details.consumptionStart,
                details.consumptionEnd
            )
        );
    }
}
