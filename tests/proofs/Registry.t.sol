// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

import {DeviceRegistry} from "../../contracts/DeviceRegistry.sol";
import {Device} from "../../contracts/Types.sol";
import {Harness} from "./Harness.sol";

/// @title What the registry takes, and what it lets a device have generated
contract RegistryProof is Harness {
    DeviceRegistry private registry;

    function setUp() public {
        registry = new DeviceRegistry(address(new AccessManager(ADMIN)));
        vm.warp(2 ** 39);
    }

    /// Of a device as it was registered, one or more whole slots of its grid are admitted, over, at most 31 days together.
    function check_only_whole_slots_that_are_over_are_admitted(
        uint64 deviceId,
        Device calldata device,
        uint40 start,
        uint32 duration,
        uint64 energyWh
    ) external {
        vm.prank(ADMIN);
        registry.register(deviceId, device);
        (,, uint32 granularity) = registry.admit(deviceId, start, duration, energyWh);
        assert(granularity == registry.granularityOf(deviceId));
        assert(duration != 0 && duration <= 31 days);
        assert(start % granularity == 0 && duration % granularity == 0);
        assert(uint256(start) + duration <= block.timestamp);
    }

    /// A device that is registered is not registered again, from any state.
    function check_a_device_is_registered_once(uint64 deviceId, Device calldata device) external {
        svm.enableSymbolicStorage(address(registry));
        registry.granularityOf(deviceId);
        vm.prank(ADMIN);
        try registry.register(deviceId, device) {
            assert(false);
        } catch {}
    }
}
