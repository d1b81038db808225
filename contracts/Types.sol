// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title What every Wattmark contract speaks of
/// @notice One unit of energy is 1 Wh, one unit of an outcome is 1 g CO2e, times are UTC seconds.
/// Layouts are fixed by docs/protocol.md; the golden vectors in tests/vectors hold them to it.

/// @dev What one device measures. A device measures one flow in one direction.
enum DeviceKind {
    NONE,
    GENERATION,
    CONSUMPTION,
    STORAGE_CHARGE,
    STORAGE_DISCHARGE
}

/// @dev PUBLIC devices' archives are published whole; PRIVATE ones stay with operator and witnesses.
enum Visibility {
    NONE,
    PUBLIC,
    PRIVATE
}

/// @dev FINAL batches are chained by head and issuable, INTERIM ones are evidence only.
enum BatchKind {
    NONE,
    FINAL,
    INTERIM
}

enum BatchStatus {
    NONE,
    OPEN,
    REVOKED
}

/// @notice What is certified about one device and period: a leaf of a batch.
struct Statement {
    uint64 deviceId;
    uint40 start;
    uint32 duration;
    uint32 version; // 0 first; n corrects n-1
    uint64 energyWh;
    uint64 previousWh; // energyWh of the version before; 0 for version 0
    bytes32 profileHash;
}

/// @notice A notarization as the witnesses sign it (EIP-712 struct of the same name).
struct Batch {
    BatchKind kind;
    uint16 signerEpoch;
    bytes32 head; // Notary.head() before it for FINAL, zero for INTERIM
    bytes32 root;
    uint40 start;
    uint40 end;
    uint32 statements;
    uint64 energyWh; // sum of max(0, energyWh - previousWh)
    bytes32 archiveHash;
    uint40 deadline; // last second in which it may be notarized
}

/// @notice What the Notary keeps of a batch: one storage slot.
struct Notarization {
    uint40 notarizedAt;
    uint40 start;
    uint40 end;
    uint32 statements;
    uint64 energyWh;
    BatchKind kind;
    BatchStatus status;
    uint16 signerEpoch;
}

/// @notice A device as it is registered. `account`, `capacityW` and `activeUntil` may change, the rest never.
struct Device {
    address account; // entitled to the certificates
    uint56 capacityW;
    DeviceKind kind;
    Visibility visibility;
    bytes2 country; // ISO 3166-1 alpha-2
    uint32 granularity; // seconds; divides 86,400 and is a multiple of 900
    uint32 fuelCode; // digits of the EECS energy source code, F01040100 -> 1040100
    uint32 technologyCode; // digits of the EECS technology code, T010100 -> 10100
    uint40 activeFrom;
    uint40 activeUntil; // exclusive; type(uint40).max while active
    bytes16 gridZone; // ASCII, right-padded with zeros: an EIC or eGRID code
    bytes32 meterHash; // keccak256 of the meter's identity; unique among active devices
}

/// @notice The terms of a device in force at some time: who is entitled, how much it can produce.
struct Terms {
    address account;
    uint40 since;
    uint56 capacityW;
}

/// @notice Why and for whom something is retired. Any name may be given as a salted hash instead of text.
struct RetirementDetails {
    address beneficiary;
    string beneficiaryName;
    string purpose;
    bytes2 country;
    string location;
    uint40 consumptionStart;
    uint40 consumptionEnd;
}
