// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {EnergyCertificate} from "../../contracts/EnergyCertificate.sol";
import {RetirementDetails} from "../../contracts/Types.sol";
import {CertificateHarness} from "./Certificate.t.sol";

/// @dev A wallet that signed one message and no other (ERC-1271): elliptic curves are beyond a solver.
contract SignedOnce {
    bytes32 private immutable _digest;

    constructor(bytes32 digest) {
        _digest = digest;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return digest == _digest ? this.isValidSignature.selector : bytes4(0);
    }
}

/// @title What becomes of certificates once they are held, from any state
contract TokenProof is CertificateHarness {
    address private constant ANNA = address(0xA1);
    address private constant BORIS = address(0xB2);
    bytes4 private constant ISSUE = EnergyCertificate.issue.selector;
    bytes4 private constant ISSUE_MANY = EnergyCertificate.issueMany.selector;
    bytes4 private constant ISSUE_ITEM = EnergyCertificate.issueItem.selector;
    bytes4 private constant ISSUE_AND_RETIRE = EnergyCertificate.issueAndRetire.selector;
    bytes4 private constant CORRECT = EnergyCertificate.correct.selector;

    function _details() private pure returns (RetirementDetails memory) {
        return RetirementDetails(ANNA, "", "use", "", "", 0, 0);
    }

    /// Whoever is neither the holder nor approved, nor the converter, lowers no balance by any call with any arguments.
    function check_only_the_holder_and_the_approved_lower_a_balance(address caller, uint256 id, bytes32 signed) external {
        // The holder is a wallet that has signed something: that signature moves nothing by itself.
        address holder = address(new SignedOnce(signed));
        vm.assume(signed == 0);
        vm.assume(caller != holder && caller != certificate.converter());
        vm.assume(!certificate.isApprovedForAll(holder, caller));
        uint256 before = certificate.balanceOf(holder, id);
        _try(caller, address(certificate), _anyCallButIssuing());
        assert(certificate.balanceOf(holder, id) >= before);
    }

    /// No call of anybody lowers what an account has retired.
    function check_retired_never_falls(address caller, address account, uint256 id) external {
        uint256 before = certificate.retiredOf(account, id);
        _try(caller, address(certificate), _anyCallButIssuing());
        assert(certificate.retiredOf(account, id) >= before);
    }

    /// Nobody but the bound converter consumes.
    function check_only_the_converter_consumes(
        address caller,
        address account,
        uint256[] calldata ids,
        uint256[] calldata amounts
    ) external {
        vm.assume(caller != certificate.converter());
        vm.prank(caller);
        try certificate.consume(account, ids, amounts) {
            assert(false);
        } catch {}
    }

    /// Over any two acts, balances + retired + consumed - debt stays what it was: 1 Wh is in one place.
    function check_nothing_is_made_or_lost_by_two_acts(uint64 device, uint40 start, uint256[2] calldata amounts, uint8[2] calldata acts, bool[2] calldata byAnna)
        external
    {
        uint256 id = uint256(device) << 192 | uint256(start) << 152;
        for (uint256 i = 0; i < 2; ++i) {
            _assumeSmall(certificate.balanceOf(i == 0 ? ANNA : BORIS, id));
            _assumeSmall(certificate.retiredOf(i == 0 ? ANNA : BORIS, id));
        }
        uint256 before = _held(id) - certificate.debtOf(device);
        uint256 consumed = 0;
        for (uint256 i = 0; i < 2; ++i) {
            address actor = byAnna[i] ? ANNA : BORIS;
            address other = byAnna[i] ? BORIS : ANNA;
            vm.assume(acts[i] < 4);
            if (acts[i] == 3) vm.prank(certificate.converter());
            else vm.prank(actor);
            if (acts[i] == 0) {
                certificate.safeTransferFrom(actor, other, id, amounts[i], "");
            } else if (acts[i] == 1) {
                certificate.retire(id, amounts[i], _details());
            } else if (acts[i] == 2) {
                certificate.settleDebt(id, amounts[i]);
            } else {
                uint256[] memory ids = new uint256[](1);
                uint256[] memory each = new uint256[](1);
                (ids[0], each[0]) = (id, amounts[i]);
                certificate.consume(actor, ids, each);
                consumed += amounts[i];
            }
        }
        assert(_held(id) + consumed - certificate.debtOf(device) == before);
    }

    /// A retirement that was signed once is done once.
    function check_a_signed_retirement_is_done_once(bytes32 signed, uint256[2] calldata ids, uint256[2] calldata amounts, uint256[2] calldata deadlines)
        external
    {
        address holder = address(new SignedOnce(signed));
        certificate.retireBySig(holder, ids[0], amounts[0], _details(), deadlines[0], "");
        try certificate.retireBySig(holder, ids[1], amounts[1], _details(), deadlines[1], "") {
            assert(false);
        } catch {}
    }

    /// @dev Issuing and correcting have proofs of their own (IssueProof): here they would only multiply the paths.
    function _anyCallButIssuing() private pure returns (bytes memory data) {
        data = svm.createCalldata("EnergyCertificate");
        bytes4 selector = bytes4(data);
        vm.assume(selector != ISSUE && selector != ISSUE_MANY && selector != ISSUE_ITEM);
        vm.assume(selector != ISSUE_AND_RETIRE && selector != CORRECT);
    }

    function _held(uint256 id) private view returns (uint256) {
        return certificate.balanceOf(ANNA, id) + certificate.balanceOf(BORIS, id) + certificate.retiredOf(ANNA, id)
            + certificate.retiredOf(BORIS, id) + type(uint128).max;
    }

    /// @dev Any amount that 2^64 devices could produce: sums of a few do not overflow.
    function _assumeSmall(uint256 amount) private pure {
        vm.assume(amount <= type(uint128).max);
    }
}
