// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @dev No attacker: a second reading, in Solidity, of those parts of docs/protocol.md that no deployed contract
/// computes. Written from the document alone.
contract ProtocolReading {
    uint256 private constant SLOT_SECONDS = 900;
    uint256 private constant DAY = 1 days;
    uint256 private constant BYTES_PER_SLOT = 5;
    uint8 private constant CERTIFIED = 32;

    function pack(uint32[] calldata energyWh, uint8[] calldata quality) external pure returns (bytes memory profile) {
        require(energyWh.length == quality.length, "one quality byte for each slot");
        for (uint256 i; i < energyWh.length; ++i) {
            profile = bytes.concat(profile, bytes4(energyWh[i]), bytes1(quality[i]));
        }
    }

    /// @dev Energy of the slots whose quality has the certified bit.
    function certifiedWh(bytes calldata profile) external pure returns (uint256 energyWh) {
        require(profile.length % BYTES_PER_SLOT == 0, "whole slots");
        for (uint256 at; at < profile.length; at += BYTES_PER_SLOT) {
            if (uint8(profile[at + 4]) & CERTIFIED != 0) energyWh += uint32(bytes4(profile[at:at + 4]));
        }
    }

    /// @dev Start and bytes of each part of a period, cut at UTC midnights.
    function parts(uint256 start, uint256 duration)
        external
        pure
        returns (uint256[] memory starts, uint256[] memory sizes)
    {
        uint256 end = start + duration;
        uint256 count = (end - 1) / DAY - start / DAY + 1;
        starts = new uint256[](count);
        sizes = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            uint256 midnight = (start / DAY + 1) * DAY;
            uint256 stop = midnight < end ? midnight : end;
            starts[i] = start;
            sizes[i] = (stop - start) / SLOT_SECONDS * BYTES_PER_SLOT;
            start = stop;
        }
    }

    function dayHash(bytes32 salt, bytes calldata profile) external pure returns (bytes32) {
        return keccak256(bytes.concat(salt, profile));
    }

    function profileHash(bytes32[] calldata dayHashes) external pure returns (bytes32) {
        return keccak256(abi.encodePacked(dayHashes));
    }

    function certificateId(uint64 deviceId, uint40 start, uint32 duration) external pure returns (uint256) {
        return uint256(bytes32(abi.encodePacked(deviceId, start, duration, uint120(0))));
    }

    function outcomeId(uint32 factorId, uint16 year, bytes2 country, uint64 authorisationId)
        external
        pure
        returns (uint256)
    {
        return uint256(bytes32(abi.encodePacked(factorId, year, country, authorisationId, uint128(0))));
    }
}
