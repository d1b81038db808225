// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {IEmissionFactors} from "./interfaces/IEmissionFactors.sol";

/// @title What a kWh avoids
contract EmissionFactors is IEmissionFactors, AccessManaged {
    mapping(uint32 factorId => Factor) private _factors;
    mapping(bytes16 gridZone => mapping(uint16 year => uint32 factorId)) private _current;
    uint32 private _factorCount;

    constructor(address authority) AccessManaged(authority) {}

    /// @inheritdoc IEmissionFactors
    function publish(
        bytes16 gridZone,
        uint16 year,
        uint56 gramsPerMWh,
        bool illustrative,
        bytes32 sourceHash,
        string calldata source
    ) external restricted returns (uint32 factorId) {
        if (gridZone == 0) revert FactorInvalid("gridZone");
        if (year == 0) revert FactorInvalid("year");
        uint32 current = _current[gridZone][year];
        if (current != 0) revert FactorAlreadyPublished(gridZone, year, current);
        return _put(gridZone, year, gramsPerMWh, illustrative, sourceHash, source);
    }

    /// @inheritdoc IEmissionFactors
    function supersede(
        uint32 factorId,
        uint56 gramsPerMWh,
        bool illustrative,
        bytes32 sourceHash,
        string calldata source
    ) external restricted returns (uint32 newFactorId) {
        Factor storage old = _known(factorId);
        if (old.supersededBy != 0) revert FactorNotCurrent(factorId, old.supersededBy);
        newFactorId = _put(old.gridZone, old.year, gramsPerMWh, illustrative, sourceHash, source);
        old.supersededBy = newFactorId;
        emit FactorSuperseded(factorId, newFactorId);
    }

    /// @inheritdoc IEmissionFactors
    function factor(uint32 factorId) external view returns (Factor memory) {
        return _known(factorId);
    }

    /// @inheritdoc IEmissionFactors
    function currentFactor(bytes16 gridZone, uint16 year)
        external
        view
        returns (uint32 factorId, uint56 gramsPerMWh)
    {
        factorId = _current[gridZone][year];
        if (factorId == 0) revert FactorMissing(gridZone, year);
        gramsPerMWh = _factors[factorId].gramsPerMWh;
    }

    function _known(uint32 factorId) private view returns (Factor storage known) {
        known = _factors[factorId];
        if (known.year == 0) revert FactorUnknown(factorId);
    }

    function _put(
        bytes16 gridZone,
        uint16 year,
        uint56 gramsPerMWh,
        bool illustrative,
        bytes32 sourceHash,
        string calldata source
    ) private returns (uint32 factorId) {
        if (gramsPerMWh == 0) revert FactorInvalid("gramsPerMWh");
        if (sourceHash == 0) revert FactorInvalid("sourceHash");
        if (bytes(source).length == 0) revert FactorInvalid("source");
        factorId = ++_factorCount;
        Factor memory published = Factor({
            gridZone: gridZone,
            year: year,
            gramsPerMWh: gramsPerMWh,
            illustrative: illustrative,
            supersededBy: 0,
            approver: msg.sender,
            sourceHash: sourceHash,
            source: source
        });
        _factors[factorId] = published;
        _current[gridZone][year] = factorId;
        emit FactorPublished(factorId, gridZone, year, published);
    }
}
