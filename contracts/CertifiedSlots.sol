// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title Which grid slots of one device are certified, and by which periods
/// @notice Two bits a slot, 128 slots a word: the lower says that the slot is certified, the upper that a certificate
/// begins with it. So both questions are answered from one word: is any of these slots taken, and is there a
/// certificate over exactly these slots, whatever other periods are certified around it.
/// @dev `first` counts slots of the device's grid since 1970, `count` is at least 1.
library CertifiedSlots {
    uint256 private constant SLOTS_PER_WORD = 128;
    uint256 private constant CERTIFIED_BITS = type(uint256).max / 3; // 0b…010101
    uint256 private constant CERTIFIED = 1;
    uint256 private constant BEGINS = 2;

    /// @notice Whether no slot is certified.
    function areFree(mapping(uint256 word => uint256) storage words, uint256 first, uint256 count)
        internal
        view
        returns (bool)
    {
        uint256 end = first + count;
        while (first < end) {
            (uint256 mask, uint256 next) = _maskOf(first, end);
            if (words[first / SLOTS_PER_WORD] & mask != 0) return false;
            first = next;
        }
        return true;
    }

    /// @notice Certifies slots as one certificate. False, with the work half done, if one of them is certified already:
    /// then the caller must revert.
    function certify(mapping(uint256 word => uint256) storage words, uint256 first, uint256 count)
        internal
        returns (bool)
    {
        uint256 end = first + count;
        uint256 begins = BEGINS << _shiftOf(first);
        while (first < end) {
            (uint256 mask, uint256 next) = _maskOf(first, end);
            uint256 word = words[first / SLOTS_PER_WORD];
            if (word & mask != 0) return false;
            words[first / SLOTS_PER_WORD] = word | (mask & CERTIFIED_BITS) | begins;
            begins = 0;
            first = next;
        }
        return true;
    }

    /// @notice Whether one certificate covers these slots, all of them and no other.
    function isOneCertificate(mapping(uint256 word => uint256) storage words, uint256 first, uint256 count)
        internal
        view
        returns (bool)
    {
        uint256 end = first + count;
        uint256 begins = BEGINS << _shiftOf(first);
        while (first < end) {
            (uint256 mask, uint256 next) = _maskOf(first, end);
            if (words[first / SLOTS_PER_WORD] & mask != (mask & CERTIFIED_BITS) | begins) return false;
            begins = 0;
            first = next;
        }
        // A slot that is certified but begins nothing would belong to this certificate.
        uint256 after_ = words[end / SLOTS_PER_WORD] >> _shiftOf(end);
        return after_ & (CERTIFIED | BEGINS) != CERTIFIED;
    }

    /// @dev Both bits of the slots from `first` to the end of its word or to `end`, and the slot to go on from.
    function _maskOf(uint256 first, uint256 end) private pure returns (uint256 mask, uint256 next) {
        next = (first / SLOTS_PER_WORD + 1) * SLOTS_PER_WORD;
        if (next > end) next = end;
        mask = (type(uint256).max >> (256 - 2 * (next - first))) << _shiftOf(first);
    }

    function _shiftOf(uint256 slot) private pure returns (uint256) {
        return 2 * (slot % SLOTS_PER_WORD);
    }
}
