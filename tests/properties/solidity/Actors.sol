// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// Who calls, receives and looks in tests/properties. Knows the contracts under test by their views only.

interface IToken {
    function balanceOf(address account, uint256 id) external view returns (uint256);
    function retiredOf(address account, uint256 id) external view returns (uint256);
    function retirementCount() external view returns (uint256);
    function nonces(address account) external view returns (uint256);
    function isApprovedForAll(address account, address operator) external view returns (bool);
}

interface ICertificate is IToken {
    function issuedFrom(bytes32 root) external view returns (uint256);
    function debtOf(uint64 deviceId) external view returns (uint64);
    function correctionOf(uint256 id) external view returns (uint32 version, uint64 energyWh);
    function paused() external view returns (bool);
}

interface INotaryViews {
    struct Notarization {
        uint40 notarizedAt;
        uint40 start;
        uint40 end;
        uint32 statements;
        uint64 energyWh;
        uint8 kind;
        uint8 status;
        uint16 signerEpoch;
    }

    function notarization(bytes32 root) external view returns (Notarization memory);
    function head() external view returns (bytes32);
    function paused() external view returns (bool);
    function signerEpoch() external view returns (uint16);
}

/// @notice Reads many views in one call, as one flat list of words.
contract Lens {
    struct Query {
        address certificate;
        address outcome;
        address notary;
        uint256[] certificateIds;
        uint256[] outcomeIds;
        address[] accounts;
        bytes32[] roots;
        uint64[] devices;
    }

    /// @return words in this order: for each certificate id: balances, then retired, of every account, then version
    /// and energy of its correction; the same without correction for each outcome id; for each root: issued,
    /// notarized, status; debts; for each account: nonces at both tokens; retirement counts of both tokens;
    /// the pauses of certificate and notary; epoch; head.
    function look(Query calldata query) external view returns (uint256[] memory words) {
        uint256 next = 0;
        words = new uint256[](_size(query));
        for (uint256 i = 0; i < query.certificateIds.length; ++i) {
            next = _holdings(words, next, query.certificate, query.certificateIds[i], query.accounts);
            (words[next], words[next + 1]) = ICertificate(query.certificate).correctionOf(query.certificateIds[i]);
            next += 2;
        }
        for (uint256 i = 0; i < query.outcomeIds.length; ++i) {
            next = _holdings(words, next, query.outcome, query.outcomeIds[i], query.accounts);
        }
        for (uint256 i = 0; i < query.roots.length; ++i) {
            INotaryViews.Notarization memory batch = INotaryViews(query.notary).notarization(query.roots[i]);
            words[next++] = ICertificate(query.certificate).issuedFrom(query.roots[i]);
            words[next++] = batch.energyWh;
            words[next++] = batch.status;
        }
        for (uint256 i = 0; i < query.devices.length; ++i) {
            words[next++] = ICertificate(query.certificate).debtOf(query.devices[i]);
        }
        for (uint256 i = 0; i < query.accounts.length; ++i) {
            words[next++] = IToken(query.certificate).nonces(query.accounts[i]);
            words[next++] = IToken(query.outcome).nonces(query.accounts[i]);
        }
        words[next++] = IToken(query.certificate).retirementCount();
        words[next++] = IToken(query.outcome).retirementCount();
        words[next++] = ICertificate(query.certificate).paused() ? 1 : 0;
        words[next++] = INotaryViews(query.notary).paused() ? 1 : 0;
        words[next++] = INotaryViews(query.notary).signerEpoch();
        words[next++] = uint256(INotaryViews(query.notary).head());
    }

    function _size(Query calldata query) private pure returns (uint256) {
        return query.certificateIds.length * (2 * query.accounts.length + 2)
            + query.outcomeIds.length * 2 * query.accounts.length + query.roots.length * 3 + query.devices.length
            + 2 * query.accounts.length + 6;
    }

    /// @return balances and retired amounts of one id, summed over accounts.
    function totals(address token, uint256 id, address[] calldata accounts)
        external
        view
        returns (uint256 balances, uint256 retired)
    {
        for (uint256 i = 0; i < accounts.length; ++i) {
            balances += IToken(token).balanceOf(accounts[i], id);
            retired += IToken(token).retiredOf(accounts[i], id);
        }
    }

    function _holdings(uint256[] memory words, uint256 next, address token, uint256 id, address[] calldata accounts)
        private
        view
        returns (uint256)
    {
        for (uint256 i = 0; i < accounts.length; ++i) {
            words[next++] = IToken(token).balanceOf(accounts[i], id);
        }
        for (uint256 i = 0; i < accounts.length; ++i) {
            words[next++] = IToken(token).retiredOf(accounts[i], id);
        }
        return next;
    }
}

