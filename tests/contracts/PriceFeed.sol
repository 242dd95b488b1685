// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// An aggregator of the kind Chainlink deploys. Source: payments.md 5.6.
contract PriceFeed {
    uint8 public immutable decimals;
    string public description;
    int256 private answer;
    uint80 private roundId;
    uint256 private updatedAt;

    constructor(string memory description_, uint8 decimals_, int256 answer_) {
        description = description_;
        decimals = decimals_;
        setAnswer(answer_);
    }

    /// Test control.
    function setAnswer(int256 answer_) public {
        answer = answer_;
        roundId += 1;
        updatedAt = block.timestamp;
    }

    function latestRoundData()
        external
        view
        returns (uint80, int256, uint256, uint256, uint80)
    {
        return (roundId, answer, updatedAt, updatedAt, roundId);
    }
}
