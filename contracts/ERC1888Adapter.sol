// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Device} from "./Types.sol";
import {IDeviceRegistry} from "./interfaces/IDeviceRegistry.sol";
import {IEnergyCertificate} from "./interfaces/IEnergyCertificate.sol";
import {IRetirableToken} from "./interfaces/IRetirableToken.sol";

/// @title Wattmark's certificates as ERC-1888 tools read them
/// @notice Views only: what ERC-1888 calls claimed is what is retired here. Issuing and claiming in the manner of
/// ERC-1888 is not offered, for there anyone may issue under a topic.
contract ERC1888Adapter {
    IEnergyCertificate private immutable _certificate;
    IDeviceRegistry private immutable _registry;

    error CertificateUnknown(uint256 id);
    error LengthsDiffer(uint256 owners, uint256 ids);

    constructor(address certificate_) {
        _certificate = IEnergyCertificate(certificate_);
        _registry = IDeviceRegistry(IEnergyCertificate(certificate_).registry());
    }

    /// @notice The certificates that are read.
    function certificate() external view returns (address) {
        return address(_certificate);
    }

    /// @notice Wh of `id` that `owner` has retired.
    function claimedBalanceOf(address owner, uint256 id) public view returns (uint256) {
        return IRetirableToken(address(_certificate)).retiredOf(owner, id);
    }

    /// @notice Wh retired, pair by pair.
    function claimedBalanceOfBatch(address[] calldata owners, uint256[] calldata ids)
        external
        view
        returns (uint256[] memory claimed)
    {
        if (owners.length != ids.length) revert LengthsDiffer(owners.length, ids.length);
        claimed = new uint256[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            claimed[i] = claimedBalanceOf(owners[i], ids[i]);
        }
    }

    /// @notice `issuer` is the certificate contract; `topic` the device's fuel, by the digits of its EECS code;
    /// `validityData` the call to `issuer` that answers whether `id` was issued; `data` the ABI encoding of
    /// (uint64 deviceId, uint40 start, uint40 end, bytes16 gridZone, bytes2 country, uint32 technologyCode).
    function getCertificate(uint256 id)
        external
        view
        returns (address issuer, uint256 topic, bytes memory validityData, bytes memory data)
    {
        if (!_certificate.isIssued(id)) revert CertificateUnknown(id);
        (uint64 deviceId, uint40 start) = (uint64(id >> 192), uint40(id >> 152));
        Device memory device = _registry.device(deviceId);
        issuer = address(_certificate);
        topic = device.fuelCode;
        validityData = abi.encodeCall(IEnergyCertificate.isIssued, (id));
        data = abi.encode(
            deviceId, start, start + uint32(id >> 120), device.gridZone, device.country, device.technologyCode
        );
    }
}
