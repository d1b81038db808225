// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @dev An ERC-1271 wallet: honest for its owner, or misbehaving in the way it was made for.
contract Wallet {
    enum Way {
        HONEST,
        REVERT,
        WRONG_ANSWER,
        BURN_GAS,
        LONG_ANSWER,
        SHORT_ANSWER
    }

    Way private _way;
    address private _owner;

    constructor(Way way, address owner) {
        (_way, _owner) = (way, owner);
    }

    function onERC1155Received(address, address, uint256, uint256, bytes calldata) external pure returns (bytes4) {
        return this.onERC1155Received.selector;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        if (_way == Way.REVERT) revert("no");
        if (_way == Way.WRONG_ANSWER) return 0xffffffff;
        if (_way == Way.BURN_GAS) while (gasleft() > 0) {}
        if (_way == Way.LONG_ANSWER) {
            assembly {
                return(0, 60000)
            }
        }
        if (_way == Way.SHORT_ANSWER) {
            assembly {
                mstore(0, 0x1626ba7e00000000000000000000000000000000000000000000000000000000)
                return(0, 4)
            }
        }
        return ECDSA.recover(hash, signature) == _owner ? this.isValidSignature.selector : bytes4(0);
    }
}
