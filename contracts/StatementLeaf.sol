// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Statement} from "./Types.sol";

/// @title The leaf of a statement in its batch's tree
library StatementLeaf {
    /// @notice Leaf of OpenZeppelin's StandardMerkleTree: hashed twice, so that no inner node can pass for a leaf.
    function hash(Statement memory statement) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(statement))));
    }
}
