// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @dev What halmos offers to a harness, by the names of its cheat codes.
interface Vm {
    function assume(bool) external pure;
    function prank(address) external;
    function load(address, bytes32) external view returns (bytes32);
    function warp(uint256) external;
}

interface Svm {
    function createAddress(string memory) external pure returns (address);
    function createBytes(uint256, string memory) external pure returns (bytes memory);
    function createUint256(string memory) external pure returns (uint256);
    function createCalldata(string memory contractName) external pure returns (bytes memory);
    function enableSymbolicStorage(address) external;
}

/// @title What every harness has
/// @dev Halmos makes the arguments of every `check_` function symbolic: what it asserts holds for all of them.
abstract contract Harness {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Svm internal constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    address internal constant ADMIN = address(0xAD);

    /// @dev `caller` calls, whatever comes of it.
    function _try(address caller, address target, bytes memory data) internal returns (bool succeeded) {
        vm.prank(caller);
        (succeeded,) = target.call(data);
    }
}
