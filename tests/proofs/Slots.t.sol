// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {CertifiedSlots} from "../../contracts/CertifiedSlots.sol";
import {Harness} from "./Harness.sol";

/// @title The bitmap of certified slots, from any state and across word borders
contract SlotsProof is Harness {
    using CertifiedSlots for mapping(uint256 word => uint256);

    uint256 private constant MAX_FIRST = type(uint40).max / 900;
    uint256 private constant MAX_COUNT = 260; // two whole words and the ends of their neighbours

    mapping(uint256 word => uint256) private words;
    mapping(uint256 word => uint256) private empty;

    function setUp() public {
        svm.enableSymbolicStorage(address(this));
    }

    /// Two bits a slot, read without the library.
    function _bits(uint256 slot) private view returns (uint256) {
        return words[slot >> 7] >> (2 * (slot & 127)) & 3;
    }

    function _assumeRange(uint256 first, uint256 count) private pure {
        vm.assume(first <= MAX_FIRST && count != 0 && count <= MAX_COUNT);
    }

    /// Certifying changes its own slots to "certified", the first also to "begins", and no other slot's bits.
    function check_certify_sets_its_slots_and_no_other(uint256 first, uint256 count, uint256 slot) public {
        _assumeRange(first, count);
        vm.assume(slot <= MAX_FIRST + MAX_COUNT);
        uint256 before = _bits(slot);
        vm.assume(words.certify(first, count));
        bool inside = first <= slot && slot < first + count;
        assert(_bits(slot) == (inside ? (slot == first ? 3 : 1) : before));
    }

    /// It refuses if one of the slots is taken, wherever it lies, and `areFree` says the same beforehand.
    function check_certify_refuses_a_taken_slot(uint256 first, uint256 count, uint256 slot) public {
        _assumeRange(first, count);
        vm.assume(first <= slot && slot < first + count);
        uint256 before = _bits(slot);
        bool free = words.areFree(first, count);
        bool certified = words.certify(first, count);
        assert(certified == free);
        if (before != 0) assert(!certified);
    }
}
