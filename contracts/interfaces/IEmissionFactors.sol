// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title What a kWh avoids
/// @notice Factors in g CO2e per MWh by grid zone and calendar year (UTC), with their source. Never edited, only superseded.
interface IEmissionFactors {
    /// @dev `sourceHash` is the keccak256 of the source document; `illustrative` factors must be shown as such everywhere.
    struct Factor {
        bytes16 gridZone;
        uint16 year;
        uint56 gramsPerMWh;
        bool illustrative;
        uint32 supersededBy; // 0 while current
        address approver;
        bytes32 sourceHash;
        string source;
    }

    event FactorPublished(uint32 indexed factorId, bytes16 indexed gridZone, uint16 indexed year, Factor factor);
    event FactorSuperseded(uint32 indexed factorId, uint32 indexed supersededBy);

    error FactorUnknown(uint32 factorId);
    error FactorMissing(bytes16 gridZone, uint16 year);
    error FactorAlreadyPublished(bytes16 gridZone, uint16 year, uint32 factorId);
    error FactorNotCurrent(uint32 factorId, uint32 supersededBy);
    error FactorInvalid(string field);

    /// @notice Publishes the first factor of a zone and year. Role: factor publisher. Returns its running id, from 1.
    function publish(
        bytes16 gridZone,
        uint16 year,
        uint56 gramsPerMWh,
        bool illustrative,
        bytes32 sourceHash,
        string calldata source
    ) external returns (uint32 factorId);

    /// @notice Replaces the current factor `factorId` by a new one for the same zone and year. Role: factor publisher.
    function supersede(
        uint32 factorId,
        uint56 gramsPerMWh,
        bool illustrative,
        bytes32 sourceHash,
        string calldata source
    ) external returns (uint32 newFactorId);

    /// @notice The factor with this id. Reverts with `FactorUnknown`.
    function factor(uint32 factorId) external view returns (Factor memory);

    /// @notice Id and value of the current factor of a zone and year. Reverts with `FactorMissing`.
    function currentFactor(bytes16 gridZone, uint16 year) external view returns (uint32 factorId, uint56 gramsPerMWh);
}
