// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Controller} from "./Controller.sol";
import {Managed} from "./Managed.sol";

/// Rounds by block number; each has to be initialised by somebody. Source: payments.md 5.3.
contract RoundsManager is Managed {
    uint256 public constant roundLockAmount = 100000;
    uint256 public immutable roundLength;
    uint256 public lastInitializedRound;
    mapping(uint256 => bytes32) public blockHashForRound;

    event NewRound(uint256 indexed round, bytes32 blockHash);

    constructor(Controller controller_, uint256 roundLength_) Managed(controller_) {
        roundLength = roundLength_;
    }

    function initializeRound() external whenSystemNotPaused {
        uint256 round = currentRound();
        require(lastInitializedRound < round, "round already initialized");
        lastInitializedRound = round;
        bytes32 roundBlockHash = blockhash(block.number - 1);
        blockHashForRound[round] = roundBlockHash;
        emit NewRound(round, roundBlockHash);
    }

    /// Test control: some rounds of the real chain have a hash of zero.
    function setBlockHashForRound(uint256 round, bytes32 value) external onlyControllerOwner {
        blockHashForRound[round] = value;
    }

    function currentRound() public view returns (uint256) {
        return block.number / roundLength;
    }

    function currentRoundStartBlock() public view returns (uint256) {
        return currentRound() * roundLength;
    }

    function currentRoundInitialized() external view returns (bool) {
        return lastInitializedRound == currentRound();
    }

    function currentRoundLocked() external view returns (bool) {
        uint256 lockedBlocks = roundLength * roundLockAmount / 1000000;
        return block.number - currentRoundStartBlock() >= roundLength - lockedBlocks;
    }

    function blockNum() external view returns (uint256) {
        return block.number;
    }

    function blockHash(uint256 number) external view returns (bytes32) {
        return blockhash(number);
    }
}
