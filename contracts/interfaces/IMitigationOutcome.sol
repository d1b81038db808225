// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title Mitigation outcomes, 1 unit = 1 g CO2e
/// @notice An outcome comes from certificates that are consumed in the same call. Without an authorisation it is an
/// avoided-emission estimate and says so by its id (authorisation 0).
/// @dev Id: factorId << 224 | vintage year << 208 | country << 192 | authorisationId << 128.
interface IMitigationOutcome {
    /// @dev Article 6 states of an authorisation; they move only forward, one step at a time.
    enum AuthorisationState {
        NONE,
        AUTHORISED,
        FIRST_TRANSFERRED,
        ADJUSTMENT_PENDING,
        COMPLETED
    }

    /// @dev `purposes` is a set of bits: 1 NDC, 2 other international mitigation purposes, 4 other purposes.
    /// Levies are in basis points of the grams of each conversion, together at most 10,000.
    struct Authorisation {
        bytes2 country;
        uint16 firstYear;
        uint16 lastYear;
        uint8 purposes;
        uint16 shareOfProceedsBps;
        uint16 overallMitigationBps;
        AuthorisationState state;
        uint64 capG;
        uint64 convertedG;
        address shareOfProceedsAccount;
        bytes32 documentHash;
        string reference_; // the authorisation's identifier in the registry that gave it
    }

    /// @notice `amountWh` of certificate `certificateId` became `co2eG` of outcome `outcomeId` for `account`, levies included;
    /// `restMicrograms` (< 1,000,000) is what rounding down to whole grams left.
    event Converted(
        address indexed account,
        uint256 indexed certificateId,
        uint256 indexed outcomeId,
        uint256 amountWh,
        uint256 co2eG,
        uint32 restMicrograms
    );
    /// @notice Taken from a conversion: `shareOfProceedsG` minted to the adaptation account, `overallMitigationG` cancelled at once.
    event LeviesTaken(uint256 indexed outcomeId, uint256 shareOfProceedsG, uint256 overallMitigationG);
    event Authorised(uint64 indexed authorisationId, bytes2 indexed country, Authorisation authorisation);
    event StateAdvanced(uint64 indexed authorisationId, AuthorisationState state, bytes32 evidenceHash);

    error NothingToConvert();
    error AuthorisationUnknown(uint64 authorisationId);
    error AuthorisationAlreadyExists(uint64 authorisationId);
    error AuthorisationInvalid(string field);
    error AuthorisationNotOpen(uint64 authorisationId, AuthorisationState state);
    error AuthorisationDoesNotCover(uint64 authorisationId, bytes2 country, uint16 year);
    error AuthorisationCapExceeded(uint64 authorisationId, uint256 convertedG, uint64 capG);
    error StateDoesNotFollow(uint64 authorisationId, AuthorisationState current, AuthorisationState given);
    /// @dev An authorised outcome is retired only once its first transfer is recorded.
    error NotFirstTransferred(uint64 authorisationId, AuthorisationState state);

    /// @notice Consumes the caller's certificates and mints outcomes by the current factor of each one's zone and UTC year.
    /// `grams` is what the caller got of each outcome, levies off.
    function convert(uint256[] calldata ids, uint256[] calldata amounts, uint64 authorisationId)
        external
        returns (uint256[] memory outcomeIds, uint256[] memory grams);

    /// @notice Records an authorisation (state must be AUTHORISED, convertedG zero). Role: authoriser.
    function authorise(uint64 authorisationId, Authorisation calldata authorisation) external;

    /// @notice Records the first international transfer. Role: transfer recorder.
    function recordFirstTransfer(uint64 authorisationId, bytes32 evidenceHash) external;

    /// @notice Records that the corresponding adjustment is due. Role: adjustment recorder.
    function recordAdjustmentPending(uint64 authorisationId, bytes32 evidenceHash) external;

    /// @notice Records that the corresponding adjustment was made. Role: adjustment recorder.
    function recordAdjustment(uint64 authorisationId, bytes32 evidenceHash) external;

    /// @notice The authorisation as it stands. Reverts with `AuthorisationUnknown`.
    function authorisation(uint64 authorisationId) external view returns (Authorisation memory);

    /// @notice The certificates that are converted.
    function certificate() external view returns (address);

    /// @notice The registry that tells grid zone and country of a certificate's device.
    function registry() external view returns (address);

    /// @notice The emission factors that conversions go by.
    function factors() external view returns (address);

    /// @notice The parts of an outcome id.
    function parseId(uint256 id)
        external
        pure
        returns (uint32 factorId, uint16 vintageYear, bytes2 country, uint64 authorisationId);

    /// @notice Whether `id` is an avoided-emission estimate without authorisation.
    function isEstimate(uint256 id) external pure returns (bool);

    /// @notice What an outcome is called: "Mitigation outcome" or "Avoided-emission estimate".
    function nameOf(uint256 id) external pure returns (string memory);
}
