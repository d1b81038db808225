// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Device, Terms, Visibility} from "../Types.sol";

/// @title Who measures
/// @notice Devices are registered once; what they are never changes. Account and capacity change from now or
/// later, on the device's grid; a statement is judged by the terms in force at its start.
interface IDeviceRegistry {
    /// @notice A device was registered with all its fields.
    event DeviceRegistered(uint64 indexed deviceId, address indexed account, bytes32 indexed meterHash, Device device);
    /// @notice From `since` on, `account` is entitled to the device's certificates.
    event AccountSet(uint64 indexed deviceId, address indexed account, uint40 since);
    /// @notice From `since` on, the device can produce `capacityW`.
    event CapacitySet(uint64 indexed deviceId, uint56 capacityW, uint40 since);
    /// @notice The device is active until `activeUntil` (exclusive).
    event DeviceDeactivated(uint64 indexed deviceId, uint40 activeUntil);
    /// @notice The contract that is asked for debts was bound, once and for ever.
    event CertificateBound(address indexed certificate);

    error DeviceUnknown(uint64 deviceId);
    error DeviceAlreadyRegistered(uint64 deviceId);
    error DeviceFieldInvalid(uint64 deviceId, string field);
    /// @dev The meter still belongs to `deviceId` until `activeUntil`.
    error MeterInUse(bytes32 meterHash, uint64 deviceId, uint40 activeUntil);
    error NotOnGrid(uint64 deviceId, uint40 time, uint32 granularity);
    /// @dev Changes never reach backwards: `time` lies before `earliest`.
    error ChangeInThePast(uint64 deviceId, uint40 time, uint40 earliest);
    error DeviceInactive(uint64 deviceId, uint40 activeUntil);
    error DeviceInDebt(uint64 deviceId, uint64 debtWh);
    error NotGeneration(uint64 deviceId);
    error PeriodInvalid(uint64 deviceId, uint40 start, uint32 duration, uint32 granularity);
    error PeriodNotEnded(uint40 end, uint256 time);
    error PeriodOutsideActivity(uint64 deviceId, uint40 start, uint40 end);
    error EnergyAboveCapacity(uint64 deviceId, uint64 energyWh, uint256 limitWh);
    error CertificateAlreadyBound(address certificate);
    error CertificateNotBound();
    /// @dev The contract does not name this registry as its own.
    error CertificateInvalid(address certificate);

    /// @notice Registers `device` under `deviceId` (not zero, never used). Role: registrar.
    /// @dev `activeFrom` may lie in the past, but not before the end of an earlier device with the same meter.
    function register(uint64 deviceId, Device calldata device) external;

    /// @notice Entitles `account` from `since` (on the grid, now or later). Role: registrar. Refused under debt.
    function setAccount(uint64 deviceId, address account, uint40 since) external;

    /// @notice Sets the capacity from `since` (on the grid, now or later). Role: registrar.
    function setCapacity(uint64 deviceId, uint56 capacityW, uint40 since) external;

    /// @notice Ends the device at `activeUntil` (on the grid, now or later). Role: registrar. Refused under debt.
    function deactivate(uint64 deviceId, uint40 activeUntil) external;

    /// @notice Binds the certificate contract that answers `debtOf`; once. Role: administrator.
    function bindCertificate(address certificate) external;

    /// @notice The contract that answers `debtOf`; zero while unbound.
    function certificate() external view returns (address);

    /// @notice The device with its latest terms, which may not have begun yet. Reverts with `DeviceUnknown`.
    function device(uint64 deviceId) external view returns (Device memory);

    /// @notice The terms in force at `time`. Reverts with `DeviceUnknown`.
    function termsAt(uint64 deviceId, uint40 time) external view returns (Terms memory);

    /// @notice Reverts unless the device can have generated `energyWh` in this period: it is of kind generation; the
    /// period lies on its grid and inside its activity, lasts at most 31 days and has ended; the energy is at most 1.1 times
    /// what the capacity in force at `start` yields.
    /// @return account The account in force at `start`.
    /// @return isPrivate Whether that account alone may issue.
    /// @return granularity Seconds of a slot of the device's grid.
    function admit(uint64 deviceId, uint40 start, uint32 duration, uint64 energyWh)
        external
        view
        returns (address account, bool isPrivate, uint32 granularity);

    /// @notice Seconds of a slot of the device's grid. Reverts with `DeviceUnknown`.
    function granularityOf(uint64 deviceId) external view returns (uint32);

    /// @notice Grid zone and country: what a conversion looks its factor up by.
    function zoneOf(uint64 deviceId) external view returns (bytes16 gridZone, bytes2 country);

    /// @notice The last device registered with this meter; 0 if none.
    function deviceOfMeter(bytes32 meterHash) external view returns (uint64);
}
