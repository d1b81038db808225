// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

import {DeviceRegistry} from "../../contracts/DeviceRegistry.sol";
import {EmissionFactors} from "../../contracts/EmissionFactors.sol";
import {EnergyCertificate} from "../../contracts/EnergyCertificate.sol";
import {MitigationOutcome} from "../../contracts/MitigationOutcome.sol";
import {Notary} from "../../contracts/Notary.sol";
import {Harness} from "./Harness.sol";

/// @title Who holds no role calls none of the functions that the role matrix lists, whatever the arguments, from any state
contract RolesProof is Harness {
    address private manager;
    DeviceRegistry private registry;
    Notary private notary;
    EmissionFactors private factors;
    EnergyCertificate private certificate;
    MitigationOutcome private outcome;

    function setUp() public {
        manager = address(new AccessManager(ADMIN));
        registry = new DeviceRegistry(manager);
        address[] memory signers = new address[](1);
        signers[0] = address(1);
        notary = new Notary(manager, signers, 1);
        factors = new EmissionFactors(manager);
        certificate = new EnergyCertificate(manager, address(registry), address(notary), "");
        outcome = new MitigationOutcome(manager, address(certificate), address(factors), "");
        vm.warp(2 ** 39);
        // In an empty contract most calls would fail for other reasons.
        svm.enableSymbolicStorage(address(registry));
        svm.enableSymbolicStorage(address(notary));
        svm.enableSymbolicStorage(address(factors));
        svm.enableSymbolicStorage(address(certificate));
        svm.enableSymbolicStorage(address(outcome));
    }

    /// @dev A call of one of these functions, with any arguments, by anybody but the administrator is refused.
    function _refuses(address target, string memory name, bytes4[] memory gated, address caller) private {
        vm.assume(caller != ADMIN && AccessManaged(target).authority() == manager);
        bytes memory data = svm.createCalldata(name);
        bool isGated = false;
        for (uint256 i = 0; i < gated.length; ++i) {
            if (bytes4(data) == gated[i]) isGated = true;
        }
        vm.assume(isGated);
        assert(!_try(caller, target, data));
    }

    function check_registry_is_the_registrars(address caller) external {
        bytes4[] memory gated = new bytes4[](5);
        gated[0] = DeviceRegistry.register.selector;
        gated[1] = DeviceRegistry.setAccount.selector;
        gated[2] = DeviceRegistry.setCapacity.selector;
        gated[3] = DeviceRegistry.deactivate.selector;
        gated[4] = DeviceRegistry.bindCertificate.selector;
        _refuses(address(registry), "DeviceRegistry", gated, caller);
    }

    function check_notary_is_administrators_and_guardians(address caller) external {
        bytes4[] memory gated = new bytes4[](5);
        gated[0] = Notary.setSigners.selector;
        gated[1] = Notary.removeSigner.selector;
        gated[2] = Notary.revoke.selector;
        gated[3] = Notary.pause.selector;
        gated[4] = Notary.unpause.selector;
        _refuses(address(notary), "Notary", gated, caller);
    }

    function check_certificate_is_administrators_and_guardians(address caller) external {
        bytes4[] memory gated = new bytes4[](3);
        gated[0] = EnergyCertificate.pause.selector;
        gated[1] = EnergyCertificate.unpause.selector;
        gated[2] = EnergyCertificate.bindConverter.selector;
        _refuses(address(certificate), "EnergyCertificate", gated, caller);
    }

    function check_factors_are_the_publishers(address caller) external {
        bytes4[] memory gated = new bytes4[](2);
        gated[0] = EmissionFactors.publish.selector;
        gated[1] = EmissionFactors.supersede.selector;
        _refuses(address(factors), "EmissionFactors", gated, caller);
    }

    function check_authorisations_are_the_recorders(address caller) external {
        bytes4[] memory gated = new bytes4[](4);
        gated[0] = MitigationOutcome.authorise.selector;
        gated[1] = MitigationOutcome.recordFirstTransfer.selector;
        gated[2] = MitigationOutcome.recordAdjustmentPending.selector;
        gated[3] = MitigationOutcome.recordAdjustment.selector;
        _refuses(address(outcome), "MitigationOutcome", gated, caller);
    }
}
