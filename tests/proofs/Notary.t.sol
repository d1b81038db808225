// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Notary} from "../../contracts/Notary.sol";
import {Batch, BatchKind, BatchStatus, Notarization} from "../../contracts/Types.sol";
import {Harness} from "./Harness.sol";

/// @title What the notary accepts and never changes, from any state. Signatures recover to any address.
contract NotaryProof is Harness {
    AccessManager private manager;
    Notary private notary;

    function setUp() public {
        manager = new AccessManager(ADMIN);
        address[] memory signers = new address[](1);
        signers[0] = address(1);
        notary = new Notary(address(manager), signers, 1);
        vm.warp(2 ** 39);
        svm.enableSymbolicStorage(address(notary));
    }

    function _signatures(uint256 count) private pure returns (bytes[] memory signatures) {
        signatures = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            signatures[i] = svm.createBytes(65, "signature");
        }
    }

    /// A FINAL batch is accepted only upon the head it was signed for, and the next head is made of both.
    function check_final_batches_are_chained(Batch calldata batch) external {
        vm.assume(batch.kind == BatchKind.FINAL);
        bytes32 head = notary.head();
        bytes32 digest = notary.digest(batch);
        notary.notarize(batch, _signatures(1));
        assert(batch.head == head);
        assert(notary.head() == keccak256(abi.encodePacked(head, digest)));
    }

    /// An INTERIM batch leaves the chain of FINAL ones alone.
    function check_interim_batches_stand_beside(Batch calldata batch) external {
        vm.assume(batch.kind == BatchKind.INTERIM);
        bytes32 head = notary.head();
        notary.notarize(batch, _signatures(1));
        assert(batch.head == 0 && notary.head() == head);
    }

    /// A root is notarized once: a record that is there is not written again, whatever batch names its root.
    function check_a_root_is_notarized_once(Batch calldata batch) external {
        vm.assume(notary.notarization(batch.root).status != BatchStatus.NONE);
        try notary.notarize(batch, _signatures(1)) {
            assert(false);
        } catch {}
    }

    /// Two signatures count as two only of two members of the current set, and are enough only if two is the threshold.
    function check_signatures_are_of_distinct_members(Batch calldata batch) external {
        uint16 epoch = notary.signerEpoch();
        (, uint8 threshold) = _threshold();
        bytes32 digest = notary.digest(batch);
        bytes[] memory signatures = _signatures(2);
        notary.notarize(batch, signatures);
        address first = ECDSA.recover(digest, signatures[0]);
        address second = ECDSA.recover(digest, signatures[1]);
        assert(first != second && first != address(0));
        assert(notary.isSigner(epoch, first) && notary.isSigner(epoch, second));
        assert(batch.signerEpoch == epoch);
        assert(threshold <= 2);
    }

    /// A revocation changes the status and nothing else, and a revoked root stays revoked.
    function check_revoking_changes_the_status_alone(bytes32 root) external {
        Notarization memory before = notary.notarization(root);
        vm.prank(ADMIN);
        notary.revoke(root, "");
        Notarization memory now_ = notary.notarization(root);
        assert(before.status == BatchStatus.OPEN && now_.status == BatchStatus.REVOKED);
        assert(now_.energyWh == before.energyWh && now_.kind == before.kind && now_.statements == before.statements);
        assert(now_.start == before.start && now_.end == before.end && now_.notarizedAt == before.notarizedAt);
        assert(now_.signerEpoch == before.signerEpoch);
    }

    /// @dev The threshold that `notarize` reads: beside the epoch in the first slot.
    function _threshold() private view returns (uint16, uint8) {
        uint256 state = uint256(vm.load(address(notary), bytes32(STATE_SLOT)));
        return (uint16(state), uint8(state >> 16));
    }

    uint256 private constant STATE_SLOT = 3;
}
