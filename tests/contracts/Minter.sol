// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Controller} from "./Controller.sol";
import {Managed} from "./Managed.sol";

/// Holds the ether of deposits, reserves and fees.
contract Minter is Managed {
    uint256 public constant currentMintableTokens = 1000 ether;

    constructor(Controller controller_) Managed(controller_) {}

    function depositETH() external payable {}

    function trustedWithdrawETH(address payable to, uint256 amount) external {
        require(
            msg.sender == addressOf("TicketBroker") || msg.sender == addressOf("BondingManager"),
            "msg.sender not TicketBroker or BondingManager"
        );
        (bool isSent,) = to.call{value: amount}("");
        require(isSent, "transfer of ether failed");
    }
}
