// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Controller} from "./Controller.sol";

interface Rounds {
    function currentRound() external view returns (uint256);
    function currentRoundInitialized() external view returns (bool);
    function currentRoundLocked() external view returns (bool);
    function blockHashForRound(uint256 round) external view returns (bytes32);
}

interface Bonding {
    function isActiveTranscoder(address transcoder) external view returns (bool);
    function getTranscoderPoolSize() external view returns (uint256);
    function updateTranscoderWithFees(address transcoder, uint256 amount, uint256 round) external;
}

interface Vault {
    function currentMintableTokens() external view returns (uint256);
    function depositETH() external payable;
    function trustedWithdrawETH(address payable to, uint256 amount) external;
}

/// A contract that finds its neighbours through the Controller.
abstract contract Managed {
    Controller public immutable controller;

    modifier whenSystemNotPaused() {
        require(!controller.paused(), "system is paused");
        _;
    }

    modifier onlyInInitializedRound() {
        require(roundsManager().currentRoundInitialized(), "current round is not initialized");
        _;
    }

    modifier onlyControllerOwner() {
        require(msg.sender == controller.owner(), "caller must be Controller owner");
        _;
    }

    constructor(Controller controller_) {
        controller = controller_;
    }

    function addressOf(string memory name) internal view returns (address) {
        return controller.getContract(keccak256(bytes(name)));
    }

    function roundsManager() internal view returns (Rounds) {
        return Rounds(addressOf("RoundsManager"));
    }

    function bondingManager() internal view returns (Bonding) {
        return Bonding(addressOf("BondingManager"));
    }

    function minter() internal view returns (Vault) {
        return Vault(addressOf("Minter"));
    }
}
