// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

import {EnergyCertificate} from "../contracts/EnergyCertificate.sol";
import {Notary} from "../contracts/Notary.sol";
import {DeviceKind, Statement, Terms, Visibility} from "../contracts/Types.sol";
import {Harness} from "./Harness.sol";

/// @dev Answers as the device registry does, for one account and grid that never change. The grid is a power of two,
/// which the registry would refuse: a solver divides by it at once, and the certificate's code is the same for any.
contract AnyRegistry {
    address public immutable account;
    uint32 public constant GRANULARITY = 65_536;

    constructor(address account_) {
        account = account_;
    }

    function issuanceTerms(uint64, uint40)
        external
        view
        returns (Terms memory, DeviceKind, Visibility, uint32, uint40, uint40)
    {
        return (
            Terms({account: account, since: 0, capacityW: type(uint56).max}),
            DeviceKind.GENERATION,
            Visibility.PUBLIC,
            GRANULARITY,
            0,
            type(uint40).max
        );
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

contract IssueProof is CertificateHarness {
    function check_issue_once(bytes32 root1, Statement memory first) public {
        bytes32[] memory proof = new bytes32[](0);
        certificate.issue(root1, first, proof);
        assert(false);
    }
    function check_issue_twice(bytes32 root1, bytes32 root2, Statement memory first, Statement memory second) public {
        vm.assume(first.deviceId == second.deviceId);
        vm.assume(first.start < uint256(second.start) + second.duration);
        vm.assume(second.start < uint256(first.start) + first.duration);
        bytes32[] memory proof = new bytes32[](0);
        certificate.issue(root1, first, proof);
        try certificate.issue(root2, second, proof) { assert(false); } catch {}
    }
}
