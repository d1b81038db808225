// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// Who may call what is kept by OpenZeppelin's AccessManager as it is; docs/roles.md has the table.
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