/// @notice A contract account: receives as its mood is, may act once from inside a callback, signs by ERC-1271.
contract Receiver {
    enum Mood {
        ACCEPT,
        WRONG_ANSWER,
        REVERT,
        REVERT_EMPTY,
        BURN_GAS
    }

    /// @notice What the receiver saw when it was called. The totals only where there was gas to look at them.
    event Observed(
        uint256 id, uint256 balance, uint256 retired, uint256 issuedWh, uint256 notarizedWh, bool roomy,
        uint256 allBalances, uint256 allRetired
    );
    event Reentered(bool success, bytes result);

    error Refused();

    uint256 private constant ROOMY = 2_000_000;
    Lens private immutable _lens;
    address private immutable _certificate;
    address private immutable _notary;
    address[] private _accounts;

    Mood private _mood;
    bytes32 private _watched;
    address private _target;
    bytes private _data;
    mapping(bytes32 digest => bool) private _signed;

    constructor(Lens lens, address certificate, address notary) {
        _lens = lens;
        _certificate = certificate;
        _notary = notary;
    }

    // -- set by the test -------------------------------------------------------------------------------

    function setAccounts(address[] calldata accounts) external {
        _accounts = accounts;
    }

    function setMood(Mood mood) external {
        _mood = mood;
    }

    function watch(bytes32 root) external {
        _watched = root;
    }

    function arm(address target, bytes calldata data) external {
        _target = target;
        _data = data;
    }

    function sign(bytes32 digest) external {
        _signed[digest] = true;
    }

    /// @notice Calls as this contract and answers as the callee did.
    function act(address target, bytes calldata data) external {
        (bool success, bytes memory result) = target.call(data);
        assembly ("memory-safe") {
            if iszero(success) { revert(add(result, 32), mload(result)) }
            return(add(result, 32), mload(result))
        }
    }

    // -- called by the contracts under test ------------------------------------------------------------

    function onERC1155Received(address, address, uint256 id, uint256, bytes calldata) external returns (bytes4) {
        return _receive(id) ? this.onERC1155Received.selector : bytes4(0xdeadbeef);
    }

    function onERC1155BatchReceived(address, address, uint256[] calldata ids, uint256[] calldata, bytes calldata)
        external
        returns (bytes4)
    {
        return _receive(ids.length == 0 ? 0 : ids[0]) ? this.onERC1155BatchReceived.selector : bytes4(0xdeadbeef);
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        if (_mood == Mood.REVERT) revert Refused();
        if (_mood == Mood.REVERT_EMPTY) revert();
        if (_mood == Mood.BURN_GAS) assembly { invalid() }
        if (_mood == Mood.WRONG_ANSWER || !_signed[digest]) return 0xffffffff;
        return this.isValidSignature.selector;
    }

    function supportsInterface(bytes4) external pure returns (bool) {
        return true;
    }

    function _receive(uint256 id) private returns (bool) {
        if (_mood == Mood.REVERT) revert Refused();
        if (_mood == Mood.REVERT_EMPTY) revert();
        if (_mood == Mood.BURN_GAS) assembly { invalid() }
        if (_mood == Mood.WRONG_ANSWER) return false;
        _observe(id);
        if (_target != address(0)) {
            (address target, bytes memory data) = (_target, _data);
            _target = address(0);
            (bool success, bytes memory result) = target.call(data);
            emit Reentered(success, result);
        }
        return true;
    }

    function _observe(uint256 id) private {
        uint256 allBalances;
        uint256 allRetired;
        bool roomy = gasleft() > ROOMY;
        if (roomy) (allBalances, allRetired) = _lens.totals(msg.sender, id, _accounts);
        emit Observed(
            id,
            IToken(msg.sender).balanceOf(address(this), id),
            IToken(msg.sender).retiredOf(address(this), id),
            ICertificate(_certificate).issuedFrom(_watched),
            INotaryViews(_notary).notarization(_watched).energyWh,
            roomy,
            allBalances,
            allRetired
        );
    }
}
