// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC1155Receiver} from "@openzeppelin/contracts/token/ERC1155/IERC1155Receiver.sol";

/// @dev A contract account that does what it is told, and once more of anything inside the first token it receives.
contract Reenterer is IERC1155Receiver {
    address private _target;
    bytes private _data;
    bool public attempted;
    bool public succeeded;
    bytes public answer;
    bytes private _look;
    address private _lookAt;
    bytes public seen;

    /// @dev Inside the first receipt `target` is called with `data`.
    function arm(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    /// @dev Inside the first receipt the view `data` of `target` is read into `seen`.
    function look(address target, bytes calldata data) external {
        (_lookAt, _look) = (target, data);
    }

    function run(address target, bytes calldata data) external {
        (bool ok, bytes memory returned) = target.call(data);
        if (!ok) {
            assembly {
                revert(add(returned, 32), mload(returned))
            }
        }
    }

    function onERC1155Received(address, address, uint256, uint256, bytes calldata) external returns (bytes4) {
        _act();
        return this.onERC1155Received.selector;
    }

    function onERC1155BatchReceived(address, address, uint256[] calldata, uint256[] calldata, bytes calldata)
        external
        returns (bytes4)
    {
        _act();
        return this.onERC1155BatchReceived.selector;
    }

    function supportsInterface(bytes4) external pure returns (bool) {
        return true;
    }

    function _act() private {
        if (_lookAt != address(0) && seen.length == 0) (, seen) = _lookAt.call(_look);
        if (_target == address(0) || attempted) return;
        attempted = true;
        (succeeded, answer) = _target.call(_data);
    }
}

/// @dev Refuses in the way it was made for.
contract Refuser {
    enum Way {
        REVERT,
        WRONG_ANSWER,
        BURN_GAS,
        LONG_REASON,
        NO_CODE_FOR_IT
    }

    Way private _way;

    constructor(Way way) {
        _way = way;
    }

    function onERC1155Received(address, address, uint256, uint256, bytes calldata) external view returns (bytes4) {
        if (_way == Way.REVERT) revert("not wanted");
        if (_way == Way.WRONG_ANSWER) return 0xdeadbeef;
        if (_way == Way.LONG_REASON) {
            assembly {
                revert(0, 60000)
            }
        }
        require(_way == Way.BURN_GAS);
        while (gasleft() > 0) {}
        return 0;
    }
}
