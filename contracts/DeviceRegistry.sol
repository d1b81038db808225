// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {IDeviceRegistry} from "./interfaces/IDeviceRegistry.sol";
import {IEnergyCertificate} from "./interfaces/IEnergyCertificate.sol";
import {Device, DeviceKind, Terms, Visibility} from "./Types.sol";

/// @title Who measures
/// @dev A device lies in four slots: the latest terms, the fixed fields that issuing needs, zone, meter. Terms
/// before the latest are kept in a history that is searched only for statements older than the last change.
contract DeviceRegistry is IDeviceRegistry, AccessManaged {
    /// @dev What never changes (but for `activeUntil`), in one slot.
    struct Fixed {
        DeviceKind kind;
        Visibility visibility;
        bytes2 country;
        uint32 granularity;
        uint32 fuelCode;
        uint32 technologyCode;
        uint40 activeFrom;
        uint40 activeUntil;
    }

    /// @dev `latest` may not have begun; `earlier` holds all terms before it in order, the first since time 0.
    struct Record {
        Terms latest;
        Fixed fixed_;
        bytes16 gridZone;
        bytes32 meterHash;
        Terms[] earlier;
    }

    /// @dev The terms in force and at most one change to come of either field; `NEVER` where there is none.
    struct Plan {
        Terms inForce;
        address account;
        uint40 accountSince;
        uint56 capacityW;
        uint40 capacitySince;
    }

    uint40 private constant NEVER = type(uint40).max;
    uint256 private constant DAY = 86_400;
    uint256 private constant SLOT = 900;
    uint32 private constant MAX_DURATION = 31 days;
    /// @dev Capacity in W times seconds, times 11, by this: 1.1 times the energy in Wh.
    uint256 private constant WATT_SECONDS_PER_WH_TIMES_10 = 36_000;
    uint32 private constant MAX_FUEL_CODE = 99_999_999; // F and eight digits
    uint32 private constant MAX_TECHNOLOGY_CODE = 999_999; // T and six digits

    mapping(uint64 deviceId => Record) private _records;
    mapping(bytes32 meterHash => uint64 deviceId) private _deviceOfMeter;
    address private _certificate;

    constructor(address authority) AccessManaged(authority) {}

    // -- registration and changes --------------------------------------------------------------------

    /// @inheritdoc IDeviceRegistry
    function register(uint64 deviceId, Device calldata given) external restricted {
        if (_records[deviceId].fixed_.kind != DeviceKind.NONE) revert DeviceAlreadyRegistered(deviceId);
        _checkFields(deviceId, given);
        _checkMeter(given.meterHash, given.activeFrom);

        Record storage record = _records[deviceId];
        record.latest = Terms({account: given.account, since: 0, capacityW: given.capacityW});
        record.fixed_ = Fixed({
            kind: given.kind,
            visibility: given.visibility,
            country: given.country,
            granularity: given.granularity,
            fuelCode: given.fuelCode,
            technologyCode: given.technologyCode,
            activeFrom: given.activeFrom,
            activeUntil: given.activeUntil
        });
        record.gridZone = given.gridZone;
        record.meterHash = given.meterHash;
        _deviceOfMeter[given.meterHash] = deviceId;
        emit DeviceRegistered(deviceId, given.account, given.meterHash, given);
    }

    /// @inheritdoc IDeviceRegistry
    function setAccount(uint64 deviceId, address account, uint40 since) external restricted {
        Record storage record = _changeable(deviceId, since);
        if (account == address(0)) revert DeviceFieldInvalid(deviceId, "account");
        _refuseDebt(deviceId);

        Plan memory plan = _takePlan(record);
        plan.account = account;
        plan.accountSince = since;
        _putPlan(record, plan);
        emit AccountSet(deviceId, account, since);
    }

    /// @inheritdoc IDeviceRegistry
    function setCapacity(uint64 deviceId, uint56 capacityW, uint40 since) external restricted {
        Record storage record = _changeable(deviceId, since);
        if (capacityW == 0) revert DeviceFieldInvalid(deviceId, "capacityW");

        Plan memory plan = _takePlan(record);
        plan.capacityW = capacityW;
        plan.capacitySince = since;
        _putPlan(record, plan);
        emit CapacitySet(deviceId, capacityW, since);
    }

    /// @inheritdoc IDeviceRegistry
    function deactivate(uint64 deviceId, uint40 activeUntil) external restricted {
        // An end only moves nearer: moved away, it could reach into the time of the meter's next device.
        Record storage record = _changeable(deviceId, activeUntil);
        _refuseDebt(deviceId);

        record.fixed_.activeUntil = activeUntil;
        emit DeviceDeactivated(deviceId, activeUntil);
    }

    /// @inheritdoc IDeviceRegistry
    function bindCertificate(address certificate_) external restricted {
        if (_certificate != address(0)) revert CertificateAlreadyBound(_certificate);
        if (IEnergyCertificate(certificate_).registry() != address(this)) revert CertificateInvalid(certificate_);
        _certificate = certificate_;
        emit CertificateBound(certificate_);
    }

    // -- views ---------------------------------------------------------------------------------------

    /// @inheritdoc IDeviceRegistry
    function certificate() external view returns (address) {
        return _certificate;
    }

    /// @inheritdoc IDeviceRegistry
    function device(uint64 deviceId) external view returns (Device memory) {
        Record storage record = _known(deviceId);
        Terms memory latest = record.latest;
        Fixed memory fixed_ = record.fixed_;
        return Device({
            account: latest.account,
            capacityW: latest.capacityW,
            kind: fixed_.kind,
            visibility: fixed_.visibility,
            country: fixed_.country,
            granularity: fixed_.granularity,
            fuelCode: fixed_.fuelCode,
            technologyCode: fixed_.technologyCode,
            activeFrom: fixed_.activeFrom,
            activeUntil: fixed_.activeUntil,
            gridZone: record.gridZone,
            meterHash: record.meterHash
        });
    }

    /// @inheritdoc IDeviceRegistry
    function termsAt(uint64 deviceId, uint40 time) external view returns (Terms memory) {
        return _termsAt(_known(deviceId), time);
    }

    /// @inheritdoc IDeviceRegistry
    function admit(uint64 deviceId, uint40 start, uint32 duration, uint64 energyWh)
        external
        view
        returns (address account, bool isPrivate, uint32 granularity)
    {
        Record storage record = _records[deviceId];
        Fixed memory fixed_ = record.fixed_;
        if (fixed_.kind == DeviceKind.NONE) revert DeviceUnknown(deviceId);
        if (fixed_.kind != DeviceKind.GENERATION) revert NotGeneration(deviceId);

        uint40 end = _endOf(deviceId, start, duration, fixed_.granularity);
        if (start < fixed_.activeFrom || end > fixed_.activeUntil) {
            revert PeriodOutsideActivity(deviceId, start, end);
        }
        Terms memory terms = _termsAt(record, start);
        uint256 limitWh = uint256(terms.capacityW) * duration * 11 / WATT_SECONDS_PER_WH_TIMES_10;
        if (energyWh > limitWh) revert EnergyAboveCapacity(deviceId, energyWh, limitWh);
        return (terms.account, fixed_.visibility == Visibility.PRIVATE, fixed_.granularity);
    }

    /// @inheritdoc IDeviceRegistry
    function granularityOf(uint64 deviceId) external view returns (uint32) {
        return _known(deviceId).fixed_.granularity;
    }

    /// @inheritdoc IDeviceRegistry
    function zoneOf(uint64 deviceId) external view returns (bytes16 gridZone, bytes2 country) {
        Record storage record = _known(deviceId);
        return (record.gridZone, record.fixed_.country);
    }

    /// @inheritdoc IDeviceRegistry
    function deviceOfMeter(bytes32 meterHash) external view returns (uint64) {
        return _deviceOfMeter[meterHash];
    }

    // -- terms over time -----------------------------------------------------------------------------

    /// @dev Takes the changes that have not begun off the history. There are at most two: one for each field.
    function _takePlan(Record storage record) private returns (Plan memory plan) {
        Terms memory terms = record.latest;
        (plan.account, plan.accountSince) = (terms.account, NEVER);
        (plan.capacityW, plan.capacitySince) = (terms.capacityW, NEVER);
        while (terms.since > block.timestamp) {
            Terms memory before = record.earlier[record.earlier.length - 1];
            record.earlier.pop();
            if (terms.account != before.account) plan.accountSince = terms.since;
            if (terms.capacityW != before.capacityW) plan.capacitySince = terms.since;
            terms = before;
        }
        record.latest = terms;
        plan.inForce = terms;
    }

    /// @dev Puts the planned changes back in order of time.
    function _putPlan(Record storage record, Plan memory plan) private {
        bool accountFirst = plan.accountSince < plan.capacitySince;
        _putTerms(record, plan, accountFirst ? plan.accountSince : plan.capacitySince);
        _putTerms(record, plan, accountFirst ? plan.capacitySince : plan.accountSince);
    }

    function _putTerms(Record storage record, Plan memory plan, uint40 since) private {
        if (since == NEVER) return;
        Terms memory latest = record.latest;
        if (since != latest.since) record.earlier.push(latest);
        record.latest = Terms({
            account: plan.accountSince <= since ? plan.account : plan.inForce.account,
            since: since,
            capacityW: plan.capacitySince <= since ? plan.capacityW : plan.inForce.capacityW
        });
    }

    /// @dev Binary search for the last terms with since <= time; the first terms hold since 0, so there is one.
    function _termsAt(Record storage record, uint40 time) private view returns (Terms memory) {
        Terms memory latest = record.latest;
        if (latest.since <= time) return latest;
        uint256 low = 0;
        uint256 high = record.earlier.length;
        while (high - low > 1) {
            uint256 middle = (low + high) / 2;
            if (record.earlier[middle].since <= time) low = middle;
            else high = middle;
        }
        return record.earlier[low];
    }

    // -- checks --------------------------------------------------------------------------------------

    function _known(uint64 deviceId) private view returns (Record storage record) {
        record = _records[deviceId];
        if (record.fixed_.kind == DeviceKind.NONE) revert DeviceUnknown(deviceId);
    }

    /// @dev A device that is still active at `since`, which is on its grid and not in the past.
    function _changeable(uint64 deviceId, uint40 since) private view returns (Record storage record) {
        record = _known(deviceId);
        uint32 granularity = record.fixed_.granularity;
        if (since % granularity != 0) revert NotOnGrid(deviceId, since, granularity);
        uint40 earliest = record.fixed_.activeFrom;
        if (earliest < block.timestamp) earliest = uint40(block.timestamp);
        if (since < earliest) revert ChangeInThePast(deviceId, since, earliest);
        uint40 activeUntil = record.fixed_.activeUntil;
        if (since >= activeUntil) revert DeviceInactive(deviceId, activeUntil);
    }

    /// @dev End of a period that is on the grid, not too long, and over.
    function _endOf(uint64 deviceId, uint40 start, uint32 duration, uint32 granularity)
        private
        view
        returns (uint40)
    {
        uint256 end = uint256(start) + duration;
        if (
            duration == 0 || duration > MAX_DURATION || duration % granularity != 0 || start % granularity != 0
                || end > type(uint40).max
        ) {
            revert PeriodInvalid(deviceId, start, duration, granularity);
        }
        if (end > block.timestamp) revert PeriodNotEnded(uint40(end), block.timestamp);
        return uint40(end);
    }

    function _refuseDebt(uint64 deviceId) private view {
        if (_certificate == address(0)) revert CertificateNotBound();
        uint64 debtWh = IEnergyCertificate(_certificate).debtOf(deviceId);
        if (debtWh != 0) revert DeviceInDebt(deviceId, debtWh);
    }

    /// @dev A meter goes to its next device only when the one before has ended, and without debt.
    function _checkMeter(bytes32 meterHash, uint40 activeFrom) private view {
        uint64 previous = _deviceOfMeter[meterHash];
        if (previous == 0) return;
        uint40 activeUntil = _records[previous].fixed_.activeUntil;
        if (activeFrom < activeUntil) revert MeterInUse(meterHash, previous, activeUntil);
        _refuseDebt(previous);
    }

    function _checkFields(uint64 deviceId, Device calldata given) private pure {
        if (deviceId == 0) revert DeviceFieldInvalid(deviceId, "deviceId");
        if (given.account == address(0)) revert DeviceFieldInvalid(deviceId, "account");
        if (given.capacityW == 0) revert DeviceFieldInvalid(deviceId, "capacityW");
        if (given.kind == DeviceKind.NONE) revert DeviceFieldInvalid(deviceId, "kind");
        if (given.visibility == Visibility.NONE) revert DeviceFieldInvalid(deviceId, "visibility");
        if (!_isCountry(given.country)) revert DeviceFieldInvalid(deviceId, "country");
        if (given.fuelCode > MAX_FUEL_CODE) revert DeviceFieldInvalid(deviceId, "fuelCode");
        if (given.technologyCode > MAX_TECHNOLOGY_CODE) revert DeviceFieldInvalid(deviceId, "technologyCode");
        if (given.gridZone == 0) revert DeviceFieldInvalid(deviceId, "gridZone");
        if (given.meterHash == 0) revert DeviceFieldInvalid(deviceId, "meterHash");
        uint32 granularity = given.granularity;
        if (granularity == 0 || granularity % SLOT != 0 || DAY % granularity != 0) {
            revert DeviceFieldInvalid(deviceId, "granularity");
        }
        if (given.activeFrom % granularity != 0) revert DeviceFieldInvalid(deviceId, "activeFrom");
        // A device ends by `deactivate`, which asks for debts; an end given here could be used to shed them.
        if (given.activeUntil != NEVER) revert DeviceFieldInvalid(deviceId, "activeUntil");
    }

    function _isCountry(bytes2 country) private pure returns (bool) {
        return _isLetter(country[0]) && _isLetter(country[1]);
    }

    function _isLetter(bytes1 character) private pure returns (bool) {
        return character >= "A" && character <= "Z";
    }
}
