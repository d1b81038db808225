// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IDeviceRegistry} from "./interfaces/IDeviceRegistry.sol";
import {IEmissionFactors} from "./interfaces/IEmissionFactors.sol";
import {IEnergyCertificate} from "./interfaces/IEnergyCertificate.sol";
import {IMitigationOutcome} from "./interfaces/IMitigationOutcome.sol";
import {RetirableToken} from "./RetirableToken.sol";

/// @title Mitigation outcomes, 1 unit = 1 g CO2e
/// @dev For every id: sum of Converted.co2eG = balances + retired, with what the overall mitigation levy cancelled
/// counted as retired by this contract.
contract MitigationOutcome is IMitigationOutcome, RetirableToken, AccessManaged {
    uint256 private constant MICROGRAMS_PER_GRAM = 1_000_000; // Wh times g/MWh are micrograms
    uint256 private constant BPS = 10_000;
    uint8 private constant ALL_PURPOSES = 7;
    uint256 private constant DAY = 86_400;

    IEnergyCertificate private immutable _certificate;
    IDeviceRegistry private immutable _registry;
    IEmissionFactors private immutable _factors;

    mapping(uint64 authorisationId => Authorisation) private _authorisations;

    constructor(address authority, address certificate_, address factors_, string memory baseUri)
        RetirableToken("Wattmark Mitigation Outcome", baseUri)
        AccessManaged(authority)
    {
        _certificate = IEnergyCertificate(certificate_);
        _registry = IDeviceRegistry(IEnergyCertificate(certificate_).registry());
        _factors = IEmissionFactors(factors_);
    }

    // -- conversion ----------------------------------------------------------------------------------

    /// @inheritdoc IMitigationOutcome
    function convert(uint256[] calldata ids, uint256[] calldata amounts, uint64 authorisationId)
        external
        returns (uint256[] memory outcomeIds, uint256[] memory grams)
    {
        if (ids.length == 0) revert NothingToConvert();
        _checkOpen(authorisationId);
        _certificate.consume(msg.sender, ids, amounts);

        outcomeIds = new uint256[](ids.length);
        grams = new uint256[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            (outcomeIds[i], grams[i]) = _book(ids[i], amounts[i], authorisationId);
        }
        uint256[] memory proceeds = _takeLevies(outcomeIds, grams, authorisationId);
        // Receivers are called from here on; everything is written.
        if (proceeds.length != 0) {
            _mintBatch(_authorisations[authorisationId].shareOfProceedsAccount, outcomeIds, proceeds, "");
        }
        _mintBatch(msg.sender, outcomeIds, grams, "");
    }

    // -- authorisations ------------------------------------------------------------------------------

    /// @inheritdoc IMitigationOutcome
    function authorise(uint64 authorisationId, Authorisation calldata given) external restricted {
        if (_authorisations[authorisationId].state != AuthorisationState.NONE) {
            revert AuthorisationAlreadyExists(authorisationId);
        }
        _checkAuthorisation(authorisationId, given);
        _authorisations[authorisationId] = given;
        emit Authorised(authorisationId, given.country, given);
    }

    /// @inheritdoc IMitigationOutcome
    function recordFirstTransfer(uint64 authorisationId, bytes32 evidenceHash) external restricted {
        _advance(authorisationId, AuthorisationState.FIRST_TRANSFERRED, evidenceHash);
    }

    /// @inheritdoc IMitigationOutcome
    function recordAdjustmentPending(uint64 authorisationId, bytes32 evidenceHash) external restricted {
        _advance(authorisationId, AuthorisationState.ADJUSTMENT_PENDING, evidenceHash);
    }

    /// @inheritdoc IMitigationOutcome
    function recordAdjustment(uint64 authorisationId, bytes32 evidenceHash) external restricted {
        _advance(authorisationId, AuthorisationState.COMPLETED, evidenceHash);
    }

    // -- views ---------------------------------------------------------------------------------------

    /// @inheritdoc IMitigationOutcome
    function authorisation(uint64 authorisationId) external view returns (Authorisation memory) {
        return _known(authorisationId);
    }

    /// @inheritdoc IMitigationOutcome
    function certificate() external view returns (address) {
        return address(_certificate);
    }

    /// @inheritdoc IMitigationOutcome
    function registry() external view returns (address) {
        return address(_registry);
    }

    /// @inheritdoc IMitigationOutcome
    function factors() external view returns (address) {
        return address(_factors);
    }

    /// @inheritdoc IMitigationOutcome
    function parseId(uint256 id)
        external
        pure
        returns (uint32 factorId, uint16 vintageYear, bytes2 country, uint64 authorisationId)
    {
        return (uint32(id >> 224), uint16(id >> 208), bytes2(uint16(id >> 192)), _authorisationOf(id));
    }

    /// @inheritdoc IMitigationOutcome
    function isEstimate(uint256 id) public pure returns (bool) {
        return _authorisationOf(id) == 0;
    }

    /// @inheritdoc IMitigationOutcome
    function nameOf(uint256 id) external pure returns (string memory) {
        return isEstimate(id) ? "Avoided-emission estimate" : "Mitigation outcome";
    }

    // -- inside a conversion -------------------------------------------------------------------------

    /// @dev Outcome id and grams of `amountWh` of a certificate, by the current factor of its zone and UTC year.
    function _book(uint256 certificateId, uint256 amountWh, uint64 authorisationId)
        private
        returns (uint256 outcomeId, uint256 co2eG)
    {
        (bytes16 gridZone, bytes2 country) = _registry.zoneOf(uint64(certificateId >> 192));
        uint16 year = _yearOf(uint40(certificateId >> 152));
        (uint32 factorId, uint56 gramsPerMWh) = _factors.currentFactor(gridZone, year);
        if (authorisationId != 0) _checkCovers(authorisationId, country, year);

        outcomeId = uint256(factorId) << 224 | uint256(year) << 208 | uint256(uint16(country)) << 192
            | uint256(authorisationId) << 128;
        uint256 micrograms = amountWh * gramsPerMWh;
        co2eG = micrograms / MICROGRAMS_PER_GRAM;
        emit Converted(
            msg.sender, certificateId, outcomeId, amountWh, co2eG, uint32(micrograms % MICROGRAMS_PER_GRAM)
        );
    }

    /// @dev Counts `grams` against the authorisation's cap and takes its levies off them. Levies are rounded up, so
    /// that they cannot be avoided by converting little at a time. Returns the share of proceeds of each, none if no levy.
    function _takeLevies(uint256[] memory outcomeIds, uint256[] memory grams, uint64 authorisationId)
        private
        returns (uint256[] memory proceeds)
    {
        if (authorisationId == 0) return proceeds;
        Authorisation storage terms = _authorisations[authorisationId];
        _countConverted(terms, authorisationId, grams);
        uint256 proceedsBps = terms.shareOfProceedsBps;
        uint256 mitigationBps = terms.overallMitigationBps;
        if (proceedsBps + mitigationBps == 0) return proceeds;

        if (proceedsBps != 0) proceeds = new uint256[](grams.length);
        for (uint256 i = 0; i < grams.length; ++i) {
            uint256 shareG = Math.ceilDiv(grams[i] * proceedsBps, BPS);
            uint256 mitigationG = Math.min(Math.ceilDiv(grams[i] * mitigationBps, BPS), grams[i] - shareG);
            grams[i] -= shareG + mitigationG;
            if (proceedsBps != 0) proceeds[i] = shareG;
            if (mitigationG != 0) _addRetired(address(this), outcomeIds[i], mitigationG);
            emit LeviesTaken(outcomeIds[i], shareG, mitigationG);
        }
    }

    function _countConverted(Authorisation storage terms, uint64 authorisationId, uint256[] memory grams) private {
        uint256 convertedG = terms.convertedG;
        for (uint256 i = 0; i < grams.length; ++i) {
            convertedG += grams[i];
        }
        if (convertedG > terms.capG) revert AuthorisationCapExceeded(authorisationId, convertedG, terms.capG);
        terms.convertedG = uint64(convertedG);
    }

    /// @dev Nothing is converted under an authorisation once its first transfer is recorded.
    function _checkOpen(uint64 authorisationId) private view {
        if (authorisationId == 0) return;
        AuthorisationState state = _known(authorisationId).state;
        if (state != AuthorisationState.AUTHORISED) revert AuthorisationNotOpen(authorisationId, state);
    }

    function _checkCovers(uint64 authorisationId, bytes2 country, uint16 year) private view {
        Authorisation storage terms = _authorisations[authorisationId];
        if (terms.country != country || year < terms.firstYear || year > terms.lastYear) {
            revert AuthorisationDoesNotCover(authorisationId, country, year);
        }
    }

    // -- states --------------------------------------------------------------------------------------

    /// @dev States move one step at a time and never back.
    function _advance(uint64 authorisationId, AuthorisationState next, bytes32 evidenceHash) private {
        Authorisation storage known = _known(authorisationId);
        if (uint8(known.state) + 1 != uint8(next)) revert StateDoesNotFollow(authorisationId, known.state, next);
        if (evidenceHash == 0) revert AuthorisationInvalid("evidenceHash");
        known.state = next;
        emit StateAdvanced(authorisationId, next, evidenceHash);
    }

    /// @dev Authorised outcomes are used only after their first transfer; estimates are bound to nothing.
    function _checkRetirable(uint256 id) internal view override {
        uint64 authorisationId = _authorisationOf(id);
        if (authorisationId == 0) return;
        AuthorisationState state = _authorisations[authorisationId].state;
        if (state < AuthorisationState.FIRST_TRANSFERRED) revert NotFirstTransferred(authorisationId, state);
    }

    function _known(uint64 authorisationId) private view returns (Authorisation storage known) {
        known = _authorisations[authorisationId];
        if (known.state == AuthorisationState.NONE) revert AuthorisationUnknown(authorisationId);
    }

    function _checkAuthorisation(uint64 authorisationId, Authorisation calldata given) private pure {
        if (authorisationId == 0) revert AuthorisationInvalid("authorisationId");
        if (given.country == 0) revert AuthorisationInvalid("country");
        if (given.firstYear == 0 || given.firstYear > given.lastYear) revert AuthorisationInvalid("firstYear");
        if (given.purposes == 0 || given.purposes > ALL_PURPOSES) revert AuthorisationInvalid("purposes");
        if (uint256(given.shareOfProceedsBps) + given.overallMitigationBps > BPS) {
            revert AuthorisationInvalid("overallMitigationBps");
        }
        if (given.shareOfProceedsBps != 0 && given.shareOfProceedsAccount == address(0)) {
            revert AuthorisationInvalid("shareOfProceedsAccount");
        }
        if (given.state != AuthorisationState.AUTHORISED) revert AuthorisationInvalid("state");
        if (given.capG == 0) revert AuthorisationInvalid("capG");
        if (given.convertedG != 0) revert AuthorisationInvalid("convertedG");
        if (given.documentHash == 0) revert AuthorisationInvalid("documentHash");
        if (bytes(given.reference_).length == 0) revert AuthorisationInvalid("reference_");
    }

    // -- ids and years -------------------------------------------------------------------------------

    function _authorisationOf(uint256 id) private pure returns (uint64) {
        return uint64(id >> 128);
    }

    /// @dev Year of the proleptic Gregorian calendar: `civil_from_days` of Howard Hinnant's "chrono-Compatible
    /// Low-Level Date Algorithms", for days since 1970 only. Its years begin in March and its eras last 400 years.
    function _yearOf(uint40 time) private pure returns (uint16) {
        uint256 day = uint256(time) / DAY + 719_468; // since 0000-03-01
        uint256 era = day / 146_097;
        uint256 dayOfEra = day % 146_097;
        uint256 yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365;
        uint256 dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
        bool isJanuaryOrFebruary = dayOfYear >= 306;
        return uint16(era * 400 + yearOfEra + (isJanuaryOrFebruary ? 1 : 0));
    }
}
