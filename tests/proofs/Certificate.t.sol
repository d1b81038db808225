// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

import {EnergyCertificate} from "../../contracts/EnergyCertificate.sol";
import {Notary} from "../../contracts/Notary.sol";
import {Statement} from "../../contracts/Types.sol";
import {Harness} from "./Harness.sol";

/// @dev Answers as the device registry does, for one account and grid that never change; which periods it admits has a
/// proof of its own (RegistryProof). The grid is a power of two, which the registry would refuse: a solver divides by it at
/// once, and the certificate's code is the same for any. Periods are then one or two slots long, within a word of the bitmap
/// or across its border.
contract AnyRegistry {
    address public immutable account;
    uint32 public constant GRANULARITY = 1_048_576;

    constructor(address account_) {
        account = account_;
    }

    function admit(uint64, uint40 start, uint32 duration, uint64) external view returns (address, bool, uint32) {
        require(duration != 0 && duration <= 31 days);
        require(start % GRANULARITY == 0 && duration % GRANULARITY == 0);
        return (account, false, GRANULARITY);
    }

    function granularityOf(uint64) external pure returns (uint32) {
        return GRANULARITY;
    }
}

abstract contract CertificateHarness is Harness {
    address internal constant GENERATOR = address(0x6E);

    Notary internal notary;
    EnergyCertificate internal certificate;

    function setUp() public virtual {
        AccessManager manager = new AccessManager(ADMIN);
        address[] memory signers = new address[](1);
        signers[0] = address(1);
        notary = new Notary(address(manager), signers, 1);
        AnyRegistry registry = new AnyRegistry(GENERATOR);
        certificate = new EnergyCertificate(address(manager), address(registry), address(notary), "");
        vm.warp(type(uint40).max);
        // From here on any notarization may be in the notary, and any certificate issued, corrected or retired.
        svm.enableSymbolicStorage(address(notary));
        svm.enableSymbolicStorage(address(certificate));
    }
}

/// @title What one or two acts do to a certificate, from any state of notary and certificate
contract IssueProof is CertificateHarness {
    /// Two statements whose periods share a second are never both issued, whatever batches, versions and proofs.
    function check_no_slot_is_issued_twice(
        bytes32 root1,
        bytes32 root2,
        Statement calldata first,
        Statement calldata second
    ) external {
        vm.assume(first.deviceId == second.deviceId);
        vm.assume(first.start < uint256(second.start) + second.duration);
        vm.assume(second.start < uint256(first.start) + first.duration);
        vm.assume(certificate.debtOf(first.deviceId) == 0);
        certificate.issue(root1, first, new bytes32[](0));
        try certificate.issue(root2, second, new bytes32[](0)) {
            assert(false);
        } catch {}
    }

    /// Issuing adds the statement's energy to what its root issued, and never beyond what the root notarized.
    function check_no_more_is_issued_than_notarized(bytes32 root, Statement calldata statement) external {
        uint256 before = certificate.issuedFrom(root);
        certificate.issue(root, statement, new bytes32[](0));
        assert(certificate.issuedFrom(root) == before + statement.energyWh);
        assert(certificate.issuedFrom(root) <= notary.notarization(root).energyWh);
    }

    /// A correction counts what it raises, and never beyond what the root notarized.
    function check_no_more_is_corrected_than_notarized(bytes32 root, Statement calldata statement) external {
        uint256 before = certificate.issuedFrom(root);
        certificate.correct(root, statement, new bytes32[](0));
        uint256 raised = statement.energyWh > statement.previousWh ? statement.energyWh - statement.previousWh : 0;
        assert(certificate.issuedFrom(root) == before + raised);
        if (raised != 0) assert(certificate.issuedFrom(root) <= notary.notarization(root).energyWh);
    }

    /// What is issued goes to the account but for what settles the device's debt, all of it if it must be.
    function check_debt_is_netted_first(bytes32 root, Statement calldata statement) external {
        uint256 debtWh = certificate.debtOf(statement.deviceId);
        uint256 id = _idOf(statement);
        uint256 balance = certificate.balanceOf(GENERATOR, id);
        certificate.issue(root, statement, new bytes32[](0));
        uint256 settledWh = debtWh < statement.energyWh ? debtWh : statement.energyWh;
        assert(certificate.debtOf(statement.deviceId) == debtWh - settledWh);
        assert(certificate.balanceOf(GENERATOR, id) == balance + statement.energyWh - settledWh);
    }

    /// A correction is accepted only as the next version upon the energy stored, and leaves itself stored: so none is
    /// accepted twice, and no two correct the same version, however many come between.
    function check_a_correction_follows_what_is_stored(bytes32 root, Statement calldata statement) external {
        uint256 id = _idOf(statement);
        (uint32 version, uint64 energyWh) = certificate.correctionOf(id);
        vm.assume(certificate.debtOf(statement.deviceId) == 0);
        certificate.correct(root, statement, new bytes32[](0));
        assert(statement.version == uint256(version) + 1);
        assert(version == 0 || statement.previousWh == energyWh);
        (version, energyWh) = certificate.correctionOf(id);
        assert(version == statement.version && energyWh == statement.energyWh);
    }

    /// A correction leaves every slot of its period certified, whether it found them so or took them.
    function check_a_correction_leaves_its_slots_certified(bytes32 root, Statement calldata statement, uint40 time)
        external
    {
        vm.assume(certificate.debtOf(statement.deviceId) == 0);
        _assumeWithin(statement, time);
        certificate.correct(root, statement, new bytes32[](0));
        assert(certificate.isCertified(statement.deviceId, time, 1));
    }

    /// Where one second of its period is certified, by whatever act, batch or version, a statement is not issued.
    function check_a_certified_slot_is_not_issued_again(bytes32 root, Statement calldata statement, uint40 time) external {
        vm.assume(certificate.debtOf(statement.deviceId) == 0);
        _assumeWithin(statement, time);
        vm.assume(certificate.isCertified(statement.deviceId, time, 1));
        try certificate.issue(root, statement, new bytes32[](0)) {
            assert(false);
        } catch {}
    }

    /// A correction never lowers what an account holds; it leaves debt and balance so that issued = balance + settled
    /// still holds: of what is already issued, more is credited and less is owed.
    function check_correction_owes_what_it_lowers(bytes32 root, Statement calldata statement) external {
        uint256 debtWh = certificate.debtOf(statement.deviceId);
        uint256 balance = certificate.balanceOf(GENERATOR, _idOf(statement));
        certificate.correct(root, statement, new bytes32[](0));
        uint256 minted = certificate.balanceOf(GENERATOR, _idOf(statement)) - balance;
        uint256 debtAfter = certificate.debtOf(statement.deviceId);
        if (statement.energyWh < statement.previousWh && debtAfter > debtWh) {
            assert(minted == 0 && debtAfter - debtWh == statement.previousWh - statement.energyWh);
        } else {
            uint256 credited = minted + debtWh - debtAfter;
            assert(credited == statement.energyWh || credited + statement.previousWh == statement.energyWh);
        }
    }

    function _assumeWithin(Statement calldata statement, uint40 time) private pure {
        vm.assume(statement.start <= time && time < uint256(statement.start) + statement.duration);
    }

    function _idOf(Statement calldata statement) private pure returns (uint256) {
        return uint256(statement.deviceId) << 192 | uint256(statement.start) << 152 | uint256(statement.duration) << 120;
    }
}
